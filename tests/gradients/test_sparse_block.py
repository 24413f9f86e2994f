"""Every operation of a block with sparse inputs, against numpy on its dense rows."""

import numpy as np
import pytest
import torch
from scipy import sparse

from influencekit.gradients._features import GradientFeatures
from influencekit.gradients.blocks._base import BlockSpec
from influencekit.gradients.blocks._outer import OuterBlock
from influencekit.gradients.blocks._sparse import SparseBlock, SparseInputs

N, D_IN, D_OUT = 9, 5, 3
RNG = np.random.default_rng(0)
X = sparse.random(20, D_IN, 0.4, format="csr", random_state=0)


@pytest.fixture(params=[(r, bias, means) for r in (1, 2) for bias in (0, 1) for means in (0, 1)])
def pair(request):
    """A block and its dense rows (N, R, p)."""
    r, bias, centered = request.param
    index = torch.tensor([4, 0, 7, 7, 19, 3, 2, 11, 5])
    b = torch.from_numpy(RNG.normal(size=(N, r, 1, D_OUT)))
    means = torch.from_numpy(RNG.normal(size=D_IN)) if centered else None
    columns = (slice(0, D_IN * D_OUT), slice(D_IN * D_OUT, (D_IN + 1) * D_OUT))[: 1 + bias]
    spec = BlockSpec("linear", columns, D_OUT, D_IN, bool(bias))
    inputs = X.toarray()[index.numpy()] - (means.numpy() if centered else 0.0)
    outputs = b[:, :, 0].numpy()
    rows = np.einsum("nro,ni->nroi", outputs, inputs).reshape(N, r, -1)
    rows = np.concatenate([rows, outputs], axis=2) if bias else rows
    return SparseBlock(spec, index, b, SparseInputs(X, means)), rows


def features(block):
    return GradientFeatures({"linear": block}, N, block.rows_per_example, block.spec.width)


def test_sums_and_products(pair):
    block, rows = pair
    own, flat = features(block), rows.reshape(-1, rows.shape[2])
    matrix = torch.from_numpy(RNG.normal(size=(flat.shape[1], 4)))
    weights = torch.from_numpy(RNG.uniform(size=(2, len(flat))))
    for found, expected in (
        (own.materialize(), flat),
        (own.squared_norms(), (flat**2).sum(1)),
        (own.matmul(matrix), flat @ matrix.numpy()),
        (own.weighted_sums(weights), weights.numpy() @ flat),
        (own.gram(), flat @ flat.T),
        (own[2:5].dot(own), flat.reshape(rows.shape)[2:5].reshape(-1, flat.shape[1]) @ flat.T),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    for given in (None, weights[0]):
        out = torch.zeros(flat.shape[1], flat.shape[1], dtype=torch.float64)
        own.add_covariance(given, out)
        scale = 1.0 if given is None else given.numpy()
        np.testing.assert_allclose(out, (flat.T * scale) @ flat, rtol=0, atol=1e-12)


def test_products_with_dense_rows_of_the_same_kind(pair):
    block, rows = pair
    flat = rows.reshape(-1, rows.shape[2])
    a = torch.from_numpy(RNG.normal(size=(4, 1, D_IN)))
    dense = OuterBlock(block.spec, a, torch.from_numpy(RNG.normal(size=(4, 2, 1, D_OUT))))
    for left, right in ((block, dense), (dense, block)):
        out = torch.zeros(left.n_rows, right.n_rows, dtype=torch.float64)
        left.add_dot(right, out)
        expected = flat @ dense.dense().numpy().T
        expected = expected if left is block else expected.T
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-12)


def test_both_sides_and_squares(pair):
    block, rows = pair
    bias, dense = block.spec.has_bias, rows[:, :, : D_IN * D_OUT].reshape(N, -1, D_OUT, D_IN)
    if bias:
        dense = np.concatenate([dense, rows[:, :, D_IN * D_OUT :, None]], axis=3)
    outputs, inputs = (torch.from_numpy(RNG.normal(size=(d, 2))) for d in (D_OUT, D_IN + bias))
    expected = np.einsum("ok,nroi,il->nrkl", outputs, dense, inputs)
    np.testing.assert_allclose(block.two_sided(outputs, inputs), expected, rtol=0, atol=1e-12)
    forms = np.einsum("ok,nroi,ik->nrk", outputs, dense, inputs).reshape(-1, 2)
    np.testing.assert_allclose(block.forms(outputs, inputs), forms, rtol=0, atol=1e-12)
    weights, out = torch.rand(N, dtype=torch.float64), torch.zeros(rows.shape[2]).double()
    block.add_squares(weights, out)
    np.testing.assert_allclose(out, np.einsum("n,nrp->p", weights, rows**2), rtol=0, atol=1e-12)
