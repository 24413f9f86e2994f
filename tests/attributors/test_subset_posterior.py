"""The posterior of scores and retrained outputs, against dense formulas with inverses."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, Ridge

from influencekit import (
    GradDot,
    GroupAttributor,
    InfluenceFunction,
    LDSSearch,
    SubsetPosterior,
    retrain_on_subsets,
)
from influencekit.training import SubsetOutputs

RATIOS = np.array([0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))
    X, y = X[order], y[order]
    model = LogisticRegression(max_iter=500).fit(X[:40], y[:40])
    return model, X[:40], y[:40], X[40:48], y[40:48]


def made_outputs(n_trainings, n_train, n_query, seed=0):
    rng = np.random.RandomState(seed)
    masks = rng.rand(n_trainings, n_train) < 0.5
    outputs = masks @ rng.randn(n_train, n_query) + rng.randn(n_trainings, n_query) + 3.0
    return SubsetOutputs(masks, outputs[:, None], np.zeros((n_trainings, 1)))


def dense(masks, y, tau, D, ratio, slopes):
    """Posterior mean and restricted log-likelihood, by V and its inverse.

    ``slopes``: one for each query, fixed; or None, estimated for each query.
    """
    n_trainings, n_query = y.shape
    Z = masks - masks.mean(0)
    V = np.eye(n_trainings) + ratio * Z @ np.diag(D) @ Z.T
    W = np.linalg.inv(V)
    scores, total, found = np.zeros((n_query, Z.shape[1])), 0.0, []
    for q in range(n_query):
        x = None if tau is None else Z @ tau[q]
        ones = np.ones((n_trainings, 1))
        if slopes is not None or tau is None:
            A, rest, c = ones, y[:, q] - (0 if tau is None else slopes[q] * x), None
        else:
            length = np.linalg.norm(x)
            A, rest, c = np.column_stack([ones, x / length]), y[:, q], length
        beta = np.linalg.solve(A.T @ W @ A, A.T @ W @ rest)
        if c is not None and beta[1] < 0:
            A, c = ones, None
            beta = np.linalg.solve(A.T @ W @ A, A.T @ W @ rest)
            found.append(0.0)
        elif c is not None:
            found.append(beta[1] / c)
        else:
            found.append(0.0 if tau is None else slopes[q])
        r = rest - A @ beta
        k = n_trainings - A.shape[1]
        total -= 0.5 * (
            k * np.log(r @ W @ r / k) + np.linalg.slogdet(V)[1] + np.linalg.slogdet(A.T @ W @ A)[1]
        )
        scores[q] = ratio * D * (Z.T @ W @ r) + (0 if tau is None else found[q] * tau[q])
    return scores, total, np.array(found)


def spreads(tau):
    flat = np.ones(tau.shape[1])
    for size in (None, (tau**2).mean(0), np.abs(tau).mean(0)):
        yield flat if size is None else 0.95 * size / size.mean() + 0.05


def test_without_a_prior_it_is_the_datamodel_of_highest_evidence(iris):
    model, X, y, Q, q = iris
    truth = made_outputs(25, len(X), len(Q))
    posterior = SubsetPosterior(None).fit(model, X, y, X_query=Q, y_query=q, subset_outputs=truth)
    ways = [
        dense(truth.masks, truth.outputs[:, 0], None, np.ones(len(X)), ratio, None)
        for ratio in RATIOS * 4 / len(X)
    ]
    best = int(np.argmax([total for _, total, _ in ways]))
    assert 0 < best < len(RATIOS) - 1
    np.testing.assert_allclose(posterior.score(Q, q), ways[best][0], rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(posterior.noise_ratio_, RATIOS[best] * 4 / len(X))


def test_a_slope_of_each_query_and_the_prior_of_highest_evidence(iris):
    model, X, y, Q, q = iris
    truth = made_outputs(30, len(X), len(Q), seed=1)
    influence = InfluenceFunction(damping=0.05).fit(model, X, y)
    factors = (0.1, 1.0, 10.0)
    posterior = SubsetPosterior(
        InfluenceFunction(damping=0.05), slope="own", damping_factors=factors
    )
    posterior.fit(model, X, y, X_query=Q, y_query=q, subset_outputs=truth)
    ways = []
    for factor in factors:
        tau = influence.set_damping(0.05 * factor).score(Q, q)
        for D in spreads(tau):
            for ratio in RATIOS * 4 / len(X):
                found = dense(truth.masks, truth.outputs[:, 0], tau, D, ratio, None)
                ways.append((*found, factor, ratio))
    scores, _, slopes, factor, ratio = max(ways, key=lambda way: way[1])
    np.testing.assert_allclose(posterior.score(Q, q), scores, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(posterior.slope_, slopes, rtol=1e-6, atol=1e-12)
    assert posterior.damping_factor_ == factor
    np.testing.assert_allclose(posterior.noise_ratio_, ratio)


def test_one_slope_for_all_queries_is_weighted_by_their_noise(iris):
    model, X, y, Q, q = iris
    tau = InfluenceFunction().fit(model, X, y).score(Q, q)
    rng = np.random.RandomState(3)
    masks = rng.rand(12, len(X)) < 0.5
    noise = rng.randn(12, len(Q)) * np.geomspace(0.01, 1.0, len(Q))
    outputs = 2.5 * masks @ tau.T + 0.2 * noise
    truth = SubsetOutputs(masks, outputs[:, None], np.zeros((12, 1)))
    posterior = SubsetPosterior(InfluenceFunction(), damping_factors=[1.0])
    posterior.fit(model, X, y, X_query=Q, y_query=q, subset_outputs=truth)
    assert len(set(posterior.slope_)) == 1
    # the slope is a fixed point of weighted least squares in the metric that was chosen
    Z = masks - masks.mean(0)
    ways = []
    for D in spreads(tau):
        W = np.linalg.inv(np.eye(12) + posterior.noise_ratio_ * Z @ np.diag(D) @ Z.T)
        P = W - W @ np.ones((12, 12)) @ W / W.sum()  # the intercept taken out
        x, c = Z @ tau.T, posterior.slope_[0]
        r = outputs - c * x
        sigma = np.einsum("iq,ij,jq->q", r, P, r)
        inner = np.einsum("iq,ij,jq->q", x, P, outputs), np.einsum("iq,ij,jq->q", x, P, x)
        ways.append((inner[0] / sigma).sum() / (inner[1] / sigma).sum())
    assert min(abs(way - posterior.slope_[0]) for way in ways) < 1e-6
    assert abs(posterior.slope_[0] - 2.5) < 0.2


def test_no_trainings_is_the_prior(iris):
    model, X, y, Q, q = iris
    posterior = SubsetPosterior(InfluenceFunction(), n_trainings=0)
    posterior.fit(model, X, y, X_query=Q, y_query=q)
    expected = InfluenceFunction().fit(model, X, y).score(Q, q)
    np.testing.assert_allclose(posterior.score(Q, q), expected, rtol=1e-9)
    assert np.isnan(posterior.cross_validated_lds_)


def test_it_trains_the_model_itself_and_comes_closer_to_the_truth():
    rng = np.random.RandomState(0)
    X, Q = rng.randn(30, 3), rng.randn(6, 3)
    y, q = X @ rng.randn(3) + 0.3 * rng.randn(30), rng.randn(6)
    model = Ridge(alpha=1.0).fit(X, y)
    prior = GradDot(output="prediction")
    truth = retrain_on_subsets(
        model, X, y, Q, q, n_subsets=60, output="prediction", random_state=9
    )  # fmt: skip
    posterior = SubsetPosterior(prior, n_trainings=60, random_state=0)
    posterior.fit(model, X, y, X_query=Q, y_query=q)
    assert posterior.subset_outputs_.output == "prediction"

    def lds(scores):
        outputs = truth.mean_outputs()
        pairs = zip((truth.masks @ scores.T).T, outputs.T, strict=True)
        return np.mean([spearmanr(a, b).statistic for a, b in pairs])

    before = lds(prior.fit(model, X, y).score(Q, q))
    after = lds(posterior.score(Q, q))
    assert after > before + 0.05
    assert abs(posterior.cross_validated_lds_ - after) < 0.15
    assert 0 < posterior.cross_validated_lds_std_error_ < 0.15


def test_self_reported_lds_is_that_of_trainings_left_out(iris):
    """Pure noise has none; a linear truth has nearly 1; below 20 trainings nothing is said."""
    model, X, y, Q, q = iris
    rng = np.random.RandomState(0)
    masks = rng.rand(120, len(X)) < 0.5
    linear = masks @ rng.randn(len(X), len(Q)) + 0.01 * rng.randn(120, len(Q))
    found = {}
    for name, outputs in {"linear": linear, "noise": rng.randn(120, len(Q))}.items():
        truth = SubsetOutputs(masks, outputs[:, None], np.zeros((120, 1)))
        fit = SubsetPosterior(None, random_state=0).fit(
            model, X, y, X_query=Q, y_query=q, subset_outputs=truth
        )  # fmt: skip
        found[name] = fit.cross_validated_lds_, fit.cross_validated_lds_std_error_
    assert found["linear"][0] > 0.98
    assert abs(found["noise"][0]) < 0.15
    few = made_outputs(19, len(X), len(Q))
    fit = SubsetPosterior(None).fit(model, X, y, X_query=Q, y_query=q, subset_outputs=few)
    assert np.isnan(fit.cross_validated_lds_)
    assert np.isnan(fit.cross_validated_lds_std_error_)


def test_queries_are_known_by_their_content(iris):
    model, X, y, Q, q = iris
    truth = made_outputs(10, len(X), len(Q))
    posterior = SubsetPosterior(None).fit(model, X, y, X_query=Q, y_query=q, subset_outputs=truth)
    scores = posterior.score(Q, q)
    order = [5, 0, 5]
    np.testing.assert_array_equal(posterior.score(Q[order], q[order]), scores[order])
    np.testing.assert_array_equal(posterior.score(Q[order]), scores[order])
    with pytest.raises(ValueError, match=r"row 1 was not given to fit.*not in X_query"):
        posterior.score(np.stack([Q[0], X[0]]))
    with pytest.raises(ValueError, match="its target in y_query was different"):
        posterior.score(Q[:1], (q[:1] + 1) % 3)


@pytest.mark.parametrize(
    ("posterior", "more", "error", "match"),
    [
        (SubsetPosterior(None), {"X_query": None}, ValueError, "X_query: got None"),
        (SubsetPosterior(None), {"y_query": None}, ValueError, "y_query: got None"),
        (SubsetPosterior(None, n_trainings=2), {}, ValueError, "n_trainings: got 2"),
        (SubsetPosterior(None, n_trainings=0), {}, ValueError, "n_trainings: got 0"),
        (SubsetPosterior(GroupAttributor(GradDot())), {}, ValueError, "prior: got GroupAttributor"),
        (SubsetPosterior(LDSSearch(GradDot())), {}, ValueError, "prior: got LDSSearch"),
        (SubsetPosterior(None), {"subset_outputs": 3}, TypeError, "subset_outputs: got int"),
    ],
)
def test_refusals(iris, posterior, more, error, match):
    model, X, y, Q, q = iris
    with pytest.raises(error, match=match):
        posterior.fit(model, X, y, **({"X_query": Q, "y_query": q} | more))
