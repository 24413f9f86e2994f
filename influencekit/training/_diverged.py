"""Diverged trainings: detected by outputs that are not finite, and never used as results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.metrics._text import some_rows
from influencekit.utils._suggest import did_you_mean

__all__ = ["ON_NAN", "DivergedRuns", "check_on_nan", "warn_kept"]

#: Options for outputs that are not finite.
ON_NAN = ("raise", "keep")

_ADVICE = (
    "Training has diverged, or the explained output is not finite there: use a smaller learning "
    "rate, scale the features, or clip gradients."
)


def check_on_nan(on_nan: Any) -> None:
    """Refuse anything but "raise" and "keep".

    Raises
    ------
    ValueError
    """
    if not isinstance(on_nan, str) or on_nan not in ON_NAN:
        raise ValueError(
            f"on_nan: got {on_nan!r}; accepted are 'raise', which refuses outputs that are NaN or "
            f"infinite, and 'keep', which keeps them as NaN.{did_you_mean(on_nan, ON_NAN)}"
        )


class DivergedRuns(ValueError):
    """Retrained models gave outputs that are not finite.

    Parameters
    ----------
    runs : list of (int, int, ndarray of int)
        Subset, seed, and the queries at which the output is not finite.
    n_query : int
    names : sequence of str or None
        Names of the subsets; None numbers them.
    kept : bool
        Whether finished trainings are stored in a cache.
    """

    def __init__(
        self,
        runs: list[tuple[int, int, NDArray]],
        n_query: int,
        names: Sequence[str] | None = None,
        kept: bool = False,
    ):
        self.runs, self.n_query, self.names, self.kept = runs, n_query, names, kept
        found = "; ".join(self._describe(*run) for run in runs[:10])
        more = f"; and {len(runs) - 10} more" if len(runs) > 10 else ""
        finished = (
            "Finished trainings are kept in cache_dir and will be reused. "
            if kept
            else "With cache_dir and an int random_state, finished trainings are kept. "
        )
        super().__init__(
            f"model: retrained models gave outputs that are NaN or infinite: {found}{more}. "
            f"{_ADVICE} {finished}Use on_nan='keep' to keep such outputs as NaN."
        )

    def __reduce__(self) -> tuple:
        return type(self), (self.runs, self.n_query, self.names, self.kept)

    def _describe(self, subset: int, seed: int, queries: NDArray) -> str:
        name = f"subset {subset}" if self.names is None else self.names[subset]
        which = "all" if len(queries) == self.n_query else f"{len(queries):,} of"
        rows = "" if which == "all" else f" ({some_rows(queries)})"
        return f"{name} under seed {seed} at {which} {self.n_query:,} queries{rows}"


def warn_kept(names: Sequence[str], total: int, what: str = "trainings") -> None:
    """Warn of runs whose outputs are kept as NaN, if there are any.

    Parameters
    ----------
    names : sequence of str
        Names of the runs that diverged.
    total : int
        Number of all runs.
    what : str
    """
    if names:
        shown = "; ".join(names[:5]) + (f"; and {len(names) - 5} more" if len(names) > 5 else "")
        warn_user(
            f"on_nan='keep': {len(names)} of {total} {what} gave outputs that are NaN or infinite: "
            f"{shown}. They are NaN in the result. {_ADVICE}",
            InfluenceKitWarning,
        )
