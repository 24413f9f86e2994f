"""What a correlation metric returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["LDSResult", "summarise"]


@dataclass(frozen=True)
class LDSResult:
    """Correlations per query and their mean.

    Attributes
    ----------
    mean : float
        Mean over the queries whose correlation is defined; NaN if there is none.
    standard_error : float
        Standard deviation over those queries / √(their number).  All queries share the
        same subsets, so it speaks of other queries, not of other subsets.  NaN with fewer
        than two defined queries.
    n_undefined : int
        Number of queries with constant scores or constant outputs.
    method : {"spearman", "pearson"}
    noise_ceiling : float or None
        Attainable correlation: what a perfect prediction of the expected output would be
        expected to reach, see `noise_ceiling`.  None without repeats.
    per_query : ndarray of shape (n_query,)
        Correlation of each query, NaN where undefined.
    """

    mean: float
    standard_error: float
    n_undefined: int
    method: str
    noise_ceiling: float | None = None
    per_query: NDArray = field(kw_only=True)

    def __repr__(self) -> str:
        ceiling = "" if self.noise_ceiling is None else f", noise_ceiling={self.noise_ceiling:.3g}"
        return (
            f"LDSResult(mean={self.mean:.3g}, standard_error={self.standard_error:.2g}{ceiling}, "
            f"n_query={len(self.per_query)}, n_undefined={self.n_undefined}, "
            f"method={self.method!r})"
        )


def summarise(per_query: NDArray, method: str, noise_ceiling: float | None = None) -> LDSResult:
    """Gather correlations (n_query,) into an LDSResult."""
    defined = per_query[~np.isnan(per_query)]
    n = defined.size
    return LDSResult(
        mean=float(defined.mean()) if n else float("nan"),
        standard_error=float(defined.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan"),
        n_undefined=int(per_query.size - n),
        method=method,
        noise_ceiling=noise_ceiling,
        per_query=per_query,
    )
