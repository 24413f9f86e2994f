"""Differences of linear datamodeling scores on the same subsets, and their standard errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata


def correlations(sums: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Spearman correlation of each query over subsets; both are (n_query, n_subsets)."""
    a, b = (rankdata(rows, axis=1) for rows in (sums, outputs))
    a, b = (rows - rows.mean(1, keepdims=True) for rows in (a, b))
    lengths = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return (a * b).sum(1) / np.where(lengths > 0, lengths, 1.0)


def bootstrapped(sums: Sequence[np.ndarray], outputs: np.ndarray, n_bootstraps: int) -> np.ndarray:
    """LDS of several scores' sums (n_scores, 1 + n_bootstraps): of all subsets, then of draws."""
    rng, n = np.random.default_rng(0), outputs.shape[1]
    some = [np.arange(n), *(rng.integers(n, size=n) for _ in range(n_bootstraps))]
    return np.array([[correlations(s[:, r], outputs[:, r]).mean() for r in some] for s in sums])
