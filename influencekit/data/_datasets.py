"""Datasets and DataLoaders: read item by item, and checked for a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from skorch.dataset import Dataset as SkorchDataset
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
)

from influencekit.data._sources import Rows, Source, check_finite, leaves, map_tree, to_tensor
from influencekit.utils._long_work import chunks

__all__ = ["DatasetSource", "open_dataset", "split_batch"]

#: keys under which a batch that is a dict holds its targets, as Hugging Face's do
TARGET_KEYS = ("labels", "label")


class DatasetSource(Source):
    """A map-style Dataset, read item by item and collated.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
    collate_fn : callable, default=torch.utils.data.default_collate
    name : str, default="X"
        The argument's name in messages.
    """

    def __init__(self, dataset: Any, collate_fn: Callable | None = None, name: str = "X"):
        self.dataset = dataset
        self.collate_fn = collate_fn
        self.name = name
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
        if getattr(self.dataset, "__getitems__", None):
            items = self.dataset.__getitems__(positions)
        else:
            items = [self.dataset[i] for i in positions]
        batch = self._joined_rows(items)
        inputs, targets = split_batch(batch, self.name)
        return inputs, None if self._placeholder_targets else targets

    def _joined_rows(self, items: list) -> Any:
        if self.collate_fn is not None:
            return self.collate_fn(items)
        try:
            return default_collate(items)
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"{self.name}: the examples of the Dataset cannot be joined into a batch "
                f"({error}); accepted are examples of one shape. Pad them, in the Dataset or by "
                "DataLoader(dataset, collate_fn=...)."
            ) from error

    def read_targets(self, batch_size: int = 256) -> Any:
        """All targets, from one pass over the Dataset; None if it yields none."""
        parts: list[Any] = []
        for rows in chunks(len(self), 1, batch_size):
            _, targets = self.read_pair(rows)
            if targets is None:
                return None
            parts.append(targets)
        return _joined(parts)


def open_dataset(X: Any, name: str) -> DatasetSource:
    """Read a Dataset, or a DataLoader's Dataset with its ``collate_fn``, in order."""
    if isinstance(X, DataLoader):
        _check_map_style(X.dataset, name)
        _check_loader(X, name)
        return DatasetSource(X.dataset, X.collate_fn, name)
    _check_map_style(X, name)
    return DatasetSource(X, None, name)


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

    A pair is (inputs, targets). A dict with an entry "labels" or "label" holds its targets there. A
    1-tuple or anything else is inputs.
    """
    if isinstance(batch, Mapping):
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
    if len(dataset) == 0:
        raise ValueError(f"{name}: got an empty {type(dataset).__name__}; give at least one row.")


def _check_loader(loader: DataLoader, name: str) -> None:
    """Refuse a DataLoader that does not yield each example of its dataset exactly once."""
    if loader.batch_size is None and loader.batch_sampler is None:
        raise ValueError(
            f"{name}: got a DataLoader with batch_size=None, whose dataset makes its own batches; "
            "accepted is one that batches single examples. Give batch_size, or pass arrays."
        )
    sampler = loader.sampler
    partial = isinstance(sampler, (SubsetRandomSampler, WeightedRandomSampler))
    if isinstance(sampler, RandomSampler):
        size = len(loader.dataset)  # type: ignore[arg-type]
        partial = sampler.replacement or sampler.num_samples != size
    elif not partial and hasattr(sampler, "__len__"):
        partial = len(sampler) != len(loader.dataset)  # type: ignore[arg-type]
    if partial:
        raise ValueError(
            f"{name}: got a DataLoader with a {type(sampler).__name__} that does not yield every "
            f"example exactly once; accepted is shuffle=True or False. Name the examples instead: "
            "DataLoader(torch.utils.data.Subset(dataset, rows))."
        )
