"""Products of queries with stored rows are those of float64, in whatever form rows are stored."""

import numpy as np
import pytest
import torch

from influencekit.index import _products
from influencekit.index._products import Products

DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}


def rows_and_queries(dtype, dim=300):
    rng = np.random.default_rng(0)
    rows = rng.integers(-127, 128, (5000, dim))
    rows[:2] = [[127], [-127]]
    queries = rng.normal(size=(3, dim)) * [[1e-30], [1.0], [1e20]]
    queries[1] = 1.0  # with the rows of one sign, the largest sum there can be
    return torch.from_numpy(rows).to(dtype), torch.from_numpy(queries)


@pytest.mark.parametrize("integers", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_are_those_of_float64(dtype, integers, monkeypatch):
    if not integers:
        monkeypatch.setattr(_products, "_has_exact_integers", lambda _: False)
    rows, queries = rows_and_queries(DTYPES[dtype])
    expected = queries.numpy() @ rows.double().numpy().T
    products = Products(queries, rows.dtype)
    found = products(rows).numpy() * products.sizes
    lengths = queries.norm(dim=1, keepdim=True) * rows.double().norm(dim=1)
    assert np.abs((found - expected) / lengths.numpy()).max() < 1e-6
    # the same bits in whatever blocks rows come
    if products.digits is not None:
        np.testing.assert_array_equal(products(rows[7:50]), products(rows)[:, 7:50])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_query_that_is_not_finite_gives_no_numbers(dtype):
    rows, queries = rows_and_queries(DTYPES[dtype])
    queries[0, 5], queries[2, 5] = np.nan, np.inf
    products = Products(queries, rows.dtype)
    found = products(rows).numpy() * products.sizes
    assert np.isnan(found[[0, 2]]).all()
    assert np.isfinite(found[1]).all()
