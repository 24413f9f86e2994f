"""The best rows are those of a scan of all rows in float64, in whatever form they are stored."""

import itertools

import numpy as np
import pytest
import torch

from influencekit.index import _products
from influencekit.index._scan import best_rows
from influencekit.index._shards import Shard

N, DIM = 1700, 40
STEPS = {"float32": 1, "float16": 1, "int8": 127}


def stored(dtype, scales, seed=0):
    """Rows whose scores are close together: many copies, and many that differ in the last bits."""
    rng = np.random.default_rng(seed)
    rows = rng.uniform(-1, 1, (N, DIM))
    rows[:, 0] = 1.0
    rows[500:900] = rows[:400]
    rows[1000:1400] = rows[:400] * np.where(rng.random((400, DIM)) < 0.1, 1 + 2e-6, 1.0)
    rows[1400] = rows[1500] = 0.0
    if dtype == "int8":
        rows = np.round(127 * rows)
    scales = np.resize(np.asarray(scales, dtype=float), N)
    scales[1600] = 0.0
    return np.ascontiguousarray(rows.astype(dtype)), scales


def shards_of(rows, scales, bounds):
    columns = torch.from_numpy(np.c_[scales, scales, scales])  # a column has steps, as in files
    return [
        Shard(torch.from_numpy(rows[a:b]), columns[a:b, 0], columns[a:b, 1], columns[a:b, 2:])
        for a, b in itertools.pairwise(bounds)
    ]


def by_hand(queries, rows, scales, k, sign, among):
    """The largest scores, one long product after the other, and equal ones in row order."""
    scores = (queries[:, None, :] * rows.astype(np.float64)[None]).sum(2) * scales
    best = np.argsort(-sign * np.where(among, scores, -sign * np.inf), axis=1, kind="stable")
    return best[:, :k], np.take_along_axis(scores, best[:, :k], axis=1)


@pytest.fixture(params=["fast", "plain"])
def arithmetic(request, monkeypatch):
    """With the processor's short products where it has them, and without."""
    if request.param == "plain":
        monkeypatch.setattr(_products, "_has_exact_integers", lambda: False)
        monkeypatch.setattr(_products, "_has_exact_halves", lambda: False)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize(("m", "sign"), [(1, 1.0), (5, -1.0)])
@pytest.mark.parametrize("scales", [[1.0], [1e-3, 2.0, 7e-9, 1.0]], ids=["alike", "unlike"])
@pytest.mark.parametrize("dtype", STEPS)
def test_best_rows_are_those_of_float64(dtype, scales, m, sign):
    rng = np.random.default_rng(m)
    rows, scales = stored(dtype, scales)
    queries = rng.normal(size=(m, DIM)) * rng.uniform(1e-9, 1e9, (m, 1))
    queries[-1] -= 4 * np.abs(queries[-1]).max() * (np.arange(DIM) == 0)  # all scores negative
    shards = shards_of(rows, scales, [0, 700, 701, 1300, N])
    for k, among in ((1, np.ones(N, bool)), (10, rng.random(N) < 0.7), (N, np.ones(N, bool))):
        found, scored = best_rows(torch.from_numpy(queries), shards, k, sign, among)
        expected, exact = by_hand(queries, rows, scales, k, sign, among)
        np.testing.assert_allclose(scored, exact, rtol=0, atol=1e-12 * np.abs(exact).max())
        np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("dtype", STEPS)
def test_equal_rows_come_in_row_order(dtype):
    rows, _ = stored(dtype, [1.0])
    rows[:] = rows[3]
    queries = np.random.default_rng(0).normal(size=(3, DIM))
    for bounds in ([0, N], [0, 1, 3, 999, N]):
        shards = shards_of(rows, np.ones(N), bounds)
        found, scores = best_rows(torch.from_numpy(queries), shards, 12, 1.0, None)
        np.testing.assert_array_equal(found, np.tile(np.arange(12), (3, 1)))
        assert np.ptp(scores, axis=1).max() == 0
