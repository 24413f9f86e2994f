"""What an index will cost, from indexes of some of the rows in a temporary folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sklearn.base import clone

from influencekit._estimate import (
    MOST,
    Estimate,
    as_estimate,
    estimate_of,
    even_rows,
    row_law,
    trial_cost,
)
from influencekit.data._examples import each
from influencekit.gradients._store import temporary_folder
from influencekit.index._partial_build import PartlyBuiltIndex
from influencekit.models._task import Task

__all__ = ["EstimatedIndex"]

#: Rows that the method is fitted on in trials, at least.
CURVATURE_ROWS = 1024


class EstimatedIndex(PartlyBuiltIndex):
    """``estimate`` of an index: one fit of the method, shards, and files."""

    def _estimated(self, models: Any, train: Any, n_queries: int) -> Estimate:
        n = train.n_examples
        c = n if self.curvature_rows is None else min(n, self.curvature_rows)
        learned = train.take(even_rows(n, c)) if c < n else train
        method = estimate_of(clone(self.attributor), models, learned, 1)
        some = min(c, self._enough_rows(each(models), n))
        trials, disk = [], 0.0
        for size in (some, *sorted({some, min(n, max(MOST, 4 * some))})):
            with temporary_folder() as folder:
                tried = clone(self).set_params(folder=Path(folder) / "i", curvature_rows=some)
                trials.append(trial_cost(tried, models, train, size, n_queries))
                files = [p for p in Path(folder).rglob("*") if p.is_file()]
                shards = sum(p.stat().st_size for p in files if p.parent.name == "i")
                inner = sum(p.stat().st_size for p in files) - shards
                disk = shards * n / size + inner
        trials = trials[1:]  # the first one warms up
        again = trial_cost(clone(self.attributor), models, train, some, 1).fit_seconds
        fit = method.fit_seconds / method.pace + max(0.0, row_law(trials)(n) - again)
        found = as_estimate(trials, fit, n, n_queries, int(disk))
        if found.peak_bytes is None:
            return found
        return replace(found, peak_bytes=max(found.peak_bytes, method.peak_bytes or 0))

    def _enough_rows(self, tasks: Sequence[Task], n: int) -> int:
        """Rows with which the method finds as many coordinates as with all."""
        p = max(task.n_parameters for task in tasks)
        dim = getattr(self.attributor, "projection_dim", None) or 0
        return max(CURVATURE_ROWS, 2 * dim, p + 1 if p < n and not dim else 0)
