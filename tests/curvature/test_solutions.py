"""Solvers return products, residuals and iterations, and leave the fitted curvature as it is."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.curvature import (
    ConjugateGradient,
    LiSSA,
    Solution,
    SolvedCurvature,
)
from influencekit.curvature._operators import CurvatureOperator
from influencekit.exceptions import ConvergenceWarning, HeldOutRowsWarning
from tests._shared.marks import NOT_TRAINED
from tests.curvature._hessian_reference import D, M, N, dense_problem

#: They stop well before rounding, at residuals that differ between the queries; fits warn of it.
STOPPED = pytest.mark.filterwarnings("ignore::influencekit.exceptions.ConvergenceWarning")
SHORT = [
    ConjugateGradient(rtol=1e-2, preconditioner=None),
    ConjugateGradient(rtol=1e-8, max_iter=4, preconditioner_rank=2, random_state=0),
    LiSSA(rows_per_step=None, depth=5),
    LiSSA(rows_per_step=10, depth=20, random_state=0),
]


def true_residuals(solve, dense, damping):
    """``‖v - (A + λI) x‖ / ‖v‖`` of the queries, from the solver's own x, in numpy."""
    x = solve(torch.as_tensor(dense.query), damping).products.numpy()
    left = dense.query - x @ (dense.curvature + damping * np.eye(len(dense.curvature)))
    return np.linalg.norm(left, axis=1) / np.linalg.norm(dense.query, axis=1)


@STOPPED
@pytest.mark.parametrize("memory", [None, 20_000], ids=["together", "query by query"])
@pytest.mark.parametrize("solver", SHORT, ids=str)
def test_residuals_are_true(solver, memory):
    dense = dense_problem("ggn", "constant", weighted=True, max_memory=memory)
    fitted = solver.factorize(dense.problem)
    found = fitted.solution(dense.queries, 0.05)
    expected = true_residuals(fitted.solve, dense, 0.05)
    assert (expected > 1e-4).all()
    np.testing.assert_allclose(found.residuals, expected, rtol=1e-8)
    assert found.iterations.shape == (M,)
    assert found.products.shape == (M, N)


@STOPPED
@pytest.mark.parametrize("solver", SHORT, ids=str)
def test_two_dampings_at_once_give_their_own_residuals(solver):
    dense = dense_problem("ggn", "constant")
    fitted, dampings = solver.factorize(dense.problem), [0.02, 3.0]
    expected = [true_residuals(fitted.solve, dense, damping) for damping in dampings]
    assert (np.abs(expected[0] - expected[1]) > 1e-6).all()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(
                pool.map(lambda i: fitted.solution(dense.queries, dampings[i % 2]), range(8))
            )
    finally:
        sys.setswitchinterval(interval)
    for i, solution in enumerate(found):
        np.testing.assert_allclose(solution.residuals, expected[i % 2], rtol=1e-8)


@STOPPED
@pytest.mark.parametrize("solver", SHORT, ids=str)
def test_nothing_is_written_onto_a_fitted_curvature(solver):
    dense = dense_problem("ggn", "constant")
    fitted = solver.factorize(dense.problem)
    before = dict(vars(fitted))
    fitted.products(dense.queries, 0.5)
    fitted.self_products(0.5)
    assert list(vars(fitted)) == list(before)
    assert all(vars(fitted)[key] is value for key, value in before.items())


def test_an_exact_solver_has_neither_residuals_nor_iterations():
    dense = dense_problem("ggn", "constant")

    class Dense(SolvedCurvature):
        def solve(self, vectors, damping):
            shifted = torch.as_tensor(dense.curvature + damping * np.eye(len(dense.curvature)))
            return Solution(torch.linalg.solve(shifted, vectors.mT).mT)

    found = Dense(dense.problem).solution(dense.queries, 0.3)
    np.testing.assert_allclose(found.products, dense.products(0.3), rtol=1e-9)
    assert found.residuals is None
    assert found.iterations is None
    own = np.einsum(
        "jp,pj->j",
        dense.train,
        np.linalg.solve(dense.curvature + 0.3 * np.eye(len(dense.curvature)), dense.train.T),
    )
    np.testing.assert_allclose(Dense(dense.problem).self_products(0.3), own, rtol=1e-9)


def test_too_few_iterations_are_told_of_self_influence_too():
    dense = dense_problem("ggn")
    fitted = ConjugateGradient(max_iter=3, preconditioner=None).factorize(dense.problem)
    with pytest.warns(ConvergenceWarning, match=f"{N} of {N} systems did not reach rtol=1e-05"):
        fitted.self_products(1e-4)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return LogisticRegression(max_iter=1000).fit(X, y), X, y


@pytest.mark.parametrize("curvature", ["cg", LiSSA(rows_per_step=None, rtol=1e-5)], ids=str)
def test_attributor_returns_the_solution(iris, curvature):
    """Against gradients and the Hessian of the logistic loss, by hand."""
    model, X, y = iris
    damping, queries = 1.0, slice(0, 150, 40)
    weights = np.full(150, 1 / 150)
    A = np.c_[X, np.ones(150)]
    p = model.predict_proba(X)
    errors = p - np.eye(3)[y]
    hessian = np.zeros((15, 15))
    for j in range(150):
        hessian += weights[j] * np.kron(np.diag(p[j]) - np.outer(p[j], p[j]), np.outer(A[j], A[j]))
    hessian += np.diag(np.tile([1 / 150] * 4 + [0.0], 3))
    G = np.einsum("jc,jd->jcd", errors, A).reshape(150, 15)
    fitted = InfluenceFunction(curvature, damping, random_state=0).fit(model, X, y)
    found = fitted.solution(X[queries], y[queries])
    assert all(
        isinstance(a, np.ndarray) for a in (found.products, found.residuals, found.iterations)
    )
    np.testing.assert_array_equal(-found.products * weights, fitted.score(X[queries], y[queries]))
    exact = -G[queries] @ np.linalg.solve(hessian + damping * np.eye(15), G.T)
    np.testing.assert_allclose(found.products, exact, rtol=0, atol=1e-4 * np.abs(exact).max())
    assert ((found.residuals > 0) & (found.residuals <= 1e-5)).all()
    assert (found.iterations > 0).all()
    assert found.residuals.shape == found.iterations.shape == (4,)


def test_of_several_models_a_list(iris):
    model, X, y = iris
    fitted = InfluenceFunction("cg", 0.1).fit([model, model], X, y)
    found = fitted.solution(X[:3], y[:3])
    assert len(found) == 2
    mean = np.mean([solution.products for solution in found], axis=0)
    np.testing.assert_allclose(-mean / 150, fitted.score(X[:3], y[:3]))


@NOT_TRAINED
def test_columns_of_rows_held_out_are_zero():
    torch.manual_seed(0)
    net = nn.Linear(D, 3).double()
    X, t = torch.randn(N, D, dtype=torch.float64), torch.randint(3, (N,))
    task = replace(
        as_task(net, loss=nn.CrossEntropyLoss()),
        training_rows=lambda X, y: np.arange(N) < 20,
    )
    with pytest.warns(HeldOutRowsWarning):
        fitted = InfluenceFunction("cg", 0.1).fit(task, X, t)
    products = fitted.solution(X[:2], t[:2]).products
    assert (products[:, 20:] == 0).all()
    assert (products[:, :20] != 0).all()


@pytest.mark.parametrize("curvature", ["ggn", "datainf", "nystroem"])
def test_what_is_decomposed_says_that_there_is_none(iris, curvature):
    model, X, y = iris
    fitted = InfluenceFunction(curvature, 0.1).fit(model, X, y)
    assert not hasattr(fitted, "solution")
    with pytest.raises(AttributeError) as caught:
        fitted.solution(X, y)
    assert "does not solve a system for each query" in str(caught.value.__cause__)


def test_a_solver_that_returns_a_tensor_is_told():
    class Bare(SolvedCurvature):
        def solve(self, vectors, damping):
            return vectors / damping

    dense = dense_problem("ggn", "constant")
    with pytest.raises(TypeError, match=r"Bare.solve returned a Tensor; it must return a Solution"):
        Bare(dense.problem).products(dense.queries, 0.1)


@pytest.mark.filterwarnings("ignore:LiSSA takes up to")
def test_lissa_on_all_rows_solves_each_query_by_itself():
    dense = dense_problem("ggn", "constant")
    fitted = LiSSA(rows_per_step=None, rtol=0.05).factorize(dense.problem)
    queries = torch.as_tensor(dense.query)
    together = fitted.solve(queries, 0.05)
    assert len(set(together.iterations)) > 1
    for i in range(M):
        alone = fitted.solve(queries[i : i + 1], 0.05)
        np.testing.assert_allclose(alone.products[0], together.products[i], rtol=1e-9)
        assert alone.iterations[0] == together.iterations[i]


@pytest.mark.filterwarnings("ignore:LiSSA takes up to")
def test_a_long_series_forms_the_matrix(monkeypatch):
    dense = dense_problem("ggn", "constant")
    fitted = LiSSA(rows_per_step=None, rtol=1e-8).factorize(dense.problem)
    multiply, asked = CurvatureOperator.data, []

    def counting(operator, vectors, rows=None):
        asked.append(len(vectors))
        return multiply(operator, vectors, rows)

    monkeypatch.setattr(CurvatureOperator, "data", counting)
    found = fitted.solve(torch.as_tensor(dense.query), 0.05)
    p = len(dense.curvature)
    assert found.iterations.sum() > 5 * p
    assert sum(asked) < 2 * p + 3 * M
    expected = np.linalg.solve(dense.curvature + 0.05 * np.eye(p), dense.query.T).T
    np.testing.assert_allclose(found.products, expected, atol=1e-6 * np.abs(expected).max())
