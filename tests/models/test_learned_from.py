"""Steps whose ``fit_transform`` is not ``fit().transform``: scores are of what was learned from.

The reference is the last step alone, on what the Pipeline handed to it.
"""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler, TargetEncoder
from sklearn.utils.fixes import parse_version

from influencekit import (
    GradDot,
    InfluenceFunction,
    LDSSearch,
    SurrogateLambdaSearchCV,
    retrain_on_subsets,
)
from influencekit.applications import group_counterfactual, removal_curve
from influencekit.exceptions import InfluenceKitWarning
from influencekit.groups import GroupAttributor, leave_group_out

NEW = parse_version(sklearn.__version__) >= parse_version("1.9")
RNG = np.random.default_rng(0)
N = 300
CODES = RNG.integers(0, 60, N)
T = (RNG.normal(0, 1.5, 60)[CODES] + RNG.logistic(size=N) > 0).astype(int)
X = pd.DataFrame({"zip": CODES.astype(str), "size": RNG.normal(size=N)})
NEWTON = {"solver": "newton-cholesky", "tol": 1e-10}


class Noisy(TransformerMixin, BaseEstimator):
    """Adds noise to the rows that it is fitted on, as augmentation does."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def fit_transform(self, X, y=None):
        noise = np.random.RandomState(self.random_state).normal(size=X.shape)
        return self.fit(X, y).transform(X) + 0.3 * noise

    def transform(self, X):
        return np.asarray(X, dtype=float)


class Kept(LogisticRegression):
    """Remembers what it was fitted on last."""

    seen = None

    def fit(self, X, y, sample_weight=None):
        Kept.seen = X
        return super().fit(X, y, sample_weight)


def encoder(seed):
    if NEW:
        return TargetEncoder(cv=StratifiedKFold(5, shuffle=True, random_state=seed))
    return TargetEncoder(random_state=seed)


def encoded(seed):
    return make_column_transformer((encoder(seed), ["zip"]), remainder="passthrough")


STEPS = {
    "target encoder": lambda seed: [encoded(seed)],
    "behind a scaler": lambda seed: [encoded(seed), StandardScaler()],
    "union": lambda seed: [make_union(encoder(seed), FunctionTransformer(lambda f: f[["size"]]))],
    "nested": lambda seed: [make_pipeline(encoded(seed), StandardScaler()), StandardScaler()],
    "own": lambda seed: [FunctionTransformer(lambda f: f[["size", "size"]]), Noisy(seed)],
}


def fitted(name, seed):
    model = make_pipeline(*STEPS[name](seed), Kept(**NEWTON)).fit(X, T)
    return model, np.asarray(Kept.seen)


def own(model, Q):
    return model.predict_log_proba(Q)[np.arange(len(Q)), T[: len(Q)]]


@pytest.mark.parametrize("name", STEPS)
def test_what_was_seen_is_computed_again(name):
    model, seen = fitted(name, 0)
    last, queries = model[-1], model[:-1].transform(X[:9])
    assert np.abs(np.asarray(model[:-1].transform(X)) - seen).max() > 1e-3
    expected = InfluenceFunction().fit(last, seen, T).score(queries, T[:9])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = InfluenceFunction().fit(model, X, T)
    np.testing.assert_allclose(found.score(X[:9], T[:9]), expected, rtol=1e-7, atol=1e-12)
    assert found.gradient_ratio_ < 1e-3


@pytest.mark.parametrize("name", STEPS)
def test_retraining_on_all_rows_gives_the_model_back(name):
    model, _ = fitted(name, 0)
    truth = retrain_on_subsets(
        model, X, T, X[:30], T[:30], masks=np.ones((1, N), bool), random_state=0
    )
    np.testing.assert_allclose(truth.outputs[0, 0], own(model, X[:30]), atol=1e-7)


@pytest.mark.parametrize("form", [np.asarray, lambda f: sparse.csr_matrix(1e-9 * f)])
def test_columns_are_compared_in_their_own_units(form):
    income = RNG.normal(5e8, 1e8, N)
    table = X.assign(income=income, tiny=1e-9 * income / 1e8)
    steps = make_column_transformer((encoder(0), ["zip"]), remainder="passthrough")
    last = FunctionTransformer(lambda f: form(np.asarray(f, dtype=float)))
    model = make_pipeline(make_pipeline(steps, last), StandardScaler(with_mean=False), Kept())
    model.fit(table, T)
    found = InfluenceFunction().fit(model, table, T)
    assert found.gradient_ratio_ < 1e-3
    truth = retrain_on_subsets(
        model, table, T, table[:9], T[:9], masks=np.ones((1, N), bool), random_state=0
    )
    np.testing.assert_allclose(truth.outputs[0, 0], own(model, table[:9]), atol=1e-6)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
def test_random_steps_are_told(name):
    model, _seen = fitted(name, None)
    with pytest.warns(InfluenceKitWarning, match="gives different values in fit_transform"):
        GradDot().fit(model, X, T)
    with pytest.warns(InfluenceKitWarning, match=r"integer random_state.*X_fit"):
        retrain_on_subsets(model, X, T, X[:5], T[:5], n_subsets=2, random_state=0)


def test_given_by_hand():
    model, seen = fitted("target encoder", None)
    queries = model[:-1].transform(X[:9])
    expected = InfluenceFunction().fit(model[-1], seen, T).score(queries, T[:9])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for attributor in (InfluenceFunction(), GroupAttributor(InfluenceFunction())):
            found = attributor.fit(model, X, T, X_fit=seen).score(X[:9], T[:9])
            np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)
        truth = retrain_on_subsets(
            model, X, T, X[:9], T[:9], masks=np.ones((1, N), bool), X_fit=seen, random_state=0
        )
        np.testing.assert_allclose(truth.outputs[0, 0], own(model, X[:9]), atol=1e-7)
        search = SurrogateLambdaSearchCV(InfluenceFunction("fisher"), threshold=0.8, random_state=0)
        assert search.fit(model, X, T, X_fit=seen).score(X[:9], T[:9]).shape == (9, N)
        lds = LDSSearch(InfluenceFunction(), n_subsets=4, n_trials=2, random_state=0)
        lds.fit(model, X, T, X_query=X[:9], y_query=T[:9], X_fit=seen)


def test_wrong_X_fit_is_refused():
    model, seen = fitted("target encoder", 0)
    with pytest.raises(ValueError, match=r"X has 300, X_fit has 299|Different numbers"):
        GradDot().fit(model, X, T, X_fit=seen[1:])
    with pytest.raises(ValueError, match="X_fit: LogisticRegression is not a Pipeline"):
        GradDot().fit(LogisticRegression().fit(seen, T), seen, T, X_fit=seen)


@pytest.mark.parametrize(
    "step", [PCA(2), PCA(2, svd_solver="randomized"), TruncatedSVD(2), PCA(2, whiten=True)]
)
def test_steps_with_a_fit_transform_of_their_own_that_agrees(step):
    A = RNG.normal(size=(N, 5))
    model = make_pipeline(StandardScaler(), clone(step), LogisticRegression(**NEWTON)).fit(A, T)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = GradDot().fit(model, A, T).score(A[:5], T[:5])
    inner = model[:-1].transform(A)
    expected = GradDot().fit(model[-1], inner, T).score(inner[:5], T[:5])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_inside_a_search():
    search = GridSearchCV(
        make_pipeline(encoded(0), LogisticRegression(**NEWTON)), {"logisticregression__C": [1.0]}
    ).fit(X, T)
    best = search.best_estimator_
    seen = clone(best[0]).fit_transform(X, T)
    expected = GradDot().fit(best[-1], seen, T).score(best[:-1].transform(X[:5]), T[:5])
    np.testing.assert_allclose(GradDot().fit(search, X, T).score(X[:5], T[:5]), expected)


def test_given_by_hand_where_rows_are_left_out():
    """References: the last step alone, fitted on its own data."""
    model, seen = fitted("target encoder", None)
    queries, halves = model[:-1].transform(X[:9]), np.arange(N) % 2
    left_out = clone(model[-1]).fit(seen[halves == 0], T[halves == 0])
    data, options = (model, X, T, X[:9], T[:9]), {"X_fit": seen, "n_repeats": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        truth = leave_group_out(*data, halves, output="margin", left_out=["1"], **options)
        gap = {"gap": lambda p, *_: float(p.mean()), "left_out": [1]}
        changed = group_counterfactual(*data, halves, **gap, **options)
        curve = removal_curve(*data, -halves.astype(float), which="harmful", **options)
    margins = left_out.decision_function(queries) * (2 * T[:9] - 1)
    np.testing.assert_allclose(truth.without[0, 0], margins, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        changed.without[0, 0], left_out.predict_proba(queries)[:, 1].mean(), rtol=1e-6
    )
    right = model.predict(X[:9]) == T[:9]
    np.testing.assert_allclose(curve.nothing.mean(), right.mean())
