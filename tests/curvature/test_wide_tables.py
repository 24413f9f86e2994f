"""Wide and sparse tables: what would take p² numbers asks max_memory first."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from influencekit import InfluenceFunction
from influencekit.applications import DatasetPruner
from influencekit.exceptions import ResourceError

RNG = np.random.default_rng(0)
X = sparse.random(120, 6000, 0.002, format="csr", random_state=0)
Y = RNG.integers(0, 2, 120)


@pytest.mark.parametrize("curvature", ["kfac", "ekfac", "hessian"])
def test_a_matrix_that_does_not_fit_is_refused_in_words(curvature):
    model = LogisticRegression().fit(X, Y)
    with pytest.raises(ResourceError, match=r"max_memory.*200\.0 MB|200\.0 MB.*max_memory") as said:
        InfluenceFunction(curvature, max_memory="200MB").fit(model, X, Y)
    assert "curvature='ggn'" in str(said.value)


@pytest.mark.parametrize("curvature", ["ggn", "fisher", "cg"])
def test_others_need_none(curvature):
    model = LogisticRegression(tol=1e-8).fit(X, Y)
    found = InfluenceFunction(curvature, max_memory="200MB").fit(model, X, Y).score(X[:3], Y[:3])
    assert found.shape == (3, 120)


def test_scores_are_those_of_a_gram_solve():
    """By the push-through identity, in 120 x 120 matrices of scipy and numpy alone."""
    model = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-10, max_iter=1000).fit(X, Y)
    p = model.predict_proba(X)[:, 1]
    K, roots, alpha = (X @ X.T).toarray(), np.sqrt(p * (1 - p)), 1 / 0.5
    inner = K - K @ (roots[:, None] * np.linalg.solve(
        alpha * np.eye(120) + roots[:, None] * K * roots, roots[:, None] * K))  # fmt: skip
    expected = (Y - p)[:, None] * inner / alpha * (Y - p)
    found = InfluenceFunction().fit(model, X, Y)
    assert found.damping_ == 0
    np.testing.assert_allclose(found.score(X, Y), expected, atol=1e-6 * np.abs(expected).max())


def test_the_default_of_a_pruner_names_the_way_out():
    pruner = DatasetPruner(LogisticRegression(), InfluenceFunction("ekfac", max_memory="200MB"))
    with pytest.raises(ResourceError, match="space of the training rows"):
        pruner.fit_resample(X, Y)
