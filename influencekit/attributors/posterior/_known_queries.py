"""Scores of the queries given to fit, looked up by their content."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from influencekit.base import Fitted
from influencekit.data._examples import Examples
from influencekit.data._sources import leaves
from influencekit.utils.validation import present

__all__ = ["KnownQueries"]

_BATCH = 256


class KnownQueries(Fitted):
    """A table of scores with the queries that its rows belong to.

    Parameters
    ----------
    queries : Examples
    table : ndarray of shape (n_query, n_train)
    """

    def __init__(self, queries: Examples, table: np.ndarray):
        self.table = table
        self.targets = present(_target_keys(queries), "query targets")
        self.positions: dict[bytes, list[int]] = {}
        for i, key in enumerate(_input_keys(queries)):
            self.positions.setdefault(key, []).append(i)

    def scores(self, queries: Examples) -> np.ndarray:
        targets = _target_keys(queries)
        found = [self._position(i, key, targets) for i, key in enumerate(_input_keys(queries))]
        return self.table[found]

    def explaining(self, output: Any) -> Self:
        raise ValueError(
            f"output: got {output!r}, but the retrained models were evaluated on another output. "
            f"Fit again, with output= of SubsetPosterior."
        )

    def _position(self, row: int, key: bytes, targets: list[bytes] | None) -> int:
        """Row of a query in the table; its target must be the same if it has one."""
        known = self.positions.get(key, [])
        same = [i for i in known if targets is None or self.targets[i] == targets[row]]
        if not same:
            what = "its target in y_query was different" if known else "it is not in X_query"
            raise ValueError(
                f"X: row {row} was not given to fit ({what}). Scores that learn from retrained "
                f"outputs are known only for X_query and y_query: add the row there, and fit again."
            )
        return same[0]


def _input_keys(queries: Examples) -> list[bytes]:
    keys = []
    for batch in queries.batches(_BATCH):
        parts = [t.detach().cpu().contiguous() for _, t in leaves(batch.inputs)]
        keys += [b"".join(p[i].numpy().tobytes() for p in parts) for i in range(len(parts[0]))]
    return keys


def _target_keys(queries: Examples) -> list[bytes] | None:
    if queries.targets is None:
        return None
    return [row.tobytes() for row in queries.targets.detach().cpu().numpy()]
