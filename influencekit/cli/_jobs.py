"""What the options of a command name: the model, the rows and the attributor."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from influencekit.base import BaseAttributor
from influencekit.cli._files import Rows, read_rows, without_names
from influencekit.cli._models import attributor_of, load_model
from influencekit.data._not_taken import same_columns
from influencekit.data.slices._row_slices import RowSlices
from influencekit.index._attribution_index import AttributionIndex

__all__ = ["Job", "Training", "naming"]


@contextmanager
def naming(option: str) -> Iterator[None]:
    """Begin errors about X, y or data with the option that named the file."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if re.match(r"(X|y|data)\b[^:]*:", str(error)) is None:
            raise
        raise ValueError(f"{option}: {error}") from error


class Training:
    """The model, its training rows and the unfitted attributor.

    Parameters
    ----------
    options : argparse.Namespace
    """

    train: Any
    _named: Any = None

    def __init__(self, options: argparse.Namespace):
        self.attributor = attributor_of(options.method, options.set, options.verbose)
        self.model = load_model(options.model, options.trust)
        self.folder = getattr(options, "index", None)
        self.train = None
        if options.train is not None:
            stream = self.folder is not None or options.command in ("index", "estimate")
            self.train = self._rows(options.train, options.target, "--train", stream)
            if self.train.y is None and not isinstance(self.train.X, RowSlices):
                if options.train.endswith(".npz"):
                    raise ValueError(f"--train: {options.train} has no array y, the targets.")
                raise ValueError("--target: name the column with the targets of the training rows.")
        elif self.folder is None:
            raise ValueError("--train: name the training rows, or a built index by --index.")

    def _rows(self, path: str, target: str | None, argument: str, stream: bool = False) -> Rows:
        with naming(argument):
            rows = read_rows(path, target, argument, stream)
        self._named = same_columns(rows.X, self._named, self.model, argument)
        if hasattr(self.model, "feature_names_in_"):
            return rows
        return without_names(rows)  # the model was fitted without names


class Job(Training):
    """The same with queries, and a fitted attributor.

    Parameters
    ----------
    options : argparse.Namespace
    """

    def __init__(self, options: argparse.Namespace):
        super().__init__(options)
        self.queries = self._rows(options.queries, options.target, "--queries")

    def fitted(self) -> BaseAttributor:
        """The attributor, fitted, or the index, opened."""
        if self.folder is not None:
            found = AttributionIndex.open(self.folder, self.model)
            if hasattr(self.shown[0], "shape") and len(self.shown[0]) != found.n_train_:
                raise ValueError(
                    f"--train: got {len(self.shown[0]):,} rows, and the index has "
                    f"{found.n_train_:,}; give the rows of the index, or leave --train out."
                )
            return found
        with naming("--train"):
            return self.attributor.fit(self.model, *self.shown)

    @property
    def shown(self) -> Any:
        """X and y of the training rows; None where an index does without."""
        return (None, None) if self.train is None else self.train
