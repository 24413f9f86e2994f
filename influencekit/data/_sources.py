"""Where inputs are read from, and the batches made from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from influencekit.data._mapped import by_path, from_path
from influencekit.utils._long_work import chunks

__all__ = [
    "ArraySource",
    "Batch",
    "Placement",
    "Rows",
    "Source",
    "check_dtype",
    "check_finite",
    "check_tensor",
    "kind_of",
    "leaves",
    "map_tree",
    "positions_of",
    "stacked",
    "to_tensor",
]


class Batch(NamedTuple):
    """A run of consecutive examples.

    Attributes
    ----------
    inputs : Tensor, or tuple or dict of Tensors, each of shape (batch, ...)
        What the module takes, on the task's device; floats are in the task's dtype.
    targets : Tensor of shape (batch, ...) or None
        Targets, encoded for the task's loss.
    rows : slice
        Positions of the batch in the Examples.
    """

    inputs: Any
    targets: Tensor | None
    rows: slice


@dataclass(frozen=True)
class Placement:
    """Device and dtype of tensors.

    Parameters
    ----------
    device : torch.device
    dtype : torch.dtype
        Floating dtype of the model.
    all_float : bool
        Cast integers too: scikit-learn's models use every feature as a number, while a torch module
        may use integers as indices of an embedding.
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
        # and contiguous: some layers and function transforms accept no other strides
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
        Nested tuples, lists and mappings; anything else is a leaf.
    path : str, default=""
        Path of the tree itself.

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

#: Number of values checked at once when an array is searched for NaN.
BLOCK = 2**22


class Source(ABC):
    """Examples that can be read by position, as often as needed."""

    #: The arrays that rows are read from, where there are any.
    tree: Any = None
    #: Digest of all values, where one pass over them was made already.
    digest: str | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of examples."""

    @abstractmethod
    def read(self, rows: Rows) -> Any:
        """Inputs at the given positions: a tensor, or a tuple or dict of tensors."""

    def gathered(self, rows: Rows) -> Source | None:  # noqa: ARG002  for those that can
        """A source of these rows alone, in memory; None if rows are read one by one."""
        return None


class ArraySource(Source):
    """Arrays, sparse matrices and tensors with one row for each example.

    Parameters
    ----------
    tree : ndarray, csr matrix or Tensor, or tuple or dict of them
        Checked data; they are not copied here.
    """

    def __init__(self, tree: Any):
        self.tree = tree

    def __getstate__(self) -> dict[str, Any]:
        return {"tree": by_path(self.tree)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.tree = from_path(state["tree"])

    def __len__(self) -> int:
        _, first = next(leaves(self.tree))
        return first.shape[0]

    def read(self, rows: Rows) -> Any:
        if isinstance(self.tree, (Mapping, tuple)):
            return map_tree(lambda leaf, _: _rows_of(leaf, rows), self.tree)
        return _rows_of(self.tree, rows)

    def gathered(self, rows: Rows) -> ArraySource:
        return ArraySource(map_tree(lambda leaf, _: leaf[_run(rows)], self.tree))


def _run(rows: Rows) -> Rows:
    """Consecutive positions as a slice, of which arrays give views and files give pages."""
    if not isinstance(rows, np.ndarray) or not len(rows) or (np.diff(rows) != 1).any():
        return rows
    return slice(int(rows[0]), int(rows[-1]) + 1)


def to_tensor(block: Any) -> Tensor:
    """Tensor of an array's values; other byte orders and float widths become native ones."""
    if isinstance(block, Tensor):
        return block
    if sparse.issparse(block):
        block = block.toarray()
    array = np.asarray(block)
    dtype = np.dtype(np.int64) if array.dtype.kind in "iu" else array.dtype
    if dtype.kind == "f":
        dtype = np.dtype(f"f{min(dtype.itemsize, 8)}")
    return torch.from_numpy(np.array(array, dtype=dtype))


def _rows_of(leaf: Any, rows: Rows) -> Tensor:
    if isinstance(leaf, Tensor) and isinstance(rows, np.ndarray):
        return leaf[torch.as_tensor(rows, device=leaf.device)]
    return to_tensor(leaf[rows])


def check_tensor(leaf: Any, name: str) -> None:
    """Refuse Tensors that are not a plain array of numbers.

    Parameters
    ----------
    leaf : object
        Anything but a Tensor passes.
    name : str
        The argument's name in messages.

    Raises
    ------
    TypeError
        If it is nested, masked, quantized, sparse or without numbers.
    """
    if not isinstance(leaf, Tensor):
        return
    masked = "Masked" in type(leaf).__name__
    kinds = {"nested": leaf.is_nested, "meta": leaf.is_meta, "quantized": leaf.is_quantized}
    kind = "masked" if masked else next((k for k, is_it in kinds.items() if is_it), None)
    if kind is not None:
        raise TypeError(
            f"{name}: got a {kind} Tensor; accepted are dense Tensors of numbers. Pad ragged rows "
            "(torch.nested.to_padded_tensor), dequantize, or load the data."
        )
    if leaf.layout != torch.strided:
        raise TypeError(
            f"{name}: got a Tensor of layout {leaf.layout}; accepted are dense Tensors and "
            f"scipy's sparse matrices. Use {name}.to_dense()."
        )


def stacked(rows: Any, name: str) -> Any:
    """Array of a list of rows (numbers, arrays or tensors).

    Parameters
    ----------
    rows : sequence
    name : str
        The argument's name in messages.

    Returns
    -------
    ndarray or Tensor

    Raises
    ------
    ValueError
        If rows have different shapes.
    """
    try:
        if len(rows) and all(isinstance(row, Tensor) for row in rows):
            return torch.stack(list(rows))
        return np.asarray(rows)
    except (RuntimeError, ValueError) as error:
        shapes = sorted({_shape(row) for row in rows})[:3]
        raise ValueError(
            f"{name}: got a list of rows of different shapes, among them {', '.join(shapes)}; "
            "accepted are rows of one shape. Pad them to one length, for instance with "
            "torch.nn.utils.rnn.pad_sequence."
        ) from error


def _shape(row: Any) -> str:
    try:
        return str(tuple(np.shape(row)))
    except (ValueError, RuntimeError, TypeError):
        return f"a {type(row).__name__} of several"


def check_dtype(leaf: Any, name: str) -> None:
    """Refuse text, objects, dates and complex numbers."""
    kind = kind_of(leaf)
    if kind == "c":
        raise ValueError(
            f"{name}: got complex numbers ({leaf.dtype}); accepted are real ones. Give the real "
            "and imaginary parts as separate features."
        )
    if leaf.dtype in (np.uint64, torch.uint64) and int(leaf.max()) > np.iinfo(np.int64).max:
        raise ValueError(
            f"{name}: got {int(leaf.max())} ({leaf.dtype}); accepted are integers below 2**63. "
            "Give them as floats, or number the categories from 0."
        )
    if kind not in "fiub":
        raise TypeError(
            f"{name}: got dtype {leaf.dtype}; accepted are floats, integers and booleans. Encode "
            f"text and categories as numbers first, for instance with a Pipeline whose first step "
            f"is a OneHotEncoder or TfidfVectorizer."
        )


def check_finite(leaf: Any, name: str, dtype: torch.dtype | None = None) -> None:
    """Refuse NaN and infinity, including those that casting to ``dtype`` would create.

    Arrays are read in blocks, so a memmap stays on disk.
    """
    if kind_of(leaf) != "f":
        return
    if sparse.issparse(leaf):
        leaf = leaf.data
    for rows in chunks(leaf.shape[0], int(np.prod(leaf.shape[1:])), BLOCK):
        block = leaf[rows].detach() if isinstance(leaf, Tensor) else leaf[rows]
        finite = torch.isfinite(block) if isinstance(block, Tensor) else np.isfinite(block)
        if not bool(finite.all()):
            raise ValueError(
                f"{name}: got NaN or infinity; accepted are finite numbers. Impute or drop those "
                f"rows, for instance with a Pipeline that starts with SimpleImputer."
            )
        if dtype is not None and float(abs(block).max()) > torch.finfo(dtype).max:
            raise ValueError(
                f"{name}: got {float(abs(block).max()):.3g}, which is infinity in the model's "
                f"dtype {dtype}. Rescale the feature, or convert the model to torch.float64."
            )


def kind_of(leaf: Any) -> str:
    """Kind of a dtype as numpy writes it: f, i, b, c, or others."""
    if not isinstance(leaf, Tensor):
        return leaf.dtype.kind
    if leaf.is_complex():
        return "c"
    if leaf.is_floating_point():
        return "f"
    return "b" if leaf.dtype == torch.bool else "i"


def positions_of(rows: Any, n: int) -> np.ndarray:
    """Non-negative positions of a slice, mask or index array.

    Parameters
    ----------
    rows : slice or array-like
    n : int
        Number of examples.

    Returns
    -------
    ndarray of int

    Raises
    ------
    IndexError
        If a position does not exist or a mask has another length.
    """
    if isinstance(rows, slice):
        return np.arange(n)[rows].copy()  # torch does not accept negative strides
    rows = rows.detach().cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iub"):
        raise IndexError(
            f"rows: got {rows.dtype} of shape {rows.shape}; accepted is a slice, a one-dimensional "
            "array of positions, or a boolean mask."
        )
    if rows.dtype.kind == "b":
        if len(rows) != n:
            raise IndexError(f"rows: the mask has {len(rows)} entries for {n} examples.")
        return np.flatnonzero(rows)
    if rows.size and (rows.min() < -n or rows.max() >= n):
        raise IndexError(f"rows: positions run from {rows.min()} to {rows.max()} for {n} examples.")
    return np.arange(n)[rows.astype(np.int64)]
