"""Convex linear models: the default does not depend on units, and centering keeps directions.

References are plain numpy: the hat matrix, Newton's Hessian, refits.
"""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influencekit import InfluenceFunction, as_task
from influencekit.curvature.exact import _centered_space
from influencekit.exceptions import InfluenceKitWarning, LambdaPathWarning

RNG = np.random.default_rng(0)


def newton(C=np.inf):
    return LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=1000)


def softmax(C=np.inf):
    return LogisticRegression(C=C, solver="newton-cg", tol=1e-12, max_iter=5000)


def diabetes():
    X, y = load_diabetes(return_X_y=True, scaled=False)
    return X[:, [0, 2, 3, 4, 6, 8]], y


def labels(X, n_classes=2):
    scores = X @ RNG.normal(size=(X.shape[1], n_classes)) + RNG.gumbel(size=(len(X), n_classes))
    return scores.argmax(1)


NORMAL = RNG.normal(size=(150, 4)) + [0, 3, -2, 10]
CASES = {
    "least squares": (LinearRegression, *diabetes()),
    "logistic": (newton, NORMAL, labels(NORMAL - NORMAL.mean(0))),
    "softmax": (softmax, NORMAL, labels(NORMAL - NORMAL.mean(0), 3)),
}


@pytest.mark.parametrize("curvature", ["ggn", "fisher"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(2))
def test_default_scores_do_not_depend_on_the_columns_units(case, curvature, seed):
    make, X, y = CASES[case]
    units = 10 ** np.random.default_rng(seed).uniform(-3, 3, X.shape[1])
    model = make().fit(X, y)
    scaled = make().fit(X, y)  # the same optimum in other units, exactly
    scaled.coef_ = model.coef_ / units
    first = InfluenceFunction(curvature).fit(model, X, y).score(X[:20], y[:20])
    second = InfluenceFunction(curvature).fit(scaled, X * units, y).score(X[:20] * units, y[:20])
    assert np.abs(first - second).max() <= 1e-6 * np.abs(first).max()


@pytest.mark.parametrize(
    ("make", "X", "y"),
    [(LinearRegression, *diabetes()), (newton, NORMAL, labels(NORMAL - NORMAL.mean(0)))],
    ids=["least squares", "logistic"],
)
def test_models_fitted_in_other_units_agree(make, X, y):
    units = 10 ** RNG.uniform(-3, 3, X.shape[1])
    first = InfluenceFunction().fit(make().fit(X, y), X, y)
    second = InfluenceFunction().fit(make().fit(X * units, y), X * units, y)
    assert first.damping_ == second.damping_ == 0
    a, b = first.score(X[:20], y[:20]), second.score(X[:20] * units, y[:20])
    assert np.abs(a - b).max() <= 1e-6 * np.abs(a).max()


def test_a_penalty_that_is_scaled_along_with_the_columns():
    """Ridge in other units, with its penalty taken along: sqrt(α) / unit rows in its data."""
    X, y = diabetes()
    X = X - X.mean(0)
    units = 10 ** RNG.uniform(-3, 3, X.shape[1])
    rows = np.r_[X, 5 * np.diag(X.std(0))]  # the penalty as rows that are known
    target = np.r_[y - y.mean(), np.zeros(X.shape[1])]
    model = LinearRegression(fit_intercept=False)
    first = InfluenceFunction().fit(model.fit(rows, target), rows, target).score(X, y)
    second = InfluenceFunction().fit(model.fit(rows * units, target), rows * units, target)
    assert np.abs(first - second.score(X * units, y)).max() <= 1e-6 * np.abs(first).max()


def hat_scores(X, residuals, Q, alpha=0.0):
    """First-order effect on predictions of taking a row out: ``q (XᵀX + R)⁻¹ x r``, centered."""
    center = X.mean(0)
    Z, q = np.c_[X - center, np.ones(len(X))], np.c_[Q - center, np.ones(len(Q))]
    penalty = np.diag(np.r_[np.full(X.shape[1], alpha), 0.0])
    return q @ np.linalg.solve(Z.T @ Z + penalty, (Z * residuals[:, None]).T)


def residuals_of(X, y, alpha=0.0):
    Z = X - X.mean(0)
    penalty = alpha * np.eye(X.shape[1])
    return y - y.mean() - Z @ np.linalg.solve(Z.T @ Z + penalty, Z.T @ (y - y.mean()))


@pytest.mark.parametrize(("ratio", "tolerance"), [(1e2, 1e-9), (1e5, 1e-9), (1e7, 1e-7)])
@pytest.mark.parametrize("model", [LinearRegression(), Ridge(2.0)], ids=["least squares", "ridge"])
@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_columns_far_from_zero(ratio, tolerance, model, spread):
    rng = np.random.default_rng(1)
    n, alpha = 200, getattr(model, "alpha", 0.0)
    X = np.c_[spread * np.round(rng.normal(size=n), 4), rng.normal(size=(n, 2))]
    y = X @ [1 / spread, 1, 0] + rng.normal(size=n)
    X[:, 0] += ratio * spread
    model.fit(X, y)
    found = InfluenceFunction(damping=0, output="prediction").fit(model, X, y).score(X[:9], y[:9])
    expected = hat_scores(X, residuals_of(X, y, alpha), X[:9], alpha)
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("ratio", [1e5, 1e7])
def test_many_parameters_are_centered_where_that_matters(ratio, monkeypatch):
    """With the limits lowered: four parameters are more than features are centered for."""
    monkeypatch.setattr(_centered_space, "LARGEST_CENTERED", 3)
    rng = np.random.default_rng(1)
    X = np.c_[np.round(rng.normal(size=200), 4), rng.normal(size=(200, 2)), np.full(200, 7.0)]
    y = X[:, 0] + X[:, 1] + rng.normal(size=200)
    influence = InfluenceFunction(damping=0, output="prediction")
    influence.fit(LinearRegression().fit(X, y), X, y)
    assert not isinstance(influence.curvature_, _centered_space.CenteredSpectrum)
    X[:, 0] += ratio
    model = LinearRegression().fit(X, y)
    found = influence.fit(model, X, y).score(X[:9], y[:9])
    expected = hat_scores(X[:, :3], residuals_of(X[:, :3], y), X[:9, :3])
    assert np.abs(found - expected).max() <= 1e-7 * np.abs(expected).max()
    monkeypatch.setattr(_centered_space, "LARGEST_FAR", 4)
    with pytest.warns(InfluenceKitWarning, match=r"Column 0 of .* times its spread\."):
        influence.fit(model, X, y)


def test_two_columns_far_from_zero_and_from_each_other():
    rng = np.random.default_rng(2)
    X = np.c_[738000 + rng.integers(0, 365, 300), 40.7 + 0.05 * rng.normal(size=300)]
    y = X[:, 0] / 105 + 20 * X[:, 1] + rng.normal(size=300)
    model = LinearRegression().fit(X, y)
    found = InfluenceFunction(output="prediction").fit(model, X, y).score(X[:9], y[:9])
    expected = hat_scores(X, residuals_of(X, y), X[:9])
    assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()


def newton_scores(model, X, y, Q, u, alpha):
    """``-∇f (H + R)⁻¹ ∇loss`` of a binary LogisticRegression, features centered."""
    center = X.mean(0)
    Z, q = np.c_[X - center, np.ones(len(X))], np.c_[Q - center, np.ones(len(Q))]
    theta = np.r_[model.coef_[0], model.intercept_[0] + model.coef_[0] @ center]
    p, pq = 1 / (1 + np.exp(-Z @ theta)), 1 / (1 + np.exp(-q @ theta))
    H = (Z.T * (p * (1 - p))) @ Z + np.diag(np.r_[np.full(X.shape[1], alpha), 0.0])
    return -(q * (u - pq)[:, None]) @ np.linalg.solve(H, (Z * (p - y)[:, None]).T)


def year():
    X = np.c_[2000 + RNG.integers(0, 20, 200), RNG.normal(size=(200, 2))]
    return X, (X[:, 0] - 2010 + 4 * X[:, 1] + RNG.logistic(size=200) > 0).astype(int)


@pytest.mark.parametrize("C", [1.0, 100.0, np.inf])
@pytest.mark.parametrize("data", [lambda: load_breast_cancer(return_X_y=True), year])
def test_logistic_default_is_newtons_first_order(C, data):
    X, y = data()
    if np.isinf(C) and X.shape[1] > 10:
        pytest.skip("breast cancer is separable without a penalty")
    model = newton(C).fit(X, y)
    found = InfluenceFunction().fit(model, X, y).score(X[:9], y[:9])
    expected = newton_scores(model, X, y, X[:9], y[:9], 1 / C)
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


def test_raw_table_beside_refits():
    X, y = load_breast_cancer(return_X_y=True)
    X, y, Q, u = X[:300], y[:300], X[300:320], y[300:320]
    model = newton(1.0).fit(X, y)
    scores = InfluenceFunction().fit(model, X, y).score(Q, u)
    rows = range(0, 300, 20)
    own = model.predict_log_proba(Q)[np.arange(20), u]
    effects = [
        own
        - newton(1.0)
        .fit(np.delete(X, j, 0), np.delete(y, j))
        .predict_log_proba(Q)[np.arange(20), u]
        for j in rows
    ]
    agreement = [
        np.corrcoef(a, b)[0, 1]
        for a, b in zip(scores[:, list(rows)], np.transpose(effects), strict=True)
    ]
    assert np.mean(agreement) > 0.95


@pytest.mark.parametrize("damping", [1e-6, 1e-2, 10.0])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_damping_is_added_to_the_models_own_parameters(damping, alpha):
    X, y = NORMAL, NORMAL @ [1.0, 2, 0, 1] + RNG.normal(size=150)
    model = Ridge(alpha).fit(X, y)
    found = InfluenceFunction(damping=damping, output="prediction").fit(model, X, y).score(X[:9])
    Z = np.c_[X, np.ones(len(X))]
    A = (2 * Z.T @ Z + np.diag([2 * alpha] * 4 + [0])) / len(X) + damping * np.eye(5)
    residuals = model.predict(X) - y
    expected = -Z[:9] @ np.linalg.solve(A, (2 * Z * residuals[:, None]).T) / len(X)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


def test_eigenvalues_and_xi_are_those_of_the_models_own_parameters():
    X, y = NORMAL, NORMAL @ [1.0, 2, 0, 1] + RNG.normal(size=150)
    fitted = InfluenceFunction(output="prediction").fit(Ridge(3.0).fit(X, y), X, y)
    Z = np.c_[X, np.ones(len(X))]
    F, R = 2 * Z.T @ Z / len(X), np.diag([2 * 3.0 / len(X)] * 4 + [0])
    np.testing.assert_allclose(fitted.eigenvalues_, np.linalg.eigvalsh(F + R), rtol=1e-9)
    K = np.linalg.inv(F + R + 0.1 * np.eye(5))
    t = [np.einsum("ij,jk,ik->i", Z[:9], M, Z[:9]) for M in (K @ F @ K,)]
    assert t[0].min() > 0
    path = fitted.damping_path(X[:9])
    s, V = np.linalg.eigh(F + R)
    c, d = Z[:9] @ V, np.einsum("ik,ij,jk->k", V, F, V)
    t1, t2, t3 = ((c**2 * d / (s + 0.1) ** k).sum(1) for k in (1, 2, 3))
    np.testing.assert_allclose(path.xi([0.1])[0], t2 / np.sqrt(t1 * t3), rtol=1e-8)


def test_columns_that_repeat_others_or_do_not_vary():
    X, y = diabetes()
    wide = np.c_[X, X[:, 0] + 2 * X[:, 1], np.full(len(X), 0.1), X[:, 2]]
    first = InfluenceFunction(output="prediction").fit(LinearRegression().fit(X, y), X, y)
    second = InfluenceFunction(output="prediction").fit(LinearRegression().fit(wide, y), wide, y)
    a, b = first.score(X[:9]), second.score(wide[:9])
    assert np.abs(a - b).max() <= 1e-8 * np.abs(a).max()


def test_one_hot_columns_beside_an_intercept():
    codes = RNG.integers(0, 5, 120)
    X = np.c_[np.eye(5)[codes], RNG.normal(size=120)]
    y = codes + X[:, 5] + RNG.normal(size=120)
    full = InfluenceFunction(output="prediction").fit(LinearRegression().fit(X, y), X, y)
    less = X[:, 1:]
    part = InfluenceFunction(output="prediction").fit(LinearRegression().fit(less, y), less, y)
    np.testing.assert_allclose(full.score(X[:9]), part.score(less[:9]), atol=1e-9)


@pytest.mark.parametrize("model", [Ridge(1.0), LogisticRegression()])
def test_float32_inputs_are_worked_on_in_float64(model):
    X = (RNG.normal(size=(150, 3)) + [30, 0, 0]).astype(np.float32)
    y = X[:, 1] + X[:, 0] - 30 + RNG.normal(size=150)
    y = (y > 0).astype(int) if hasattr(model, "C") else y
    narrow = model.fit(X, y)
    fitted = InfluenceFunction(damping=0).fit(narrow, X, y)
    wide = InfluenceFunction(damping=0).fit(narrow, X.astype(np.float64), y)
    np.testing.assert_array_equal(fitted.score(X, y), wide.score(X, y))
    assert fitted.task_.dtype.itemsize == 8


def test_a_pipeline_is_the_same():
    X, y = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), softmax(10.0)).fit(X, y)
    found = InfluenceFunction().fit(model, X, y)
    inner = InfluenceFunction(damping=0).fit(model[-1], model[0].transform(X), y)
    assert found.damping_ == 0
    np.testing.assert_allclose(found.score(X, y), inner.score(model[0].transform(X), y))


@pytest.mark.filterwarnings("ignore")
def test_a_solver_that_stopped_early_has_the_same_default():
    X, y = load_breast_cancer(return_X_y=True)
    model = LogisticRegression(max_iter=20).fit(X, y)
    assert model.n_iter_[0] == 20
    assert InfluenceFunction().fit(model, X, y).damping_ == 0


OTHERS = ["hessian", "cg", "arnoldi", "nystroem"]


@pytest.mark.parametrize("curvature", OTHERS)
def test_other_curvatures_agree_with_the_exact_one_on_a_raw_table(curvature):
    X, y = load_breast_cancer(return_X_y=True)
    X, y = X[:300], y[:300]
    model = newton(1.0).fit(X, y)
    found = InfluenceFunction(curvature).fit(model, X, y).score(X[:9], y[:9])
    expected = newton_scores(model, X, y, X[:9], y[:9], 1.0)
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("curvature", ["kfac", "ekfac", "logra", "fisher"])
def test_approximate_curvatures_rank_a_raw_table(curvature):
    """Least squares: all rows have one curvature, so that little is approximated."""
    X, y = load_diabetes(return_X_y=True, scaled=False)
    model = LinearRegression().fit(X, y)
    found = InfluenceFunction(curvature, output="prediction").fit(model, X, y)
    scores, expected = found.score(X[:20]), hat_scores(X, residuals_of(X, y), X[:20])
    assert found.damping_ == 0
    agreement = [np.corrcoef(a, b)[0, 1] for a, b in zip(scores, expected, strict=True)]
    assert np.mean(agreement) > 0.9


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
def test_a_damping_that_rounding_rules_is_told():
    torch.manual_seed(0)
    X = torch.randn(60, 5, dtype=torch.float64)
    X[:, 4] = X[:, 0] + X[:, 1]  # a direction without curvature
    y = (X[:, 0] > 0).long()
    net = torch.nn.Sequential(torch.nn.Linear(5, 2)).double()
    task = as_task(net, loss=torch.nn.CrossEntropyLoss())
    with pytest.warns(LambdaPathWarning, match="is below .*e-1[0-9], where rounding errors"):
        fitted = InfluenceFunction(damping=1e-30).fit(task, X, y)
    floor = fitted.fitted_[0].least_damping
    with warnings.catch_warnings():
        warnings.simplefilter("error", LambdaPathWarning)
        fitted.set_damping(0)
        fitted.set_damping(1.01 * floor)
    exact = fitted.set_damping(1e-6).score(X, y)
    assert np.abs(fitted.set_damping(1.01 * floor).score(X, y)).max() < 10 * np.abs(exact).max()


def test_a_tiny_damping_of_a_linear_model_gives_no_noise():
    codes = RNG.integers(0, 5, 120)
    X = np.c_[np.eye(5)[codes], RNG.normal(size=120)]
    y = codes + X[:, 5] + RNG.normal(size=120)
    fitted = InfluenceFunction(output="prediction").fit(LinearRegression().fit(X, y), X, y)
    expected = fitted.score(X)
    np.testing.assert_allclose(fitted.set_damping(1e-30).score(X), expected, atol=1e-9)


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
@pytest.mark.parametrize("curvature", ["ggn", "ekfac", "cg"])
def test_default_damping_does_not_depend_on_the_order_of_rows(curvature):
    """Of a net, whose default looks at 100 rows; those of a sorted table differ along it."""
    torch.manual_seed(0)
    X = torch.randn(400, 4, dtype=torch.float64)
    y = ((X[:, 0] + torch.randn(400)) > 0).long()
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    task = as_task(net.double(), loss=torch.nn.CrossEntropyLoss())
    found = []
    for order in (torch.arange(400), torch.argsort(X[:, 0]), torch.randperm(400)):
        found.append(InfluenceFunction(curvature).fit(task, X[order], y[order]).damping_)
    np.testing.assert_allclose(found, found[0], rtol=1e-3)
