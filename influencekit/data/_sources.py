"""Where inputs are read from, and the batches that are made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from skorch.dataset import Dataset as SkorchDataset
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from influencekit.data._checks import check_finite, check_loader, check_map_style
from influencekit.utils import chunks

__all__ = [
    "ArraySource",
    "Batch",
    "DatasetSource",
    "Placement",
    "Source",
    "is_dataset",
    "leaves",
    "map_tree",
    "open_dataset",
    "to_tensor",
]


class Batch(NamedTuple):
    """A run of consecutive examples.

    Attributes
    ----------
    inputs : Tensor, or tuple or dict of Tensors, each of shape (batch, ...)
        What the module takes, on the task's device; floats are in the task's dtype.
    targets : Tensor of shape (batch, ...) or None
        Encoded for the task's loss.
    rows : slice
        Positions of the batch in the Examples.
    """

    inputs: Any
    targets: Tensor | None
    rows: slice


@dataclass(frozen=True)
class Placement:
    """Where tensors go and in which dtype.

    Parameters
    ----------
    device : torch.device
    dtype : torch.dtype
        Floating dtype of the model.
    all_float : bool
        Cast integers too: scikit-learn's models read every feature as a number, while a
        torch module may look integers up in an embedding.
    """

    device: torch.device
    dtype: torch.dtype
    all_float: bool = False

    def place(self, inputs: Any) -> Any:
        """Copy a tensor, or a tuple or dict of tensors, to the task's device and dtype."""
        if isinstance(inputs, Tensor):
            flags_are_numbers = inputs.dtype == torch.bool
            return self._place(inputs, self.all_float or flags_are_numbers)
        return map_tree(lambda tensor, _: self._place(tensor, self.all_float), inputs)

    def _place(self, tensor: Tensor, as_float: bool) -> Tensor:
        if as_float or tensor.is_floating_point():
            dtype = self.dtype
        else:
            dtype = torch.bool if tensor.dtype == torch.bool else torch.long
        # always a copy: a module that works in place must not reach the user's data;
        # and in the usual order: some layers and function transforms take no other strides
        return tensor.detach().to(
            device=self.device, dtype=dtype, copy=True, memory_format=torch.contiguous_format
        )


def map_tree(function: Callable[[Any, str], Any], tree: Any, path: str = "") -> Any:
    """Apply ``function(leaf, path)`` to the leaves of nested tuples, lists and mappings."""
    if isinstance(tree, Mapping):
        return {k: map_tree(function, v, f"{path}[{k!r}]") for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(map_tree(function, v, f"{path}[{i}]") for i, v in enumerate(tree))
    return function(tree, path)


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Pairs (path, leaf) of nested tuples, lists and mappings, in order.

    Parameters
    ----------
    tree : Any
        Anything else is a leaf.
    path : str, default=""
        Where the tree stands.

    Yields
    ------
    path : str
    leaf : Any
    """
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, f"{path}[{key!r}]")
    elif isinstance(tree, (tuple, list)):
        for i, value in enumerate(tree):
            yield from leaves(value, f"{path}[{i}]")
    else:
        yield path, tree


Rows = slice | np.ndarray

#: keys under which a batch that is a dict holds its targets, as Hugging Face's do
TARGET_KEYS = ("labels", "label")


class Source(ABC):
    """Examples that can be read by position, as often as wanted."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of examples."""

    @abstractmethod
    def read(self, rows: Rows) -> Any:
        """Inputs at the given positions: a tensor, or a tuple or dict of tensors."""


class ArraySource(Source):
    """Arrays, sparse matrices and tensors with one row an example.

    Parameters
    ----------
    tree : ndarray, csr matrix or Tensor, or tuple or dict of them
        Checked; nothing is copied here.
    """

    def __init__(self, tree: Any):
        self.tree = tree

    def __len__(self) -> int:
        _, first = next(leaves(self.tree))
        return first.shape[0]

    def read(self, rows: Rows) -> Any:
        return map_tree(lambda leaf, _: _rows_of(leaf, rows), self.tree)


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
        inputs = map_tree(lambda leaf, _: to_tensor(leaf), self.read_pair(rows)[0])
        for path, tensor in leaves(inputs):
            check_finite(tensor, f"{self.name}{path}")
        return inputs

    def read_pair(self, rows: Rows) -> tuple[Any, Any]:
        """Inputs and targets (None if the Dataset yields none), as collated."""
        positions = np.arange(len(self))[rows].tolist()
        if getattr(self.dataset, "__getitems__", None):
            items = self.dataset.__getitems__(positions)
        else:
            items = [self.dataset[i] for i in positions]
        batch = (self.collate_fn or default_collate)(items)
        inputs, targets = split_batch(batch, self.name)
        return inputs, None if self._placeholder_targets else targets

    def read_targets(self, batch_size: int = 256) -> Any:
        """All targets, from one pass over the Dataset; None if it yields none."""
        parts: list[Tensor] = []
        for rows in chunks(len(self), 1, batch_size):
            _, targets = self.read_pair(rows)
            if targets is None:
                return None
            parts.append(targets)
        if isinstance(parts[0], Tensor):
            return torch.cat(parts)
        return np.concatenate([np.asarray(part) for part in parts])


def split_batch(batch: Any, name: str) -> tuple[Any, Any]:
    """Split a collated batch into inputs and targets.

    A pair is (inputs, targets), a 1-tuple or anything else is inputs, and a dict with an
    entry "labels" or "label" holds its targets there.
    """
    if isinstance(batch, Mapping):
        key = next((k for k in TARGET_KEYS if k in batch), None)
        inputs = {k: v for k, v in batch.items() if k != key}
        return inputs, None if key is None else batch[key]
    if not isinstance(batch, (tuple, list)):
        return batch, None
    if len(batch) > 2:
        raise ValueError(
            f"{name}: the Dataset yields {len(batch)} values an example; accepted are x, (x, y) "
            "or a dict. Put several inputs into one tuple or dict: ((x1, x2), y)."
        )
    return batch[0], batch[1] if len(batch) == 2 else None


def is_dataset(X: Any) -> bool:
    """Whether X is a Dataset or DataLoader (of torch, or a look-alike such as Hugging Face's)."""
    return isinstance(X, (Dataset, DataLoader)) or hasattr(X, "__getitems__")


def open_dataset(X: Any, name: str) -> DatasetSource:
    """Read a Dataset, or a DataLoader's Dataset with its ``collate_fn``, in order."""
    if isinstance(X, DataLoader):
        check_map_style(X.dataset, name)
        check_loader(X, name)
        return DatasetSource(X.dataset, X.collate_fn, name)
    check_map_style(X, name)
    return DatasetSource(X, None, name)


def to_tensor(block: Any) -> Tensor:
    """Tensor of an array's values; foreign byte orders and odd widths are made native."""
    if isinstance(block, Tensor):
        return block
    if sparse.issparse(block):
        block = block.toarray()
    array = np.asarray(block)
    return torch.from_numpy(np.array(array, dtype=_torch_dtype(array.dtype)))


def _rows_of(leaf: Any, rows: Rows) -> Tensor:
    if isinstance(leaf, Tensor) and isinstance(rows, np.ndarray):
        return leaf[torch.as_tensor(rows, device=leaf.device)]
    return to_tensor(leaf[rows])


def _torch_dtype(dtype: np.dtype) -> np.dtype:
    if dtype.kind == "f":
        return np.dtype(f"f{min(dtype.itemsize, 8)}")
    return np.dtype(np.int64) if dtype.kind in "iu" else dtype


def _has_placeholder_targets(dataset: Any) -> bool:
    """Whether a skorch Dataset without y is underneath: it yields zeros in place of targets."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return isinstance(dataset, SkorchDataset) and dataset.y is None


def row_list(X: Sequence) -> Any:
    """Array of a list of rows (numbers, arrays or tensors)."""
    if X and all(isinstance(row, Tensor) for row in X):
        return torch.stack(list(X))
    return np.asarray(X)
