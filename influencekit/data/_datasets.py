"""Datasets and DataLoaders: read item by item, and checked for a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from skorch.dataset import Dataset as SkorchDataset
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, default_collate

from influencekit.data._loaders import check_loader
from influencekit.data._ragged import EvenCollation
from influencekit.data._sources import Rows, Source, check_finite, leaves, map_tree, to_tensor
from influencekit.models._task import Task
from influencekit.utils._long_work import chunks

__all__ = ["TARGET_KEYS", "DatasetSource", "open_dataset", "split_batch"]

#: Items that are read twice, so that augmentation of every second read is seen.
_READ_TWICE = 16
#: keys under which a batch that is a dict holds its targets, as Hugging Face's do
TARGET_KEYS = ("labels", "label", "label_ids")
#: keys of the two targets of question answering
SPAN_KEYS = ("start_positions", "end_positions")


class DatasetSource(Source):
    """A map-style Dataset, read item by item and collated.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
    collate_fn : callable, default=torch.utils.data.default_collate
        One of the user's may pad: then every batch gets the shapes of a batch of all examples.
    name : str, default="X"
        The argument's name in messages.

    Attributes
    ----------
    even : EvenCollation or None
        The collation of a ``collate_fn`` of the user's own.
    """

    def __init__(self, dataset: Any, collate_fn: Callable | None = None, name: str = "X"):
        self.dataset = dataset
        self.name = name
        self.even: EvenCollation | None = None
        if collate_fn is not None and collate_fn is not default_collate:
            self.even = EvenCollation(self._items, len(dataset), collate_fn, name)
        self._placeholder_targets = _has_placeholder_targets(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, rows: Rows) -> Any:
        inputs = map_tree(self._tensor, self.read_pair(rows)[0])
        for path, tensor in leaves(inputs):
            check_finite(tensor, f"{self.name}{path}")
        return inputs

    def _tensor(self, leaf: Any, path: str) -> Tensor:
        if not isinstance(leaf, Tensor) and np.asarray(leaf).dtype.kind not in "fiub":
            raise TypeError(
                f"{self.name}{path}: a batch of the Dataset holds a {type(leaf).__name__}; "
                "accepted are arrays and Tensors with a row for each example. An object "
                "that joins its examples (a batch of graphs) has no rows: give each example "
                "padded arrays, and a module that takes them."
            )
        return to_tensor(leaf)

    def read_pair(self, rows: Rows) -> tuple[Any, Any]:
        """Inputs and targets (None if the Dataset yields none), as collated."""
        positions = np.arange(len(self))[rows].tolist()
        batch = self.even(positions) if self.even else self._stacked(self._items(positions))
        inputs, targets = split_batch(batch, self.name)
        for path, leaf in leaves((inputs, targets)):
            shape: Any = getattr(leaf, "shape", ())
            if len(shape) and shape[0] != len(positions):
                raise ValueError(
                    f"{self.name}: collate_fn made {shape[0]} rows of {len(positions)} items "
                    f"(entry {path} of its batch, shape {tuple(shape)}); accepted is one row for "
                    "each item."
                )
        return inputs, None if self._placeholder_targets else targets

    @property
    def _kind(self) -> str:
        return f"the Dataset {type(self.dataset).__name__}"

    def _items(self, positions: list[int]) -> list:
        """Items of the Dataset; its own error is said with its position."""
        if getattr(self.dataset, "__getitems__", None):
            return self.dataset.__getitems__(positions)
        items = []
        for i in positions:
            try:
                items.append(self.dataset[i])
            except Exception as error:
                raise ValueError(
                    f"{self.name}: {self._kind} of length {len(self)} raises "
                    f"{type(error).__name__} at item {i}: {error}. Accepted is a Dataset that has "
                    "an item at each position below its length. Its own error is shown above."
                ) from error
        return items

    def _stacked(self, items: list) -> Any:
        """The batch of items of one shape, or what is wrong with items of several."""
        try:
            return default_collate(items)
        except (RuntimeError, TypeError, KeyError) as error:
            raise ValueError(
                f"{self.name}: the examples of the Dataset cannot be joined into a batch "
                f"({error}); accepted are examples of one shape. Pad them, in the Dataset or by "
                "DataLoader(dataset, collate_fn=...)."
            ) from error

    def check_repeats(self) -> None:
        """Refuse a Dataset of which one of several items changes from one read to the next."""
        for row in np.linspace(0, len(self) - 1, min(len(self), _READ_TWICE), dtype=int).tolist():
            first, second = (self.read_pair(np.array([row])) for _ in range(2))
            changed = [path for path, *pair in _pairs(first, second) if not _equal(*pair)]
            if changed:
                raise ValueError(
                    f"{self.name}: two reads of item {row} of {self._kind} differ (entry "
                    f"{changed[0]} of its batch), so its gradients would be of other data at every "
                    "pass. Accepted is a Dataset that gives the same item each time. Switch off "
                    "random augmentation and masking, or read the items once into a list."
                )

    def read_targets(self, batch_size: int = 256) -> Any:
        """All targets, from one pass over the Dataset; None if it yields none."""
        parts: list[Any] = []
        for rows in chunks(len(self), 1, batch_size):
            _, targets = self.read_pair(rows)
            if targets is None:
                return None
            parts.append(targets)
        return _joined(parts)


def open_dataset(task: Task, X: Any, name: str) -> DatasetSource:
    """Read a Dataset, or a DataLoader's Dataset, in order.

    Its items are collated by the loader's ``collate_fn``, else by the task's, else stacked.
    """
    if isinstance(X, DataLoader):
        _check_map_style(X.dataset, name)
        check_loader(X, name)
        source = DatasetSource(X.dataset, _collate_fn(task, X), name)
    else:
        _check_map_style(X, name)
        source = DatasetSource(X, task.collate_fn, name)
    source.check_repeats()
    return source


def _collate_fn(task: Task, loader: DataLoader) -> Callable | None:
    """A loader's own ``collate_fn``, with what the task adds to it; else the task's."""
    own, around = loader.collate_fn, getattr(task.collate_fn, "around", None)
    if own is default_collate:
        return task.collate_fn
    return own if around is None else around(own)


def _pairs(first: Any, second: Any) -> list[tuple[str, Any, Any]]:
    """Leaves of two reads of one item, side by side."""
    own, other = list(leaves(first)), list(leaves(second))
    if [path for path, _ in own] != [path for path, _ in other]:
        return [("", 0, 1)]
    return [(path, one, two) for (path, one), (_, two) in zip(own, other, strict=True)]


def _equal(one: Any, two: Any) -> bool:
    """Whether two leaves are the same, NaN included; True for what cannot be compared."""
    if not isinstance(one, (Tensor, np.ndarray, int, float)):
        return True
    try:
        return bool(np.array_equal(np.asarray(one), np.asarray(two), equal_nan=True))
    except (TypeError, RuntimeError, ValueError):
        try:
            return bool(np.array_equal(np.asarray(one), np.asarray(two)))
        except (TypeError, RuntimeError, ValueError):
            return True


def _joined(parts: list[Any]) -> Any:
    """Targets of several batches as one, entry by entry where each example has several."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)
    if isinstance(first, Mapping):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, (tuple, list)) and first and isinstance(first[0], Tensor):
        return tuple(_joined(list(some)) for some in zip(*parts, strict=True))
    return np.concatenate([np.asarray(part) for part in parts])


def split_batch(batch: Any, name: str) -> tuple[Any, Any]:
    """Split a collated batch into inputs and targets.

    A pair is (inputs, targets). A dict with an entry "labels", "label" or "label_ids" holds its
    targets there, or in "start_positions" and "end_positions". A 1-tuple or anything else is
    inputs.
    """
    if isinstance(batch, Mapping):
        if all(key in batch for key in SPAN_KEYS):
            inputs = {k: v for k, v in batch.items() if k not in SPAN_KEYS}
            return inputs, torch.stack([torch.as_tensor(batch[k]) for k in SPAN_KEYS], dim=1)
        key = next((k for k in TARGET_KEYS if k in batch), None)
        inputs = {k: v for k, v in batch.items() if k != key}
        return inputs, None if key is None else batch[key]
    if not isinstance(batch, (tuple, list)):
        return batch, None
    if len(batch) > 2:
        raise ValueError(
            f"{name}: the Dataset yields {len(batch)} values for each example; accepted are x, "
            f"(x, y) "
            "or a dict. Put several inputs into one tuple or dict: ((x1, x2), y)."
        )
    return batch[0], batch[1] if len(batch) == 2 else None


def _has_placeholder_targets(dataset: Any) -> bool:
    """Whether this wraps a skorch Dataset without y, which yields zeros in place of targets."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return isinstance(dataset, SkorchDataset) and dataset.y is None


def _check_map_style(dataset: Any, name: str) -> None:
    """Refuse a Dataset that cannot be read by position."""
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            f"{name}: got an IterableDataset ({type(dataset).__name__}), whose examples have no "
            "fixed position, so a score could not say which one it belongs to. Accepted is a "
            "map-style Dataset (with __getitem__ and __len__); collect the stream into one: "
            "list(dataset)."
        )
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise TypeError(
            f"{name}: {type(dataset).__name__} lacks __len__ or __getitem__; accepted is a "
            "map-style Dataset, which has both."
        )
    if _length(dataset, name) == 0:
        raise ValueError(f"{name}: got an empty {type(dataset).__name__}; give at least one row.")


def _length(dataset: Any, name: str) -> int:
    """``len(dataset)``, or an error that says what its ``__len__`` gives."""
    try:
        return len(dataset)
    except (TypeError, ValueError, NotImplementedError, OverflowError) as error:
        raise TypeError(
            f"{name}: the __len__ of {type(dataset).__name__} fails "
            f"({str(error) or type(error).__name__}); accepted is a Dataset whose __len__ returns "
            "the number of its examples, an int."
        ) from error
