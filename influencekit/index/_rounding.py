"""What storing rows in few numbers of few bits costs, on a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from influencekit._estimate import even_rows
from influencekit.index._build import Plan
from influencekit.index._coordinates import Coordinates
from influencekit.index._shards import dequantized, quantized
from influencekit.utils._long_work import chunks

__all__ = ["rounding"]

#: Queries and rows of the sample.
QUERIES, ROWS = 32, 1000
#: Bytes of whole gradients in float64 that are held at once, and fewest queries.
ROOM, FEWEST = 2**28, 4


def rounding(coordinates: Coordinates, plan: Plan, dtype: str) -> dict[str, Any]:
    """Scores from stored rows, against those from rows in float64 and from whole gradients.

    Returns
    -------
    dict
        ``spearman`` and ``least_spearman`` over queries, and ``relative_error`` (root mean square),
        against rows in float64; the same with ``exact_`` against the attributor's own scores,
        which differ where the index projects; ``n_queries``, ``n_rows``.
    """
    whole, n = coordinates.whole(), plan.train.n_examples
    projects = whole.dim != coordinates.dim
    most = max(FEWEST, min(QUERIES, ROOM // (8 * whole.dim))) if projects else QUERIES
    asked, sampled = even_rows(n, most), even_rows(n, ROWS)
    stored = _scores(coordinates, plan, asked, sampled, dtype)
    plain = _scores(coordinates, plan, asked, sampled)
    found = {**_compared(stored, plain), "n_queries": len(asked), "n_rows": len(sampled)}
    if projects:
        rows = max(1, ROOM // (8 * whole.dim))
        plain = _scores(whole, plan, asked, sampled, each=rows)
    exact = {f"exact_{name}": value for name, value in _compared(stored, plain).items()}
    return {**found, **exact}


def _scores(
    coordinates: Coordinates,
    plan: Plan,
    asked: np.ndarray,
    sampled: np.ndarray,
    dtype: str | None = None,
    each: int = ROWS,
) -> Tensor:
    """Scores of some queries and rows, float64; with a dtype, of rows as they are stored."""
    queries, parts = coordinates.queries(plan.train.take(asked).gathered()), []
    for part in chunks(len(sampled), 1, each):
        some, learned = plan.of_rows(sampled[part])
        rows = coordinates.rows(some.gathered(), learned)[0]
        rows = rows if dtype is None else dequantized(*quantized(rows, dtype))
        parts.append(coordinates.products(queries, rows))
    return coordinates.combined(torch.cat(parts, dim=2))


def _compared(stored: Tensor, exact: Tensor) -> dict[str, float]:
    """Rank correlations over queries, and the relative error."""
    pairs = [(a, b) for a, b in zip(exact.numpy(), stored.numpy(), strict=True) if np.ptp(a) > 0]
    found = [float(spearmanr(a, b).statistic) for a, b in pairs if np.ptp(b) > 0]
    size = float(exact.square().mean().sqrt())
    error = float((exact - stored).square().mean().sqrt())
    return {
        "spearman": float(np.mean(found)) if found else 1.0,
        "least_spearman": float(np.min(found)) if found else 1.0,
        "relative_error": error / size if size > 0 else 0.0,
    }
