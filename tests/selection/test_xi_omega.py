"""ξ and ω of ridge regressions retrained on all subsets of one size, against plain numpy."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from influencekit import InfluenceFunction
from influencekit.damping import xi_omega
from influencekit.training import SubsetOutputs

N, A, P, M = 12, 9, 2, 6
DAMPINGS = np.geomspace(1e-5, 1e2, 15)
SCALES = np.geomspace(1, 0.1, P)


def ridge(X, y, alpha):
    return np.linalg.solve(X.T @ X + alpha * np.eye(P), X.T @ y)


class Problem:
    """Rows, queries, gradients of mean squared errors, and outputs of all subsets."""

    def __init__(self, seed, alpha=0.0):
        rng = np.random.default_rng(seed)
        self.X, self.queries = (rng.normal(size=(n, P)) * SCALES for n in (N, M))
        self.y = self.X @ rng.normal(size=P) + 0.5 * rng.normal(size=N)
        theta = ridge(self.X, self.y, alpha)
        self.J = 2 * (self.X @ theta - self.y)[:, None] * self.X
        self.penalty = 2 * alpha / N
        self.masks = np.zeros((comb(N, A), N), dtype=bool)
        for mask, members in zip(self.masks, combinations(range(N), A), strict=True):
            mask[list(members)] = True
        pairs = [ridge(self.X[mask], self.y[mask], alpha) for mask in self.masks]
        self.outputs = np.array(pairs) @ self.queries.T
        model = Ridge(alpha, fit_intercept=False).fit(self.X, self.y)
        self.influence = InfluenceFunction("fisher", output="prediction")
        self.path = self.influence.fit(model, self.X, self.y).damping_path(self.queries)

    def truth(self, masks=None, outputs=None):
        outputs = self.outputs if outputs is None else outputs
        masks = self.masks if masks is None else masks
        seeds = np.zeros((len(masks), 1), dtype=int)
        return SubsetOutputs(masks, outputs[:, None, :], seeds, "prediction")

    def xi_and_omega(self, query, damping):
        """From the definitions, in the spaces of parameters and of rows."""
        J, g, total = self.J, self.queries[query], damping + self.penalty
        F, K = J.T @ J / N, J @ J.T / N + total * np.eye(N)
        inverse = np.linalg.inv(F + total * np.eye(P))
        t = [g @ F @ np.linalg.matrix_power(inverse, k) @ g for k in (1, 2, 3)]
        centered = self.outputs[:, query] - self.outputs[:, query].mean()
        q, b, K = -centered @ self.masks / len(self.masks), J @ g, np.linalg.inv(K)
        return t[1] / np.sqrt(t[0] * t[2]), q @ K @ b / np.sqrt((b @ K @ b) * (q @ K @ q))

    def lds(self, query, damping):
        """Pearson correlation over all subsets, by adding scores up."""
        total = (damping + self.penalty) * np.eye(P)
        scores = -self.J @ np.linalg.solve(self.J.T @ self.J / N + total, self.queries[query])
        return np.corrcoef(self.outputs[:, query], self.masks @ scores)[0, 1]


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_both_are_their_definitions(alpha):
    problem = Problem(0, alpha)
    found = xi_omega(problem.path, problem.truth(), DAMPINGS)
    expected = [[problem.xi_and_omega(i, d) for i in range(M)] for d in DAMPINGS]
    np.testing.assert_allclose(np.stack([found.xi, found.omega], -1), expected, rtol=1e-8)
    np.testing.assert_allclose(found.share, np.mean(found.xi < found.omega, axis=1))
    one = xi_omega(problem.path, problem.truth(), DAMPINGS[3])
    np.testing.assert_allclose(one.omega[0], found.omega[3])


def test_the_lds_rises_wherever_xi_is_below_omega():
    fires = falls = 0
    for seed in range(6):
        problem = Problem(seed)
        found = xi_omega(problem.path, problem.truth(), DAMPINGS)
        assert (np.abs(found.omega) <= 1 + 1e-9).all()
        for (k, i), below in np.ndenumerate(found.xi < found.omega):
            damping = DAMPINGS[k]
            slope = problem.lds(i, damping * 1.0001) - problem.lds(i, damping / 1.0001)
            fires, falls = fires + below, falls + (slope < -1e-9)
            assert not (below and slope < -1e-12)
    assert fires >= 20 and falls >= 50


def test_a_query_whose_outputs_never_change_has_no_omega():
    problem = Problem(0)
    outputs = problem.outputs.copy()
    outputs[:, 2] = 3.0
    found = xi_omega(problem.path, problem.truth(outputs=outputs), [1e-3])
    assert np.isnan(found.omega[0, 2])
    others = np.arange(M) != 2
    assert found.share[0] == np.mean(found.xi[0, others] < found.omega[0, others])


def test_what_the_theorem_is_not_about_is_refused():
    problem = Problem(0)
    truth, data, weights = problem.truth(), (problem.X, problem.y), np.arange(1.0, N + 1)
    model = Ridge(1.0, fit_intercept=False).fit(*data)
    weighted = Ridge(1.0, fit_intercept=False).fit(*data, sample_weight=weights)
    others = [
        InfluenceFunction("ggn").fit(model, *data),
        InfluenceFunction("fisher").fit(weighted, *data, sample_weight=weights),
    ]
    for fitted in others:
        with pytest.raises(ValueError, match=r"path: its curvature .* InfluenceFunction\('fisher'"):
            xi_omega(fitted.damping_path(problem.queries, np.zeros(M)), truth, 1.0)
    two = InfluenceFunction("fisher").fit([model, model], *data)
    with pytest.raises(TypeError, match="path: got MeanPath; accepted is the path of one model"):
        xi_omega(two.damping_path(problem.queries, np.zeros(M)), truth, 1.0)


def test_arguments_that_do_not_fit_are_named():
    problem = Problem(0)
    truth = problem.truth()
    with pytest.raises(ValueError, match=r"dampings: got 0\.0; accepted are numbers above 0"):
        xi_omega(problem.path, truth, 0.0)
    with pytest.raises(ValueError, match="12 training rows and 2 queries, but path has 12 and 6"):
        xi_omega(problem.path, truth.take_queries([0, 1]), 1.0)
    masks = problem.masks.copy()
    masks[0] = True
    with pytest.raises(ValueError, match="subsets of 9 to 12 rows; accepted are subsets of one"):
        xi_omega(problem.path, problem.truth(masks), 1.0)
    with pytest.raises(TypeError, match="subset_outputs: got ndarray; accepted is SubsetOutputs"):
        xi_omega(problem.path, problem.outputs, 1.0)
