"""An index after further training of its model: what may stay, and what is made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from influencekit.curvature._spectrum import row_cosines
from influencekit.data._examples import each, open_examples
from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.index._build import (
    Plan,
    build_shards,
    learn,
    projection_options,
    read_map,
    write_map,
)
from influencekit.index._build_folder import shard_settings
from influencekit.index._contents import inner_folder
from influencekit.index._coordinates import Coordinates
from influencekit.index._rounding import rounding
from influencekit.index._shards import Shard, dequantized
from influencekit.index._updates import ChangedIndex
from influencekit.index.files._fingerprints import model_digests
from influencekit.utils._arguments import check_number
from influencekit.utils._torch import with_gradients

__all__ = ["RefreshedIndex"]

#: Queries and rows that old and new scores are compared on.
QUERIES, ROWS = 100, 2_000


class RefreshedIndex(ChangedIndex):
    """What makes a fitted index current after its model was trained further."""

    attributor: Any
    _train: Any
    projection_dim: int | None
    projection: str
    random_state: int | None
    curvature_rows: int | None

    @with_gradients
    def refresh(
        self, model: Any, X: Any = None, y: Any = None, *, least_cosine: float = 0.95
    ) -> dict[str, Any]:
        """Take another model of the same kind, and make again what has become wrong.

        On a sample of 100 queries and 2,000 rows, scores are computed three ways: with everything
        made again for the new model; with the old rows and new gradients of queries; and with the
        old curvature and new gradients of queries and rows.  The cheapest whose mean cosine with
        the first is at least ``least_cosine`` is taken.

        Parameters
        ----------
        model : fitted model, Task, or list of them
            Trained further from the index's own.
        X, y : array-like, default=None
            The training data; may be left out in the session of ``fit``.
        least_cosine : float, default=0.95
            Below it, rows or curvature are made again, with a warning.

        Returns
        -------
        found : dict
            "kept": "rows" (and curvature), "curvature" or "nothing"; "cosine_of_rows" and
            "cosine_of_curvature".

        Warns
        -----
        InfluenceKitWarning
            If rows or the curvature had to be made again: what was answered before the refresh
            with gradients of the new model was wrong by that much.
        """
        check_is_fitted(self, "fitted_")
        check_number("least_cosine", least_cosine, -2, 1, "a number below 1: a cosine")
        models = self._read_models(model, (), None)
        tasks, plan = each(models), Plan.of(models, self._data(models, X, y))
        kept_map = self._map_of_new(tasks)
        asked, sampled = (_even(self.n_train_, most) for most in (QUERIES, ROWS))
        rows_of_sample = Plan(plan.models, *plan.of_rows(sampled))
        made = learn(self.attributor, plan, min(ROWS, self.n_train_), projection_options(self))
        queries = plan.train.take(asked)
        reference = _scores(made, queries, rows_of_sample)
        found = {"cosine_of_rows": -1.0, "cosine_of_curvature": -1.0}
        if kept_map is not None:
            old_rows = _stored(self.fitted_[0].shards, sampled)
            old = (kept_map.queries(queries) @ old_rows.mT).numpy()
            found["cosine_of_rows"] = _cosine(old, reference)
            new = _scores(kept_map, queries, rows_of_sample)
            found["cosine_of_curvature"] = _cosine(new, reference)
        kept = "nothing"
        if found["cosine_of_rows"] >= least_cosine:
            kept = "rows"
        elif found["cosine_of_curvature"] >= least_cosine:
            kept = "curvature"
        self._take_over(models, plan, kept, kept_map)
        if kept != "rows":
            _warn(kept, found, least_cosine)
        return {"kept": kept, **found}

    def _data(self, models: Any, X: Any, y: Any) -> Any:
        """The training examples, as given or from the session of ``fit``."""
        if X is None and self._train is None:
            raise ValueError(
                "X: got None, but this index was opened without its training data; accepted are "
                "the rows of the index, in order: refresh(model, X, y)."
            )
        found = self._train if X is None else open_examples(models, X, y, learned=True)
        if found.n_examples != self.n_train_:
            raise ValueError(
                f"X: got {found.n_examples:,} rows; accepted are the {self.n_train_:,} rows of the "
                f"index, with those that were added or removed, in order."
            )
        return found

    def _map_of_new(self, tasks: Any) -> Coordinates | None:
        """The old map with the new model, unless it holds a changed copy of the old one."""
        folder = inner_folder(Path(self.folder), self.contents_.map)
        *_, found = read_map(folder, tasks)
        modules = {id(task.module) for task in tasks}
        modules |= {id(c.module) for task in tasks for c in getattr(task, "checkpoints", ())}
        used = (one.engine.task.module for maps in found.models for one in maps)
        return found if all(id(module) in modules for module in used) else None

    def _take_over(self, models: Any, plan: Plan, kept: str, kept_map: Any) -> None:
        """Write what has changed, and answer from it."""
        folder, contents, tasks = Path(self.folder), self.contents_, each(models)
        generation = contents.generation + 1
        if kept == "nothing":
            kept_map = learn(self.attributor, plan, self.curvature_rows, projection_options(self))
        name = f"map-{generation:06d}"
        write_map(folder / name, f"refreshed {generation}", kept_map, tasks)
        shards = contents.shards
        if kept != "rows":
            size = max(int(entry["coordinates"]["shape"][0]) for entry in shards)
            settings = {**shard_settings(self, size), "dtype": contents.dtype}
            prefix = f"{model_digests(tasks)[0][:16]}-{generation:06d}-"
            shards = build_shards(folder, kept_map, plan, settings, prefix)
        changed = replace(
            contents,
            map=name,
            shards=shards,
            models=model_digests(tasks),
            dim=kept_map.dim,
            n_blocks=kept_map.n_blocks,
            rounding=rounding(kept_map, plan, contents.dtype),
        )
        self._models, self.task_, self._train = models, tasks[0], plan.train
        self._change(changed, kept_map)


def _even(n: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


def _scores(coordinates: Coordinates, queries: Any, plan: Plan) -> np.ndarray:
    rows = coordinates.rows(plan.train, plan.learned)[0]
    return coordinates.combined(coordinates.products(coordinates.queries(queries), rows)).numpy()


def _stored(shards: Sequence[Shard], rows: np.ndarray) -> Tensor:
    """Some rows of the files, float64."""
    parts, start = [], 0
    for shard in shards:
        own = rows[(rows >= start) & (rows < start + len(shard))] - start
        start += len(shard)
        parts.append(dequantized(shard.coordinates[own], shard.scales[own]))
    return torch.cat(parts)


def _cosine(scores: np.ndarray, reference: np.ndarray) -> float:
    return float(np.nan_to_num(np.nanmean(row_cosines(scores, reference)), nan=1.0))


def _warn(kept: str, found: dict[str, float], least: float) -> None:
    what = "rows were made again" if kept == "curvature" else "rows and curvature were made again"
    warn_user(
        f"refresh: {what}. Scores of the new model's queries with the old rows have a mean cosine "
        f"of {found['cosine_of_rows']:.2f} with scores that are made again (with the old curvature "
        f"alone {found['cosine_of_curvature']:.2f}); accepted is {least:g}.",
        InfluenceKitWarning,
    )
