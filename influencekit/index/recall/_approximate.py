"""An index that looks for candidates with faiss in place of reading all rows."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from influencekit._estimate import even_rows
from influencekit.index._index_estimate import EstimatedIndex
from influencekit.index._scan import best_rows
from influencekit.index.recall._faiss import FaissRows, rows_at

__all__ = ["ApproximateIndex"]

#: Rows that are taken as queries to measure the recall.
QUERIES = 100


class ApproximateIndex(EstimatedIndex):
    """What lets ``top_k`` of a fitted index look for candidates with faiss."""

    n_train_: int

    def use_faiss(
        self,
        factory: str | None = None,
        *,
        search: str | None = None,
        n_candidates: int = 100,
    ) -> float:
        """Let ``top_k`` find candidates with faiss, and score these exactly.

        Rows are held in memory as well, by faiss.  ``among``, and queries for which too few
        candidates are left, are answered by the scan of all rows; so are ``score`` and all queries
        after a change of the rows.  It needs ``pip install faiss-cpu``.

        Parameters
        ----------
        factory : str or None, default=None
            Text of ``faiss.index_factory``, such as "HNSW32". None is "IVF{4 √n},Flat".
        search : str or None, default=None
            Parameters of a search, such as "nprobe=16" or "efSearch=64". None is faiss's default,
            and a sixteenth of the lists if ``factory`` is None.
        n_candidates : int, default=100
            Rows that are scored exactly, of each query.

        Returns
        -------
        float
            Share of the ten strongest rows that is found, mean of 100 queries: rows as stored.
            Real queries may find more or fewer.
        """
        check_is_fitted(self, "fitted_")
        whole = isinstance(n_candidates, Integral) and not isinstance(n_candidates, bool)
        if not whole or n_candidates < 1:
            raise ValueError(f"n_candidates: got {n_candidates!r}; accepted is an int from 1.")
        fitted = self.fitted_[0]
        found = FaissRows(fitted.shards, self.n_train_, factory, search, int(n_candidates))
        asked = rows_at(fitted.shards, even_rows(self.n_train_, QUERIES))
        k, everyone = min(10, self.n_train_), np.ones(self.n_train_, dtype=bool)
        exact = best_rows(asked, fitted.shards, k, 1.0, None)[0]
        rows, _, enough = found.best(asked, k, 1.0, everyone)
        pairs: Any = zip(rows, exact, enough, strict=True)
        fitted.finder = found
        return float(np.mean([len(np.intersect1d(a, b)) / k if ok else 1.0 for a, b, ok in pairs]))
