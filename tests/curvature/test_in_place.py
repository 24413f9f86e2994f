"""Wide matrices that are worked on in place: the same numbers as from copies, in less memory."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.curvature import ConjugateGradient, LoGra, Nystroem
from influencekit.curvature._second_route import RowProducts
from influencekit.curvature.low_rank._orthonormal import (
    mix_rows,
    orthonormalize,
    right_singular_rows,
)
from influencekit.exceptions import ProjectionWarning, ResourceError
from tests._shared.marks import NOT_TRAINED

pytestmark = NOT_TRAINED

RNG = np.random.default_rng(0)


def rows(k, p, spread, dtype=torch.float64):
    """Rows whose singular values fall from 1 to ``spread``."""
    left, right = (np.linalg.qr(RNG.normal(size=(n, k)))[0] for n in (k, p))
    return torch.from_numpy((left * np.geomspace(1, spread, k)) @ right.T).to(dtype)


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6])
@pytest.mark.parametrize("p", [8, 70, 40_000])
def test_rows_become_orthonormal_and_give_back_what_they_were(p, spread):
    given = rows(8, p, spread)
    found = given.clone()
    mixing = orthonormalize(found)
    np.testing.assert_allclose(found @ found.mT, np.eye(8), atol=1e-13)
    np.testing.assert_allclose(mixing @ found, given, atol=1e-14)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_right_singular_rows_are_those_of_a_decomposition(dtype, atol):
    given = rows(6, 50_000, 1e-2, dtype)
    found = given.clone()
    values = right_singular_rows(found)
    _, singular, vectors = np.linalg.svd(given.double().numpy(), full_matrices=False)
    np.testing.assert_allclose(values, singular[::-1], rtol=1e-5)
    cosines = np.abs((found.double().numpy() * vectors[::-1]).sum(1))
    np.testing.assert_allclose(cosines, 1.0, atol=atol)


def test_fewer_mixed_rows_lie_in_front():
    given, mixing = rows(6, 90_000, 0.5), torch.from_numpy(RNG.normal(size=(2, 6)))
    found = given.clone()
    mix_rows(mixing, found)
    np.testing.assert_allclose(found[:2], mixing @ given, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(found[2:], given[2:])


def fitted(curvature, max_memory, width=40, n=90, damping=1.0):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, width), nn.Tanh(), nn.Linear(width, 3)).double()
    X, y = torch.randn(n, 20).double(), torch.arange(n) % 3
    how = InfluenceFunction(
        copy.deepcopy(curvature), damping, max_memory=max_memory, random_state=0
    )
    return how.fit(as_task(net, loss=nn.CrossEntropyLoss()), X, y), X, y


def test_solvers_take_fewer_systems_together_where_they_hold_more():
    """Twenty gradients of 963 numbers of 8 bytes; half of the memory is for solving."""
    cg, X, y = fitted(ConjugateGradient(preconditioner=None), 600_000)
    chunks = list(cg.fitted_[0].curvature._chunks(20))
    assert {c.stop - c.start for c in chunks} <= {300_000 // (16 * 963 * 8), 2}
    many, _, _ = fitted(ConjugateGradient(preconditioner=None), "1GB")
    np.testing.assert_allclose(cg.score(X[:6], y[:6]), many.score(X[:6], y[:6]), rtol=1e-3)


def test_nystroem_needs_memory_for_three_matrices_of_its_rank():
    n_bytes = 3 * 50 * 963 * 8
    whole, X, y = fitted(Nystroem(50), "1GB")
    tight, _, _ = fitted(Nystroem(50), n_bytes + 1)
    np.testing.assert_allclose(tight.score(X[:6], y[:6]), whole.score(X[:6], y[:6]), rtol=1e-6)
    with pytest.raises(ResourceError, match=r"max_memory: the 150 vectors of 963 parameters"):
        fitted(Nystroem(50), n_bytes - 1)


def test_logra_counts_the_sums_of_all_layers():
    with pytest.warns(ProjectionWarning, match="which fits into max_memory"):
        few, _, _ = fitted("logra", 1_000_000)
    spectrum = few.fitted_[0].curvature
    sums = sum(8 * len(basis) ** 2 for _, basis in spectrum.bases)
    assert sums + spectrum.train_coordinates.nbytes < 1_000_000
    assert spectrum.projections.rank >= 2
    exact, X, y = fitted(LoGra(rank=few.fitted_[0].curvature.projections.rank), "1GB")
    np.testing.assert_allclose(few.score(X[:6], y[:6]), exact.score(X[:6], y[:6]), rtol=1e-8)


def test_products_from_rows_in_parts_are_those_of_the_matrix():
    one, _, _ = fitted("ggn", "1GB", n=30)
    problem = one.fitted_[0].curvature.problem
    products = RowProducts(problem)
    matrix = products(torch.eye(963).double(), None)
    vectors = torch.from_numpy(RNG.normal(size=(7, 963)))
    products._together = lambda *_: [slice(i, i + 2) for i in range(0, 8, 2)]
    np.testing.assert_allclose(products(vectors, None), vectors @ matrix, atol=1e-10)
