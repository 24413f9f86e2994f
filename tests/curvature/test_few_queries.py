"""Products of few queries, which make no outer products of the training side."""

import pytest
import torch

from influencekit.curvature.kronecker._scores import Tile, add_products
from influencekit.gradients.blocks._base import BlockSpec
from influencekit.gradients.blocks._outer import OuterBlock


@pytest.mark.parametrize("n_query", [1, 3, 4, 5, 9])
@pytest.mark.parametrize(("d_out", "d_in"), [(3, 8), (8, 3), (1, 6), (6, 1)])
@pytest.mark.parametrize("workspace", [2**6, 2**20])
def test_products_of_few_and_of_many_queries_are_those_of_dense_rows(
    n_query, d_out, d_in, workspace
):
    torch.manual_seed(0)
    spec = BlockSpec("layer", (slice(0, d_out * d_in),), d_out, d_in)
    sizes = {"query": n_query, "train": 11}
    blocks = {
        side: OuterBlock(
            spec,
            torch.randn(n, 1, d_in, dtype=torch.float64),
            torch.randn(n, 1, 1, d_out, dtype=torch.float64),
        )
        for side, n in sizes.items()
    }
    table = torch.rand(d_out, d_in, dtype=torch.float64) + 0.1
    tiles = [Tile(slice(0, d_out), slice(0, d_in), table=table)]
    out = torch.ones(n_query, sizes["train"], dtype=torch.float64)
    add_products(blocks["query"], blocks["train"], table.flatten(), tiles, out, workspace)
    dense = [torch.einsum("io,ik->iok", b.b[:, 0, 0], b.a[:, 0]) for b in blocks.values()]
    expected = 1 + torch.einsum("iok,ok,jok->ij", dense[0], table, dense[1])
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
