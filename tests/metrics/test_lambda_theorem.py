"""Where ξ < ω, population Pearson LDS rises with λ: small ridge problems, exact retraining.

ξ, ω and t_k are computed here with numpy from their definitions; the LDS is the package's.
"""

import numpy as np
import pytest

from influencekit.metrics._population import (
    enumerate_subsets,
    population_moments,
    population_pearson_lds,
)

N, A, P, PENALTY = 10, 5, 4, 0.05
DAMPINGS = np.geomspace(1e-6, 1e2, 33)


def ridge(X, y):
    return np.linalg.solve(X.T @ X / len(X) + PENALTY * np.eye(P), X.T @ y / len(X))


def make_problem(seed):
    """Gradients J (p, n) of the penalized losses, g (n_query, p), moments of retraining."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, P)) * np.geomspace(1, 0.1, P)
    y = X @ rng.normal(size=P) + 0.5 * rng.normal(size=N)
    X_query = rng.normal(size=(6, P)) * np.geomspace(1, 0.1, P)
    theta = ridge(X, y)
    J = ((X @ theta - y)[:, None] * X + PENALTY * theta).T
    np.testing.assert_allclose(J.sum(axis=1), 0, atol=1e-12)
    masks = enumerate_subsets(N, A)
    outputs = np.stack([X_query @ ridge(X[mask], y[mask]) for mask in masks])
    return J, X_query, population_moments(outputs, masks)


def influence_scores(J, g, damping):
    """-gᵀ (F + λ I)⁻¹ ∇L_i with F = J Jᵀ / n, in parameter space."""
    return -g @ np.linalg.solve(J @ J.T / N + damping * np.eye(P), J)


def moment(J, g, damping, k):
    """t_k = gᵀ F (F + λ I)⁻ᵏ g of one query, by repeated solves."""
    F = J @ J.T / N
    vector = g
    for _ in range(k):
        vector = np.linalg.solve(F + damping * np.eye(P), vector)
    return g @ F @ vector


def xi_and_omega(J, g, q, damping):
    t1, t2, t3 = (moment(J, g, damping, k) for k in (1, 2, 3))
    K, b = J.T @ J / N + damping * np.eye(N), J.T @ g
    q_b, b_b, q_q = (left @ np.linalg.solve(K, right) for left, right in ((q, b), (b, b), (q, q)))
    return t2 / np.sqrt(t1 * t3), q_b / np.sqrt(b_b * q_q)


@pytest.fixture(scope="module")
def path():
    """LDS, its slope in log λ, ξ and ω of every problem, query and damping (8 x 6 x 33)."""
    columns = []
    for seed in range(8):
        J, G, moments = make_problem(seed)

        def lds(damping, J=J, G=G, moments=moments):
            return population_pearson_lds(influence_scores(J, G, damping), moments).per_query

        for damping in DAMPINGS:
            slope = lds(damping * 1.0001) - lds(damping / 1.0001)
            pairs = [xi_and_omega(J, g, q, damping) for g, q in zip(G, moments.q, strict=True)]
            columns.append(np.column_stack([lds(damping), slope, np.array(pairs)]))
    return np.concatenate(columns).T


def test_lds_rises_wherever_xi_is_below_omega(path):
    lds, slope, xi, omega = path
    fires = xi < omega
    assert fires.sum() >= 50  # the theorem was put to use
    assert (lds[fires] > 0).all()
    assert (slope[fires] > -1e-12).all()
    falling = slope < -1e-9
    assert falling.sum() >= 50  # and LDS does not rise everywhere anyway
    assert not (fires & falling).any()


def test_ranges_of_xi_and_omega(path):
    lds, _, xi, omega = path
    assert (xi > 0).all() and (xi <= 1 + 1e-9).all()
    assert (omega[lds > 0] > 0).all() and (np.abs(omega) <= 1 + 1e-9).all()
