"""Changes of an index: rows added, removed and dropped from its files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from influencekit.base import BaseAttributor
from influencekit.data._examples import each, open_examples
from influencekit.data._not_taken import same_columns
from influencekit.index._build import Plan, build_shards
from influencekit.index._build_folder import shard_settings
from influencekit.index._contents import Contents, write_contents
from influencekit.index._shards import ALL, PARTS, summed
from influencekit.index.files._fingerprints import data_digest
from influencekit.index.files._folder import map_array, write_array
from influencekit.utils._torch import with_gradients

__all__ = ["ChangedIndex"]


class ChangedIndex(BaseAttributor):
    """What changes the rows of a fitted index, in its folder."""

    folder: Any
    verbose: int
    contents_: Contents
    _train: Any
    fitted_: Sequence[Any]

    @abstractmethod
    def _adopt(self, coordinates: Any, contents: Contents) -> None:
        """Answer from the files of a folder from here on."""

    @with_gradients
    def add_rows(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> Self:
        """Add training rows after the others; the curvature stays as it is.

        Scores of all rows keep the unit of the build: they are divided by its sum of weights.

        Parameters
        ----------
        X, y : array-like
            Rows as in ``fit``.
        sample_weight : array-like, default=None

        Returns
        -------
        self : object
        """
        check_is_fitted(self, "fitted_")
        X = same_columns(X, self._given[0], self.task_)
        train = open_examples(self._models, X, y).weighted(sample_weight)
        plan = Plan(self._models, train, [np.ones(train.n_examples, dtype=bool)] * self._n_models)
        contents, folder = self.contents_, Path(self.folder)
        labels = _joined_labels(contents.labels, train.index)
        size = max(int(entry["coordinates"]["shape"][0]) for entry in contents.shards)
        settings = {**shard_settings(self, size), "dtype": contents.dtype}
        # named by what they hold, so that a build that was ended goes on with these rows only
        prefix = f"{data_digest(each(train))[:16]}-{contents.generation + 1:06d}-"
        added = build_shards(folder, self.fitted_[0].coordinates, plan, settings, prefix)
        learned = [
            np.concatenate([mask, own])
            for mask, own in zip(contents.learned, plan.learned, strict=False)
        ]
        shards = contents.shards + added
        self._change(replace(contents, shards=shards, labels=labels, learned=learned))
        return self

    @property
    def _n_models(self) -> int:
        return len(each(self._models))

    def remove_rows(self, rows: Any) -> Self:
        """Let rows score 0 and never be found; their places stay until :meth:`compact`.

        The curvature and the other rows' scores stay as they are, except that
        ``RunAverage(slopes="unit")`` divides by their length over the rows that are left.

        Parameters
        ----------
        rows : int array-like or bool mask of shape (n_train,)

        Returns
        -------
        self : object
        """
        check_is_fitted(self, "fitted_")
        removed = np.union1d(self.contents_.removed, _positions(rows, self.n_train_))
        if len(removed) == self.n_train_:
            raise ValueError("rows: got all rows of the index; accepted is to leave some.")
        self._change(replace(self.contents_, removed=removed))
        return self

    def compact(self) -> Self:
        """Write the rows that are left to new files, and number them again from 0.

        Returns
        -------
        self : object
        """
        check_is_fitted(self, "fitted_")
        contents, start, shards = self.contents_, 0, []
        kept = np.ones(self.n_train_, dtype=bool)
        kept[contents.removed] = False
        for number, entry in enumerate(contents.shards):
            own = kept[start : start + int(entry["coordinates"]["shape"][0])]
            start += len(own)
            if own.all():
                shards.append(entry)
            elif own.any():
                shards.append(self._without(entry, own, number))
        labels = None if contents.labels is None else contents.labels[kept]
        changed = replace(contents, shards=shards, removed=np.empty(0, dtype=np.int64))
        learned = [mask[kept] for mask in contents.learned]
        self._change(replace(changed, labels=labels, learned=learned))
        return self

    def _without(self, entry: dict[str, Any], kept: np.ndarray, number: int) -> dict[str, Any]:
        """A shard's rows that are left, with the same bits."""
        folder, name = Path(self.folder), f"{self.contents_.generation + 1:06d}-{number:06d}"
        files = {part: folder / f"{part}-c{name}.npy" for part in PARTS}
        return {
            part: summed(folder, write_array(path, map_array(folder, entry[part], ALL)[kept]))
            for part, path in files.items()
        }

    def _change(self, contents: Contents, coordinates: Any = None) -> None:
        """Write a changed manifest, and answer from it."""
        contents = replace(contents, generation=self.contents_.generation + 1)
        write_contents(Path(self.folder), contents, self)
        if contents.n_rows != self.n_train_:
            self._given, self._train = (None, None), None  # other rows than ``fit`` was given
        self.train_index_ = contents.labels
        self._adopt(coordinates or self.fitted_[0].coordinates, contents)


def _positions(rows: Any, n: int) -> np.ndarray:
    """Positions of rows, or an error that says what is accepted."""
    found = np.asarray(rows)
    if found.dtype == bool and found.shape == (n,):
        return np.flatnonzero(found)
    inside = found.dtype.kind in "iu" and found.ndim == 1
    if not inside or (found.size and (found.min() < 0 or found.max() >= n)):
        raise ValueError(
            f"rows: got {found.dtype} of shape {found.shape}; accepted are positions from 0 to "
            f"{n - 1}, or a mask of bool, ({n},)."
        )
    return found.astype(np.int64)


def _joined_labels(known: Any, added: Any) -> Any:
    """Labels of the old rows and the new ones."""
    if known is None:
        return None
    if added is None:
        raise ValueError(
            "X: has no row labels, but the rows of the index have; accepted is a DataFrame or a "
            "Series with an index, as fit was given."
        )
    return known.append(added)
