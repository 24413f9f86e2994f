"""Sparse inputs of scikit-learn's linear models: the dense numbers, without dense rows."""

import pickle

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from influencekit import GradCos, GradDot, InfluenceFunction
from influencekit.curvature import LoGra
from influencekit.data._sources import ArraySource
from influencekit.exceptions import ResourceError

RNG = np.random.default_rng(0)
#: With more than 1,000 parameters features are not centered; three outputs have so many earlier.
SHAPES = {"tall": (90, 12), "wide": (30, 1010), "three outputs": (30, 340)}
MODELS = {
    "ols": LinearRegression(),
    "ridge of two targets": Ridge(alpha=0.2),
    "binary": LogisticRegression(C=10, tol=1e-8, max_iter=5000),
    "no intercept": LogisticRegression(C=10, tol=1e-8, max_iter=5000, fit_intercept=False),
    "softmax": LogisticRegression(C=10, tol=1e-8, max_iter=5000),
    "penalized intercept": LogisticRegression(C=10, tol=1e-8, solver="liblinear"),
    "one versus rest": SGDClassifier("log_loss", alpha=1e-2, random_state=0),
}


def problem(shape, name="binary"):
    """A fitted model, sparse X, y, sparse queries and their targets."""
    n, p = SHAPES[shape]
    X = sparse.random(n + 5, p, 0.15 if p < 100 else 0.05, format="csr", random_state=0)
    latent = X @ RNG.normal(size=(p, 3)) + 0.3 * RNG.normal(size=(n + 5, 3))
    if name in ("ols", "ridge of two targets"):
        y = latent[:, 0] if name == "ols" else latent[:, :2]
    else:
        y = latent.argmax(1) if name in ("softmax", "one versus rest") else latent[:, 0] > 0
    weights = RNG.uniform(0.5, 2.0, n)
    return (
        MODELS[name].fit(X[:n], y[:n], sample_weight=weights),
        X[:n],
        y[:n],
        X[n:],
        y[n:],
        weights,
    )


def everything(attributor, model, X, y, queries, weights):
    attributor.fit(model, X, y, sample_weight=weights)
    found = [attributor.score(*queries), attributor.self_influence()]
    found.append(attributor.top_k(*queries, k=3)[1])
    if isinstance(attributor, InfluenceFunction):
        path = attributor.damping_path(*queries)
        masks = np.eye(len(y))[:4]
        found += [path.xi(0.1), path.scores(0.1), path.subset_sums(masks).at([0.1, 1.0])]
    return found


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", ["tall", "wide"])
def test_numbers_are_those_of_dense_inputs(shape, name):
    model, X, y, X_query, y_query, weights = problem(shape, name)
    attributors = [GradDot(), GradCos(), InfluenceFunction(), InfluenceFunction("fisher", 1e-2)]
    if (shape, name) == ("wide", "ols"):  # it interpolates: what is left is rounding
        attributors = [InfluenceFunction(damping=1e-3, output="prediction")]
    for attributor in attributors:
        dense = everything(attributor, model, X.toarray(), y, (X_query.toarray(), y_query), weights)
        for rows in (X_query, X_query.toarray()):
            found = everything(attributor, model, X, y, (rows, y_query), weights)
            for one, other in zip(found, dense, strict=True):
                scale = np.abs(other).max()
                atol = 1e-7 if (shape, name) == ("wide", "ols") else 1e-9
                np.testing.assert_allclose(one, other, rtol=0, atol=atol * scale)


@pytest.mark.parametrize("damping", [0.0, 1e-2])
@pytest.mark.parametrize("shape", ["tall", "wide"])
def test_scores_are_those_of_the_matrix_of_all_parameters(shape, damping):
    """Hessian of the weighted objective with its free intercept, in numpy alone."""
    model, X, y, X_query, y_query, weights = problem(shape)
    A, Q = (np.column_stack([M.toarray(), np.ones(M.shape[0])]) for M in (X, X_query))
    prob, prob_query = model.predict_proba(X)[:, 1], model.predict_proba(X_query)[:, 1]
    share, penalty = weights / weights.sum(), np.full(A.shape[1], 1 / 10)
    penalty[-1] = 0.0
    curvature = (A.T * (share * prob * (1 - prob))) @ A + np.diag(penalty / weights.sum())
    gradients, explained = (prob - y)[:, None] * A, -(prob_query - y_query)[:, None] * Q
    solved = np.linalg.solve(curvature + damping * np.eye(len(curvature)), gradients.T)
    expected = -(explained @ solved) * share
    influence = InfluenceFunction(damping=damping).fit(model, X, y, sample_weight=weights)
    found = influence.score(X_query, y_query)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_softmax_scores_are_those_of_the_pseudo_inverse():
    """The sum of a softmax model's free intercepts has no curvature and no gradient."""
    model, X, y, X_query, y_query, weights = problem("three outputs", "softmax")
    n, p = X.shape
    share, k = weights / weights.sum(), 3
    A, Q = (np.column_stack([M.toarray(), np.ones(M.shape[0])]) for M in (X, X_query))
    P, P_query = model.predict_proba(X), model.predict_proba(X_query)
    curvature = np.diag(np.tile(np.r_[np.full(p, 0.1), 0.0], k)) / weights.sum()
    for a, b in np.ndindex(k, k):
        v = share * P[:, a] * ((a == b) - P[:, b])
        curvature[a * (p + 1) : (a + 1) * (p + 1), b * (p + 1) : (b + 1) * (p + 1)] += (A.T * v) @ A
    errors, errors_query = P - np.eye(k)[y], P_query - np.eye(k)[y_query]
    gradients = (errors[:, :, None] * A[:, None]).reshape(n, -1)
    explained = -(errors_query[:, :, None] * Q[:, None]).reshape(len(Q), -1)
    expected = -(explained @ np.linalg.pinv(curvature, 1e-12, hermitian=True) @ gradients.T) * share
    found = InfluenceFunction().fit(model, X, y, sample_weight=weights).score(X_query, y_query)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("shape", ["tall", "wide"])
def test_no_row_is_made_dense_but_the_first(shape, monkeypatch):
    model, X, y, X_query, y_query, weights = problem(shape)
    seen = []

    def read(self, rows):
        seen.append(len(range(*rows.indices(len(self)))) if isinstance(rows, slice) else len(rows))
        return whole(self, rows)

    whole = ArraySource.read
    monkeypatch.setattr(ArraySource, "read", read)
    for attributor in (GradDot(), GradCos(), InfluenceFunction(), InfluenceFunction("fisher", 0.1)):
        seen.clear()
        everything(attributor, model, X, y, (X_query, y_query), weights)
        assert sum(seen) < 12


@pytest.mark.parametrize("damping", ["auto", 0, 1e-2])
def test_a_wide_model_is_scored_without_eigenvalues(damping, monkeypatch):
    model, X, y, X_query, y_query, weights = problem("wide")
    influence = InfluenceFunction(damping=damping)
    with monkeypatch.context() as patched:
        patched.setattr(torch.linalg, "eigh", None)
        found = influence.fit(model, X, y, sample_weight=weights).score(X_query, y_query)
    assert len(influence.eigenvalues_) == len(y) + 1
    by_eigenvalues = influence.damping_path(X_query, y_query).scores(influence.damping_)
    np.testing.assert_allclose(found, by_eigenvalues, rtol=0, atol=1e-9 * np.abs(found).max())


def test_coordinates_of_sparse_rows_are_not_held():
    n, p = 3000, 200
    X = sparse.random(n, p, 0.01, format="csr", random_state=0)
    y = RNG.integers(0, 2, n)
    model = LogisticRegression(tol=1e-8).fit(X, y)
    influence = InfluenceFunction().fit(model, X, y)
    assert len(pickle.dumps(influence)) < n * p * 8 / 2


def test_columns_far_above_their_spread_are_centered_first():
    """A year and a constant beside sparse columns: centered before any product, as dense ones."""
    n = 80
    year, constant = 2000 + RNG.integers(0, 3, (n, 1)) * 1e-4, np.full((n, 1), 7.0)
    X = sparse.hstack([sparse.random(n, 6, 0.3, random_state=0), year, constant], format="csr")
    y = X[:, 0].toarray()[:, 0] + RNG.normal(size=n)
    model = LinearRegression().fit(X.toarray(), y)
    found, dense = (InfluenceFunction().fit(model, M, y).score(M[:5], y[:5])
                    for M in (X, X.toarray()))  # fmt: skip
    np.testing.assert_allclose(found, dense, rtol=0, atol=1e-9 * np.abs(dense).max())


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
def test_every_kind_of_sparse_matrix_is_read():
    """Columns first, whole numbers, float32, and rows with entries twice and in any order."""
    model, X, y, _, _, weights = problem("tall")
    row, column = X.nonzero()
    whole = sparse.csr_matrix((RNG.integers(1, 4, X.nnz), (row, column)), X.shape)
    twice = sparse.csr_matrix(
        (np.repeat(X.data / 2, 2)[::-1], np.repeat(X.indices, 2)[::-1], 2 * X.indptr), X.shape
    )
    for M in (X.tocsc(), whole, whole.astype(bool), X.astype(np.float32), twice):
        before = M.toarray()
        found, dense = (InfluenceFunction(damping=0.1).fit(model, Z, y, sample_weight=weights)
                        .score(Z[:4], y[:4]) for Z in (M, before))  # fmt: skip
        np.testing.assert_allclose(found, dense, rtol=0, atol=1e-9 * np.abs(dense).max())
        np.testing.assert_array_equal(M.toarray(), before)
    assert twice.nnz == 2 * X.nnz  # nor was the user's matrix tidied


@pytest.mark.parametrize("step", [TfidfVectorizer(), OneHotEncoder(handle_unknown="ignore")])
def test_pipelines_hand_on_sparse_rows(step):
    words = np.array(["red", "green", "blue", "large", "small", "old", "new"])
    X = words[RNG.integers(0, 7, (60, 3))]
    X = np.array([" ".join(row) for row in X]) if isinstance(step, TfidfVectorizer) else X
    y = RNG.integers(0, 2, 60)
    model = make_pipeline(step, LogisticRegression(tol=1e-8)).fit(X, y)
    found = InfluenceFunction().fit(model, X, y).score(X[:5], y[:5])
    dense = model[0].transform(X).toarray()
    expected = InfluenceFunction().fit(model[-1], dense, y).score(dense[:5], y[:5])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("curvature", ["logra", LoGra(rank=2)])
def test_logra_says_what_does_not_fit(curvature):
    X = sparse.random(20, 6000, 0.002, format="csr", random_state=0)
    y = RNG.integers(0, 2, 20)
    model = LogisticRegression(tol=1e-8).fit(X, y)
    with pytest.raises(ResourceError, match=r"second moments .*200\.0 MB.*init='random'"):
        InfluenceFunction(curvature, max_memory="200MB").fit(model, X, y)
    random = LoGra(rank=2, init="random")
    fitted = InfluenceFunction(random, max_memory="200MB", random_state=0).fit(model, X, y)
    assert fitted.score(X[:3], y[:3]).shape == (3, 20)
