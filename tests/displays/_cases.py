"""One or more drawings of every display, small and fixed; one more display is one more row."""

from functools import cache

import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

from influencekit import GradDot, InfluenceFunction
from influencekit.applications._removal import RemovalCurve
from influencekit.displays import (
    AgreementDisplay,
    ErrorProxyDisplay,
    GroupScoresDisplay,
    InfluencePlotDisplay,
    LabelIssuesDisplay,
    LambdaPathDisplay,
    RemovalCurveDisplay,
    SensitivityDisplay,
    TopExamplesDisplay,
)
from influencekit.groups import GroupAttributor
from influencekit.training.trajectory._error_proxy import ErrorProxy

__all__ = ["CASES"]

DAMPINGS = np.geomspace(1e-6, 1e2, 17)
XI = 1 / (1 + DAMPINGS**-0.7 / 30)


def _rng():
    return np.random.default_rng(0)


def lambda_path(**options):
    return LambdaPathDisplay.from_predictions(
        DAMPINGS,
        XI,
        std_xi=np.full(17, 0.06),
        lds=0.6 * np.exp(-((np.log10(DAMPINGS) + 2) ** 2) / 6),
        lds_se=np.full(17, 0.03),
        best_damping=2e-3,
        picks={"default": 1e-5, "best LDS": 1e-2},
        **options,
    )


def agreement(n_methods=7, **options):
    names = [
        "exact",
        "first order",
        "IF (ggn)",
        "IF (ekfac)",
        "TracIn",
        "TRAK",
        "GradDot",
        "LossBaseline",
    ]
    x = np.array([1, 2, 5, 10, 20])
    curves = {name: 0.95 * np.exp(-x * (i + 1) / 60) for i, name in enumerate(names[:n_methods])}
    display = AgreementDisplay(
        x,
        curves,
        {name: np.full(5, 0.02) for name in curves},
        ceiling=np.linspace(0.99, 0.93, 5),
        xlabel="further training (epochs)",
    )
    return display.plot(**options)


def error_proxy(**options):
    rng = _rng()
    scores = rng.normal(size=(4, 60))
    second = scores * rng.uniform(0.02, 1.5, size=60)
    measured = scores + 0.8 * second
    return ErrorProxyDisplay.from_predictions(
        ErrorProxy(np.arange(60), scores, second), measured, **options
    )


def groups(**options):
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(X, y)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    grouped = GroupAttributor(GradDot()).fit(model, X, y, groups=names)
    scores = grouped.score(X[50:100], y[50:100]).mean(0)
    return GroupScoresDisplay.from_estimator(
        grouped,
        X[50:100],
        y[50:100],
        measured=0.8 * scores,
        measured_se=np.full(3, 0.1 * np.abs(scores).max()),
        **options,
    )


def many_groups(**options):
    scores = np.sort(_rng().normal(size=14))
    names = [f"sex={i % 2}, age={10 * i}-{10 * i + 9}" for i in range(14)]
    return GroupScoresDisplay.from_predictions(scores, names, **options)


def _label_scores():
    rng = _rng()
    issues = rng.random(400) < 0.1
    return rng.gamma(2.0, 0.4 + issues), issues


def influence_plot(**options):
    X, y = load_diabetes(return_X_y=True)
    return InfluencePlotDisplay.from_estimator(LinearRegression().fit(X, y), X, y, **options)


def label_scores(**options):
    scores, issues = _label_scores()
    return LabelIssuesDisplay.from_predictions(scores, threshold=2.5, issues=issues, **options)


def label_ranking(**options):
    scores, issues = _label_scores()
    return LabelIssuesDisplay.from_predictions(scores, issues=issues, kind="ranking", **options)


def removal(**options):
    rng = _rng()
    fractions = np.array([0.05, 0.1, 0.2, 0.3])
    slopes = {"IF": 1.2, "TRAK": 0.9, "GradDot": 0.7, "further training": 1.5}

    def drop(slope):
        return 0.9 - slope * fractions[:, None] / 3 + 0.01 * rng.normal(size=(4, 3))

    curves = {name: drop(slope) for name, slope in slopes.items()}
    return RemovalCurveDisplay.from_result(
        RemovalCurve(fractions, curves, drop(0.1), np.array([0.9, 0.91, 0.89])), **options
    )


def _study(attributors, dims):
    rows = []
    for i, name in enumerate(attributors):
        for damping in np.geomspace(1e-4, 10, 6):
            for j, dim in enumerate(dims):
                near = np.exp(-((np.log10(damping) + 2 - i + 0.4 * j) ** 2) / 4)
                rows.append([name, damping, dim, (0.3 + 0.05 * j) * near, 0.02])
    columns = ["attributor", "damping", "projection_dim", "lds", "lds_se"]
    return pd.DataFrame(rows, columns=columns).assign(damping_=lambda t: t["damping"])


def sensitivity(**options):
    table = _study(["InfluenceFunction", "TRAK", "GradCos"], [64, 512])
    defaults = {"InfluenceFunction": {"damping": 1e-3}, "TRAK": {"damping": 10.0}}
    display = SensitivityDisplay(table, "damping", defaults=defaults, noise_ceiling=0.42)
    return display.plot(**options)


def sensitivity_hue(**options):
    table = _study(["TRAK"], [32, 64, 128, 256, 512])
    return SensitivityDisplay(table, "damping", hue="projection_dim").plot(**options)


def heat_map(**options):
    table = _study(["TRAK"], [32, 64, 128, 256, 512])
    return SensitivityDisplay(table, "damping", y="projection_dim").plot(**options)


@cache
def _digits():
    X, y = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=300).fit(X[:300] / 16, y[:300])
    attributor = InfluenceFunction("kfac").fit(model, X[:300] / 16, y[:300])
    return attributor, X[:300] / 16, X[300:310] / 16, y[:300], y[300:310]


def top_images(**options):
    attributor, X_train, X_test, y_train, y_test = _digits()
    return TopExamplesDisplay.from_estimator(
        attributor,
        X_train,
        X_test,
        y_train=y_train,
        y_query=y_test,
        k=4,
        rows=[0, 5],
        image_shape=(8, 8),
        **options,
    )


#: Every display is here at least once; tests go over all rows.
CASES = {
    "AgreementDisplay": agreement,
    "AgreementDisplay, few": lambda **options: agreement(3, **options),
    "ErrorProxyDisplay": error_proxy,
    "GroupScoresDisplay": groups,
    "GroupScoresDisplay, many": many_groups,
    "InfluencePlotDisplay": influence_plot,
    "LabelIssuesDisplay": label_scores,
    "LabelIssuesDisplay, ranking": label_ranking,
    "LambdaPathDisplay": lambda_path,
    "RemovalCurveDisplay": removal,
    "SensitivityDisplay": sensitivity,
    "SensitivityDisplay, hue": sensitivity_hue,
    "SensitivityDisplay, heat map": heat_map,
    "TopExamplesDisplay": top_images,
}
