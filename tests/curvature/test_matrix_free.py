"""Curvatures made of products, against a dense solve of the dense matrix by autograd."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.curvature import (
    Arnoldi,
    ConjugateGradient,
    CurvatureProblem,
    Hessian,
    LiSSA,
    Nystroem,
)
from influencekit.curvature.exact._exact import GaussNewton
from influencekit.curvature.low_rank._lanczos import extreme_eigenvalues, lanczos, normal_rows
from influencekit.curvature.low_rank._nystroem import nystroem
from influencekit.damping import auto_damping
from influencekit.damping._default import sketch_damping
from influencekit.data import make_examples
from influencekit.exceptions import (
    ConvergenceWarning,
    NegativeCurvatureWarning,
    ResourceError,
)
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent
from tests.curvature._dense_reference import surrogate_indicator
from tests.curvature._hessian_reference import N, dense_problem


def products(curvature, dense, damping):
    fitted = curvature.factorize(dense.problem)
    return fitted.products(dense.queries, damping).numpy()


def with_negative(dense, treat, damping):
    """``<q, V diag(treat(s)) Vᵀ g>`` from numpy's eigendecomposition of the dense matrix."""
    s, v = np.linalg.eigh(dense.curvature)
    return (dense.query @ v * treat(s, damping)) @ (dense.train @ v).T


NEGATIVE = {
    "drop": lambda s, damping: np.where(s > -1e-12, 1 / (np.maximum(s, 0) + damping), 0),
    "absolute": lambda s, damping: 1 / (np.abs(s) + damping),
    "keep": lambda s, damping: 1 / (s + damping),
}
EXACT_LOW_RANK = [
    Arnoldi(rank=60, tol=0, random_state=0),
    Arnoldi(rank=60, tol=0, block_size=1, random_state=0),
    Arnoldi(rank=60, tol=0, complement="drop", random_state=0),
    Nystroem(rank=60, random_state=0),
]


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NegativeCurvatureWarning")
@pytest.mark.parametrize("penalty", ["none", "constant", "bias free"])
@pytest.mark.parametrize("negative", list(NEGATIVE))
def test_hessian_equals_dense(negative, penalty):
    dense = dense_problem("hessian", penalty, weighted=True)
    smallest = np.linalg.eigvalsh(dense.curvature)[0]
    assert smallest < -0.01
    damping = 0.3 - smallest
    found = products(Hessian(negative), dense, damping)
    np.testing.assert_allclose(found, with_negative(dense, NEGATIVE[negative], damping), rtol=1e-8)
    own = Hessian(negative).factorize(dense.problem).self_products(damping)
    s, v = np.linalg.eigh(dense.curvature)
    expected = (dense.train @ v) ** 2 @ NEGATIVE[negative](s, damping)
    np.testing.assert_allclose(own, expected, rtol=1e-8)


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NegativeCurvatureWarning")
def test_hessian_path_is_its_products():
    dense = dense_problem("hessian", "bias free", weighted=True)
    spectrum = Hessian().factorize(dense.problem)
    path = spectrum.path(dense.queries)
    weights = dense.problem.example_weights.numpy()
    masks = np.random.RandomState(0).rand(4, N) < 0.5
    for damping in (1e-2, 1.0):
        expected = -with_negative(dense, NEGATIVE["drop"], damping) * weights
        np.testing.assert_allclose(path.scores(damping), expected, rtol=1e-8)
        sums = path.subset_sums(masks).at(damping)
        np.testing.assert_allclose(sums, expected @ masks.T, rtol=1e-8, atol=1e-12)
    xi = path.xi([1e-3, 1e2])
    assert ((xi > 0) & (xi <= 1)).all()


def test_of_a_convex_model_the_hessian_is_gauss_newton():
    dense = dense_problem("hessian", "constant", depth=1)
    problem = replace(dense.problem, penalty=dense.problem.penalty * 1e-3)
    own, other = (kind().factorize(problem) for kind in (Hessian, GaussNewton))
    assert auto_damping(own) == pytest.approx(auto_damping(other), rel=1e-6)
    found, expected = (f.products(dense.queries, 0.01) for f in (own, other))
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_hessian_kept_as_it_is_warns_below_its_smallest_eigenvalue():
    dense = dense_problem("hessian")
    spectrum = Hessian("keep").factorize(dense.problem)
    smallest = float(spectrum.eigenvalues[0])
    assert auto_damping(spectrum) >= -1.5 * smallest
    with pytest.warns(NegativeCurvatureWarning, match="smallest eigenvalue"):
        spectrum.products(dense.queries, -0.5 * smallest)


@pytest.mark.parametrize("penalty", ["none", "constant", "bias free"])
def test_dropping_says_how_much_of_the_spectrum_is_left_out(penalty):
    dense = dense_problem("hessian", penalty, weighted=True)
    s = np.linalg.eigvalsh(dense.curvature)
    negative = s[s < -1e-12 * np.abs(s).max()]
    assert 0 < len(negative) < len(s)
    share = 100 * np.abs(negative).sum() / np.abs(s).sum()
    said = rf"{len(negative)} of the Hessian's {len(s)} eigenvalues.* {share:.1f}% of the sum"
    with pytest.warns(NegativeCurvatureWarning, match=said) as caught:
        Hessian().factorize(dense.problem)
    assert len(caught) == 1
    for other in ("absolute", "keep"):  # a warning would be an error
        Hessian(other).factorize(dense.problem)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_of_a_convex_model_is_no_negative_curvature(dtype):
    """Of ten classes' logits one is redundant: many eigenvalues are 0, some rounded below."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(60, 20, generator=generator).to(dtype)
    net = nn.Linear(20, 10).to(dtype)
    with torch.no_grad():
        net.weight.normal_(generator=generator)
    task = as_task(net, loss=nn.CrossEntropyLoss())
    labels = torch.arange(60) % 10
    fitted = InfluenceFunction("hessian", 0.1).fit(task, X, labels)
    assert fitted.eigenvalues_.min() > -1e-6 * fitted.eigenvalues_.max()


def test_hessian_too_large_is_refused():
    dense = dense_problem("hessian", max_memory=50_000)
    with pytest.raises(ResourceError, match=r"43 x 43 matrix.*Arnoldi"):
        Hessian().factorize(dense.problem)


@pytest.mark.parametrize("penalty", ["none", "constant", "bias free"])
@pytest.mark.parametrize("curvature", EXACT_LOW_RANK, ids=str)
def test_full_rank_is_exact(curvature, penalty):
    dense = dense_problem("ggn", penalty, weighted=True)
    for damping in (0.05, 3.0):
        found = products(curvature, dense, damping)
        np.testing.assert_allclose(found, dense.products(damping), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("curvature", [Arnoldi, Nystroem])
def test_full_rank_hessian_drops_negative_directions(curvature):
    dense = dense_problem("hessian", "constant")
    tol = {"tol": 0} if curvature is Arnoldi else {}
    found = products(curvature(60, "hessian", random_state=0, **tol), dense, 0.1)
    np.testing.assert_allclose(found, with_negative(dense, NEGATIVE["drop"], 0.1), rtol=1e-5)


LOW_RANK = [
    Arnoldi(rank=7, random_state=0),
    Arnoldi(rank=7, complement="drop", random_state=0),
    Nystroem(rank=7, random_state=0),
]


def low_rank_reference(curvature, dense, fitted):
    """Dense data curvature that a low-rank factorization stands for, from its own vectors."""
    basis = fitted.basis.numpy()
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-9)
    return basis


@pytest.mark.parametrize("penalty", ["none", "constant"])
@pytest.mark.parametrize("curvature", LOW_RANK, ids=str)
def test_low_rank_is_a_dense_solve_of_its_own_matrix(curvature, penalty):
    dense = dense_problem("ggn", penalty, weighted=True)
    fitted = curvature.factorize(dense.problem)
    basis = low_rank_reference(curvature, dense, fitted)
    constant = float(dense.problem.penalty[0])
    values = fitted.eigenvalues.numpy() - constant
    matrix = (basis * values) @ basis.T + constant * np.eye(len(basis))
    weights = dense.problem.example_weights.numpy()
    keep = np.eye(len(basis))
    if getattr(curvature, "complement", "damping") == "drop":
        keep = basis @ basis.T
    path = fitted.path(dense.queries)
    masks = np.random.RandomState(1).rand(5, N) < 0.5
    for damping in (0.05, 3.0):
        shifted = matrix + damping * np.eye(len(matrix))
        inverse = keep @ np.linalg.inv(shifted)
        expected = dense.query @ inverse @ dense.train.T
        found = fitted.products(dense.queries, damping)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-11)
        own = np.einsum("jp,pq,jq->j", dense.train, inverse, dense.train)
        np.testing.assert_allclose(fitted.self_products(damping), own, rtol=1e-8)
        sums = path.subset_sums(masks)
        expected = -(expected * weights) @ masks.T
        np.testing.assert_allclose(sums.at(damping), expected, rtol=1e-8, atol=1e-11)
        np.testing.assert_allclose(sums.at([damping, 1.0])[0], expected, rtol=1e-8, atol=1e-11)
        data = (basis * values) @ basis.T
        xi = surrogate_indicator(dense.query, data, np.linalg.inv(shifted))
        np.testing.assert_allclose(path.xi([damping])[0], xi, rtol=1e-8)
    rows = torch.tensor([2, 0])
    train = fitted.train_path(rows).products(0.1).numpy()
    inverse = keep @ np.linalg.inv(matrix + 0.1 * np.eye(len(matrix)))
    expected = dense.train[[2, 0]] @ inverse @ dense.train.T
    np.testing.assert_allclose(train, expected, rtol=1e-8, atol=1e-11)


def test_arnoldi_finds_the_leading_pairs():
    dense = dense_problem("hessian")
    fitted = Arnoldi(5, "hessian", n_iterations=43, tol=0, random_state=0).factorize(dense.problem)
    s = np.linalg.eigvalsh(dense.data)
    leading = np.sort(s[np.argsort(-np.abs(s))[:5]])
    np.testing.assert_allclose(fitted.eigenvalues, leading, rtol=1e-8)
    assert float(fitted.residuals.max()) < 1e-8


def test_lanczos_residuals_are_true_and_it_stops_early():
    matrix = torch.diag(torch.linspace(0, 1, 80, dtype=torch.float64) ** 6)
    calls = []

    def multiply(rows):
        calls.append(len(rows))
        return rows @ matrix

    found = lanczos(multiply, normal_rows(3, matrix[0], 0), 4, 70, tolerance=1e-3)
    true = (found.vectors @ matrix - found.values[:, None] * found.vectors).norm(dim=1)
    np.testing.assert_allclose(found.residuals, true, atol=1e-9)
    assert sum(calls) == found.n_products < 70
    assert extreme_eigenvalues(multiply, matrix[0])[1] == pytest.approx(1.0, rel=1e-3)


def test_lanczos_goes_on_behind_an_invariant_subspace():
    matrix = torch.diag(torch.tensor([3.0, 3.0, 3.0, 3.0, 1.0, 0.0, 0.0, -2.0]).double())
    found = lanczos(lambda rows: rows @ matrix, normal_rows(1, matrix[0], 0), 8, 8)
    np.testing.assert_allclose(found.values, matrix.diagonal().sort().values, atol=1e-10)


def test_lanczos_without_a_seed_stops_there():
    matrix = torch.diag(torch.tensor([3.0, 2.0, 5.0, 4.0]).double())
    start = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).double()
    found = lanczos(lambda rows: rows @ matrix, start, 4, 4, seed=None)
    np.testing.assert_allclose(found.values, [2.0, 3.0], rtol=1e-12)
    assert found.n_products == 2


def test_nystroem_is_its_formula():
    root = torch.randn(30, 30, dtype=torch.float64) * torch.logspace(0, -4, 30).double()
    matrix, rows = root @ root.mT, torch.randn(6, 30, dtype=torch.float64)
    vectors, values = nystroem(lambda v: v @ matrix, rows)
    image = matrix @ rows.mT
    expected = image @ torch.linalg.pinv(rows @ image) @ image.mT
    np.testing.assert_allclose((vectors.mT * values) @ vectors, expected, atol=1e-9)


SOLVERS = [
    ConjugateGradient(rtol=1e-10),
    ConjugateGradient(rtol=1e-10, preconditioner=None),
    ConjugateGradient(rtol=1e-10, preconditioner_rank=6, random_state=0),
    LiSSA(rows_per_step=None, rtol=1e-10),
]


@pytest.mark.parametrize("penalty", ["constant", "bias free"])
@pytest.mark.parametrize("matrix", ["ggn", "hessian"])
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_solvers_reach_the_dense_solution(solver, matrix, penalty):
    dense = dense_problem(matrix, penalty, weighted=True)
    solver = type(solver)(**{**solver.get_params(), "matrix": matrix})
    fitted = solver.factorize(dense.problem)
    found = fitted.solution(dense.queries, 1.0)
    np.testing.assert_allclose(found.products, dense.products(1.0), rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(found.products, fitted.products(dense.queries, 1.0))
    assert (found.residuals <= 1e-10).all()
    assert (found.iterations > 0).all()
    assert found.residuals.shape == (len(dense.queries),)


def test_conjugate_gradients_bring_each_system_to_its_tolerance():
    dense = dense_problem("ggn")
    vectors = torch.randn(5, len(dense.curvature), dtype=torch.float64)
    vectors[1] = 0
    vectors[2] *= 1e-6  # tolerances are relative
    for rtol in (1e-2, 1e-6):
        fitted = ConjugateGradient(rtol=rtol, preconditioner=None).factorize(dense.problem)
        solution = fitted.solve(vectors, 0.01)
        left = vectors.numpy() - solution.products.numpy() @ (dense.curvature + 0.01 * np.eye(43))
        norms = np.linalg.norm(vectors, axis=1)
        residuals = np.linalg.norm(left, axis=1) / np.where(norms > 0, norms, 1)
        np.testing.assert_allclose(solution.residuals, residuals, atol=1e-12)
        assert (residuals <= rtol).all()
        assert solution.products[1].abs().max() == 0
        assert solution.iterations[1] == 0
    together = fitted.solve(vectors, 0.01).products
    alone = torch.cat([fitted.solve(v[None], 0.01).products for v in vectors])
    np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("solver", SOLVERS[1::3], ids=str)
def test_vectors_whose_norms_underflow_are_solved(solver):
    dense = dense_problem("ggn", "constant")
    fitted = solver.factorize(dense.problem)
    vectors = torch.randn(2, len(dense.curvature), dtype=torch.float64)
    expected = fitted.solve(vectors, 1.0).products
    found = fitted.solve(vectors * 1e-164, 1.0).products
    np.testing.assert_allclose(found * 1e164, expected, rtol=1e-6)


@pytest.mark.parametrize("name", [None, "nystroem"])
def test_null_directions_without_damping(name):
    """A constant on all logits changes nothing, and the intercepts have no penalty."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    model = LogisticRegression().fit(X, y)
    exact = InfluenceFunction("ggn", 0.0).fit(model, X, y).score(X[:5], y[:5])
    solver = ConjugateGradient(preconditioner=name, rtol=1e-6)
    found = InfluenceFunction(solver, 0.0).fit(model, X, y).score(X[:5], y[:5])
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4 * np.abs(exact).max())


def test_a_preconditioner_saves_iterations():
    dense = dense_problem("ggn")
    taken = {}
    for name in (None, "nystroem"):
        solver = ConjugateGradient(preconditioner=name, preconditioner_rank=12, random_state=0)
        fitted = solver.factorize(dense.problem)
        taken[name] = fitted.solution(dense.queries, 1e-3).iterations.mean()
    assert taken["nystroem"] < 0.7 * taken[None]


def test_automatic_damping_of_a_truncated_spectrum_grows_with_what_is_left_out():
    dense = dense_problem("ggn")
    for kind in (Arnoldi, Nystroem):
        few, many, all_ = (
            kind(rank, random_state=0).factorize(dense.problem) for rank in (3, 9, 60)
        )
        assert auto_damping(few) > auto_damping(many) > auto_damping(all_) > 0
    assert auto_damping(Arnoldi(60, random_state=0).factorize(dense.problem)) == pytest.approx(
        sketch_damping(dense.problem)
    )


def test_damping_of_a_projection_makes_up_for_what_it_spreads():
    torch.manual_seed(0)
    task = as_task(nn.Linear(40, 20, bias=False).double(), loss=nn.MSELoss())
    X = torch.randn(1000, 40, dtype=torch.float64)
    weights, penalty = torch.full((1000,), 1e-3).double(), torch.zeros(800).double()
    examples = make_examples(task, X, torch.randn(1000, 20, dtype=torch.float64))
    problem = CurvatureProblem(
        Gradients(GradientEngine(task), examples, loss_cotangent(task)), weights, penalty
    )
    small = replace(problem, projection_dim=512, random_state=0)
    smallest = GaussNewton().factorize(small).data_eigenvalues.min()
    assert sketch_damping(problem) >= float(smallest) > 0


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
def test_default_damping_of_a_singular_matrix_is_not_zero():
    """Four orthogonal rows score as inner products of gradients do, whatever the damping is."""
    X = torch.eye(8, dtype=torch.float64)
    task = as_task(nn.Linear(8, 1, bias=False).double(), loss=nn.MSELoss())
    influence = InfluenceFunction("cg").fit(task, X[:4], torch.ones(4, 1).double())
    assert influence.damping_ == pytest.approx(2 / 4)  # the eigenvalue of 2 xxᵀ / 4
    scores = influence.score(X, torch.ones(8, 1).double())
    assert (np.diag(scores) > 0).all() and np.abs(scores[4:]).max() < 1e-12


def test_too_few_iterations_are_reported():
    dense = dense_problem("ggn")
    fitted = ConjugateGradient(max_iter=3, preconditioner=None).factorize(dense.problem)
    with pytest.warns(ConvergenceWarning, match="6 of 6 systems did not reach rtol=1e-05"):
        found = fitted.solution(dense.queries, 1e-4)
    assert (found.iterations == 3).all()
    assert (found.residuals > 1e-5).all()


def test_negative_curvature_is_explained_and_auto_damping_is_above_it():
    dense = dense_problem("hessian")
    smallest = np.linalg.eigvalsh(dense.data)[0]
    fitted = ConjugateGradient("hessian").factorize(dense.problem)
    with pytest.raises(ValueError, match="not positive definite") as caught:
        fitted.products(dense.queries, -0.1 * smallest)
    assert f"about {smallest:.3g}" in str(caught.value)
    assert "use matrix='ggn'" in str(caught.value)
    assert auto_damping(fitted) >= -1.4 * smallest
    fitted.products(dense.queries, auto_damping(fitted))


@pytest.mark.filterwarnings("ignore:LiSSA takes up to")
@pytest.mark.parametrize("solver", [ConjugateGradient(), LiSSA(scale=1e-4, random_state=0)])
def test_gauss_newton_is_not_advised_where_it_is_used(solver):
    dense = dense_problem("ggn")
    with pytest.raises(ValueError, match=r"not positive definite|diverges") as caught:
        solver.factorize(dense.problem).products(dense.queries, -1e-3)
    assert "matrix=" not in str(caught.value)


def test_lissa_with_batches_comes_near_the_solution_as_repeats_grow():
    dense = dense_problem("ggn", "constant")
    expected, errors = dense.products(1.0), []
    for repeats in (1, 9):
        lissa = LiSSA(rows_per_step=10, repeats=repeats, rtol=1e-2, random_state=0)
        found = products(lissa, dense, 1.0)
        errors.append(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    assert errors[0] < 0.5
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.filterwarnings("ignore:LiSSA takes up to")
def test_a_diverging_series_is_stopped_with_the_numbers():
    dense = dense_problem("ggn")
    largest = np.linalg.eigvalsh(dense.data)[-1]
    fitted = LiSSA(scale=largest / 4, rows_per_step=None).factorize(dense.problem)
    with pytest.raises(
        ValueError, match=r"^damping: LiSSA diverges at [\d.e-]+: after \d\d? terms"
    ) as caught:
        fitted.products(dense.queries, 1e-3)
    assert f"eigenvalue found is {fitted.largest_:.3g}" in str(caught.value)
    assert fitted.largest_ == pytest.approx(largest, rel=0.05)


def test_a_series_that_is_too_short_warns():
    dense = dense_problem("ggn", "constant")
    fitted = LiSSA(depth=3, rows_per_step=10).factorize(dense.problem)
    with pytest.warns(ConvergenceWarning, match="Raise depth"):
        fitted.products(dense.queries, 1e-3)


@pytest.mark.parametrize("curvature", [Arnoldi(rank=2000), Nystroem(rank=2000)], ids=str)
def test_vectors_that_do_not_fit_are_refused(curvature):
    dense = dense_problem("ggn", max_memory=10_000)
    words = (
        rf"^max_memory: the [\d,]+ vectors of \d+ parameters of {re.escape(str(curvature))} need "
        r"[\d.]+ [kM]B, but max_memory is 10\.0 kB\. Lower its rank, or raise max_memory\.$"
    )
    with pytest.raises(ResourceError, match=words):
        curvature.factorize(dense.problem)


def test_batches_of_a_series_go_through_all_examples():
    dense = dense_problem("ggn")
    fitted = LiSSA(rows_per_step=5).factorize(dense.problem)
    drawn = list(fitted._batches(10, seed=3))
    for epoch in (drawn[:5], drawn[5:]):
        np.testing.assert_array_equal(torch.cat(epoch).sort().values, np.arange(N))
    assert not torch.equal(torch.cat(drawn[:5]), torch.cat(drawn[5:]))


def test_lanczos_stays_orthogonal_in_single_precision():
    values = torch.logspace(0, -12, 400)
    start = normal_rows(1, values, 0)
    vectors = lanczos(lambda rows: rows * values, start, 150, 150).vectors
    gap = vectors @ vectors.mT - torch.eye(len(vectors))
    assert float(gap.abs().max()) < 1e-5
