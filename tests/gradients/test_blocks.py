"""What a block computes from the form it is held in, against its dense rows."""

import numpy as np
import pytest
import torch

from influencekit.gradients.blocks._base import BlockSpec, add_products
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._index import IndexBlock
from influencekit.gradients.blocks._outer import OuterBlock

N, R, D_OUT, D_IN = 7, 2, 4, 3


def spec(bias):
    columns = (slice(0, D_OUT * D_IN), slice(D_OUT * D_IN, D_OUT * (D_IN + 1)))
    return BlockSpec("layer", columns if bias else columns[:1], D_OUT, D_IN, bias)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def outer(length, bias, rows=R):
    return OuterBlock(spec(bias), random(N, length, D_IN), random(N, rows, length, D_OUT))


def index(rows=R):
    found = torch.arange(N * 5).view(N, 5) ** 2 % D_OUT
    return IndexBlock(spec(False), found, random(N, rows, 5, D_IN))


def dense(bias, rows=R):
    return DenseBlock(spec(bias), random(N, rows, spec(bias).width))


KINDS = {
    "one product": lambda rows: outer(1, False, rows),
    "one product, bias": lambda rows: outer(1, True, rows),
    "sequence, bias": lambda rows: outer(5, True, rows),
    "embedding": index,
    "dense": lambda rows: dense(False, rows),
    "dense, bias": lambda rows: dense(True, rows),
}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=list(KINDS))


def matrices(block):
    """Gradients (n, R, d_out, d_in), a bias as the last column."""
    rows = block.dense().view(N, block.rows_per_example, -1)
    weight = rows[..., : D_OUT * D_IN].unflatten(-1, (D_OUT, D_IN))
    return (
        torch.cat([weight, rows[..., D_OUT * D_IN :, None]], -1) if block.spec.has_bias else weight
    )


@kinds
def test_sums_of_squares(make):
    block, weights = make(R), torch.arange(1.0, N + 1, dtype=torch.float64)
    out = torch.ones(block.spec.width, dtype=torch.float64)
    block.add_squares(weights, out, workspace=400)
    rows = block.dense().view(N, R, -1)
    torch.testing.assert_close(out, 1 + torch.einsum("i,irk->k", weights, rows.square()))


@kinds
def test_quadratic_forms(make):
    block = make(1)
    tables = random(3, block.spec.width)
    expected = block.dense().square() @ tables.mT
    torch.testing.assert_close(block.quadratic_forms(tables, workspace=400), expected)


@kinds
@pytest.mark.parametrize("workspace", [200, 2**20])
def test_weighted_sums(make, workspace):
    block, weights = make(R), random(3, N, R)
    expected = weights.flatten(1) @ block.dense()
    torch.testing.assert_close(block.weighted_sums(weights, workspace), expected)


@kinds
def test_both_sides(make):
    block = make(R)
    held = matrices(block)
    left, right = random(D_OUT, 2), random(held.shape[-1], 2)
    expected = torch.einsum("ok,nroi,il->nrkl", left, held, right)
    torch.testing.assert_close(block.two_sided(left, right), expected)
    out = torch.ones(N * R, 2, dtype=torch.float64)
    block.add_forms(left, right, out, workspace=400)
    torch.testing.assert_close(out.view(N, R, 2), 1 + torch.einsum("nrkk->nrk", expected))


@kinds
def test_longer_and_elsewhere(make):
    block = make(R)
    torch.testing.assert_close(block.padded(9).dense(), block.dense())
    torch.testing.assert_close(DenseBlock.of(block).dense(), block.dense())
    elsewhere = BlockSpec("other", block.spec.columns, D_OUT, D_IN, block.spec.has_bias)
    moved = block.with_spec(elsewhere)
    assert type(moved) is type(block) and moved.spec.name == "other"
    torch.testing.assert_close(moved.dense(), block.dense())


def test_products_of_few_long_rows_are_summed_in_a_finer_dtype():
    left, right = torch.zeros(3, 40_000), torch.zeros(2, 40_000)
    # one whole number in each part: float32 holds each product, and not their sum
    columns = torch.tensor([0, 20_000, 39_000])
    left[:, columns] = torch.tensor([[2.0**13, 1, 1], [2.0**14, 3, 1], [1, 2, 5]])
    right[:, columns] = torch.tensor([[2.0**13, 1, 3], [2.0**12, 1, 7]])
    out = torch.ones(3, 2, dtype=torch.float64)
    add_products(left, right, out)
    expected = 1 + left.double().numpy() @ right.double().numpy().T
    assert (expected[:2] != expected[:2].astype(np.float32)).any()
    np.testing.assert_array_equal(out.numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m"), [(3, 20), (20, 3), (40, 40)])
def test_products_of_rows_that_lie_either_way_in_memory(n, m, dtype):
    left, right = random(n, 20_000), random(m, 20_000)
    sides = (left, left.T.contiguous().T), (right, right.T.contiguous().T)
    room = {torch.float32: 2e-2, torch.float64: 1e-9}[dtype]  # of 20,000
    for a in sides[0]:
        for b in sides[1]:
            out = torch.ones(n, m, dtype=torch.float64)
            add_products(a.to(dtype), b.to(dtype), out)
            torch.testing.assert_close(out, 1 + left @ right.mT, rtol=0, atol=room)


@pytest.mark.parametrize("add", [False, True])
def test_an_outer_product_is_written_in_place(add):
    block, out = outer(5, False, 1), random(N, 1, D_OUT * D_IN + 3)
    before = out.clone()
    block.put(out[:, :, 3:], add=add)
    expected = torch.einsum("nto,nti->noi", block.b[:, 0], block.a).flatten(1)
    expected = expected + before[:, 0, 3:] * add
    torch.testing.assert_close(out[:, 0, 3:], expected)
    assert torch.equal(out[:, 0, :3], before[:, 0, :3])
