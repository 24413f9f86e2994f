"""Values from all subsets of a few rows against their definitions, with refits in plain numpy."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from influencekit import SubsetOutputs, SubsetPosterior
from influencekit.values import Banzhaf, BetaShapley, Datamodel, LeaveOneOut, Shapley
from tests.values import _games as games

N, N_QUERY = 5, 3
RNG = np.random.RandomState(0)
X, Q = RNG.randn(N, 2), RNG.randn(N_QUERY, 2)
Y, U = X @ [1.0, -2.0] + RNG.randn(N), RNG.randn(N_QUERY)


def ridge_prediction(X, y, Q):
    """Ridge with an intercept, by normal equations; the mean of all targets without rows."""
    if not len(X):
        return np.full(len(Q), Y.mean())
    center, mean = X.mean(0), y.mean()
    Z = X - center
    coef = np.linalg.solve(Z.T @ Z + np.eye(2), Z.T @ (y - mean))
    return (Q - center) @ coef + mean


@pytest.fixture(scope="module")
def game():
    """Prediction at the queries for every subset, (2 ** N, N_QUERY)."""
    return np.array([ridge_prediction(X[m], Y[m], Q) for m in games.subsets(N)])


def outputs_of(game, masks):
    found = np.array([game[games.number(mask)] for mask in masks])
    return SubsetOutputs(masks, found[:, None], np.zeros((len(masks), 1)), "prediction")


def scores_from(values, game, masks):
    values.fit(
        Ridge().fit(X, Y), X, Y, X_query=Q, y_query=U, subset_outputs=outputs_of(game, masks)
    )
    return values.score(Q, U)


CASES = {
    "Banzhaf": (Banzhaf, games.subsets(N)[1:], games.banzhaf),
    "orders": (lambda **k: Shapley("permutation", **k), games.all_orders(N), games.shapley),
    "complements": (Shapley, games.all_pairs(N), games.shapley),
    "Beta(16, 1)": (
        BetaShapley,
        games.all_orders(N),
        lambda v, n: games.beta_shapley(v, n, 16, 1),
    ),
    "Beta(1, 4)": (
        lambda **k: BetaShapley(1, 4, **k),
        games.all_orders(N),
        lambda v, n: games.beta_shapley(v, n, 1, 4),
    ),
    "Beta(1, 1)": (lambda **k: BetaShapley(1, 1, **k), games.all_orders(N), games.shapley),
}


@pytest.mark.parametrize("case", CASES)
def test_from_all_subsets(case, game):
    values, masks, definition = CASES[case]
    found = scores_from(values(output="prediction"), game, masks)
    np.testing.assert_allclose(found, definition(game, N), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_laws(case, game):
    """Equal rows, a row that does nothing, and rows in another order."""
    values, masks, _ = CASES[case]
    all_subsets = games.subsets(N)
    key = all_subsets.copy()
    key[:, 3] = False  # row 3 does nothing
    key[:, :2] = np.sort(key[:, :2], axis=1)  # rows 0 and 1 stand for each other
    made = np.random.RandomState(2).randn(2**N, N_QUERY)[[games.number(row) for row in key]]
    made[key.sum(1) == 0] = game[0]
    found = scores_from(values(output="prediction"), made, masks)
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1e-10)
    np.testing.assert_allclose(found[:, 3], 0, atol=1e-10)
    order = np.array([2, 4, 1, 0, 3])
    moved = np.array([made[games.number(mask[np.argsort(order)])] for mask in all_subsets])
    again = scores_from(values(output="prediction"), moved, masks)
    np.testing.assert_allclose(again, found[:, order], atol=1e-10)


def test_leave_one_out_refits():
    values = LeaveOneOut(output="prediction", random_state=0)
    values.fit(Ridge().fit(X, Y), X, Y, X_query=Q, y_query=U)
    full = ridge_prediction(X, Y, Q)
    for j in range(N):
        rest = np.arange(N) != j
        change = full - ridge_prediction(X[rest], Y[rest], Q)
        np.testing.assert_allclose(values.score(Q, U)[:, j], change, atol=1e-10)
    assert np.isnan(values.std_error_).all()  # one repeat cannot tell


def test_leave_one_out_errors_by_hand():
    masks = np.vstack([np.ones((1, N), dtype=bool), ~np.eye(N, dtype=bool)])[::-1]
    outputs = RNG.randn(N + 1, 4, N_QUERY)
    kept = SubsetOutputs(masks, outputs, np.zeros((N + 1, 4)))
    values = LeaveOneOut().fit(Ridge().fit(X, Y), X, Y, X_query=Q, y_query=U, subset_outputs=kept)
    mean, variance = outputs.mean(1), outputs.var(1, ddof=1) / 4
    for j in range(N):
        place = N - 1 - j  # subsets were given in reverse
        np.testing.assert_allclose(values.score(Q, U)[:, j], mean[-1] - mean[place])
        np.testing.assert_allclose(values.std_error_[:, j], np.sqrt(variance[-1] + variance[place]))
    with pytest.raises(ValueError, match="4 of 5 subsets that leave one row out"):
        values.fit(
            Ridge().fit(X, Y),
            X,
            Y,
            X_query=Q,
            y_query=U,
            subset_outputs=SubsetOutputs(masks[1:], outputs[1:], np.zeros((N, 4))),
        )


def test_shapley_trained_sums_to_the_whole_effect():
    """Every order and every pair by itself shares out all of it, also where an order is cut off."""
    model = Ridge().fit(X, Y)
    whole = ridge_prediction(X, Y, Q) - Y.mean()
    for values in (Shapley(n_trainings=9), Shapley("permutation", truncation=0.5)):
        values.set_params(random_state=0, output="prediction")
        values.fit(model, X, Y, X_query=Q, y_query=U)
        np.testing.assert_allclose(values.score(Q, U).sum(1), whole, atol=1e-8)


def test_ridge_is_the_posterior_without_a_prior(game):
    masks = games.subsets(N)[1:]
    found = scores_from(Datamodel(output="prediction"), game, masks)
    posterior = SubsetPosterior(None, output="prediction")
    np.testing.assert_array_equal(found, scores_from(posterior, game, masks))


def test_lasso_finds_the_rows_that_matter():
    masks = np.random.RandomState(1).rand(120, N) < 0.5
    masks[~masks.any(1), 0] = True
    outputs = masks @ [2.0, 0, 0, -1.0, 0] + 0.05 * RNG.randn(120)
    kept = SubsetOutputs(masks, outputs[:, None, None], np.zeros((120, 1)))
    values = Datamodel("lasso")
    values.fit(Ridge().fit(X, Y), X, Y, X_query=Q[:1], y_query=U[:1], subset_outputs=kept)
    np.testing.assert_allclose(values.score(Q[:1], U[:1])[0], [2, 0, 0, -1, 0], atol=0.05)
    assert values.std_error_.max() < 0.05


def test_outputs_that_are_mostly_noise_still_rank_the_rows(game):
    """The evidence would take the penalty to infinity, and with it every score to 0."""
    masks = np.random.RandomState(3).rand(30, N) < 0.5
    masks[~masks.any(1), 0] = True
    noise = np.random.RandomState(1).randn(30, 1, N_QUERY)
    kept = SubsetOutputs(masks, noise, np.zeros((30, 1)))
    for values in (Datamodel(), SubsetPosterior(None)):
        values.fit(Ridge().fit(X, Y), X, Y, X_query=Q, y_query=U, subset_outputs=kept)
        scores = values.score(Q, U)
        assert (np.ptp(scores, axis=1) > 0).all()
        assert np.abs(scores).max() < 0.1
    assert values.noise_ratio_ == 0.01 * 4 / N  # the least that is tried
