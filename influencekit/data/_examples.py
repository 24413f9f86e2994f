"""Examples of one model or of several, in a fixed order, for many passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from influencekit.data._inputs import (
    check_same_length,
    check_sample_weight,
    open_inputs,
    row_labels,
    uses_matrix,
)
from influencekit.data._not_taken import not_taken
from influencekit.data._own_losses import check_own_loss, is_structured, pack_targets
from influencekit.data._sources import (
    Batch,
    Placement,
    Source,
    check_tensor,
    positions_of,
    stacked,
)
from influencekit.data._targets import (
    check_targets,
    encode_targets,
    given_twice,
    one_column,
    refuse_odd_targets,
    targets_of,
)
from influencekit.data._text_rows import check_padding, text_rows
from influencekit.data._which_output import settle_output
from influencekit.data.slices._row_slices import read_once
from influencekit.data.slices._source import open_source
from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task, TaskList
from influencekit.models.snapshot._trial import try_task
from influencekit.utils._long_work import chunks

__all__ = ["Examples", "ExamplesList", "each", "make_examples", "open_examples"]


class Examples:
    """Examples in a fixed order of :func:`make_examples`, read in batches as often as needed.

    Parameters
    ----------
    source : Source
        Where inputs are read from.
    placement : Placement
        Device and dtype of the batches.
    targets : Tensor of shape (n_examples, ...) or None
        All targets, encoded for the task's loss, on its device.
    index : pandas.Index or None
        Row labels.
    rows : ndarray of int or None
        Positions in the source; None is all rows in order.
    weights : Tensor of shape (n_examples,) or None
        ``sample_weight``, float64; None is 1 for all.

    Attributes
    ----------
    n_examples : int
        Number of examples.
    """

    def __init__(
        self,
        source: Source,
        placement: Placement,
        targets: Tensor | None = None,
        index: Any = None,
        rows: np.ndarray | None = None,
        weights: Tensor | None = None,
    ):
        self.source = source
        self.placement = placement
        self.targets = targets
        self.index = index
        self.rows = rows
        self.weights = weights
        self.n_examples = len(source) if rows is None else len(rows)

    def __len__(self) -> int:
        return self.n_examples

    def __repr__(self) -> str:
        targets = "no targets" if self.targets is None else f"targets {tuple(self.targets.shape)}"
        return f"Examples(n_examples={self.n_examples}, {targets})"

    def batches(self, batch_size: int, skip: int = 0) -> Iterator[Batch]:
        """Batches of ``batch_size`` examples (the last may be shorter) after the first ``skip``."""
        for batch in self.unread(batch_size, skip):
            yield batch._replace(inputs=self.placement.place(self.source.read(batch.inputs)))

    def unread(self, batch_size: int, skip: int = 0) -> Iterator[Batch]:
        """Batches whose inputs are still positions in the source: a slice or an array."""
        if batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size}; accepted is 1 or more.")
        for rows in islice(chunks(self.n_examples, 1, batch_size), skip, None):
            targets = None if self.targets is None else self.targets[rows]
            if targets is not None and targets.is_inference():
                targets = targets.clone()  # unpickled under inference_mode
            yield Batch(rows if self.rows is None else self.rows[rows], targets, rows)

    @property
    def sparse_matrix(self) -> Any:
        """The sparse matrix that all inputs are rows of, or None."""
        return self.source.tree if sparse.issparse(self.source.tree) else None

    def take(self, rows: Any) -> Examples:
        """Some of the examples, in the order of ``rows``.

        Parameters
        ----------
        rows : slice, int array-like or bool mask of shape (n_examples,)

        Returns
        -------
        examples : Examples
            Inputs are read from the same source; only positions are copied.

        Raises
        ------
        IndexError
            If a position does not exist or a mask has another length.
        """
        positions = positions_of(rows, self.n_examples)
        targets = self.targets
        if targets is not None:
            targets = targets[torch.as_tensor(positions, device=targets.device)]
        index = None if self.index is None else self.index[positions]
        inner = positions if self.rows is None else self.rows[positions]
        weights = self.weights
        if weights is not None:
            weights = weights[torch.as_tensor(positions, device=weights.device)]
        return Examples(self.source, self.placement, targets, index, inner, weights)

    def gathered(self) -> Examples:
        """The same examples with a source of their own, which holds no others.

        Returns
        -------
        examples : Examples
            Unchanged if they are items of a Dataset.
        """
        rows = slice(0, len(self.source)) if self.rows is None else self.rows
        source = self.source.gathered(rows)
        if source is None:
            return self
        return Examples(source, self.placement, self.targets, self.index, None, self.weights)

    def with_targets(self, targets: Tensor) -> Examples:
        """Return the same inputs with other, already encoded targets.

        Parameters
        ----------
        targets : Tensor of shape (n_examples, ...)

        Returns
        -------
        examples : Examples
        """
        check_same_length({"examples": self.n_examples, "targets": len(targets)})
        if targets.is_floating_point():
            targets = targets.to(torch.promote_types(self.placement.dtype, torch.float32))
        targets = targets.detach().to(self.placement.device)
        return Examples(self.source, self.placement, targets, self.index, self.rows, self.weights)

    def weighted(self, sample_weight: Any) -> Examples:
        """Return the same examples with weights in the training objective.

        Parameters
        ----------
        sample_weight : array-like of shape (n_examples,) or None
            None leaves the weights unchanged.

        Returns
        -------
        examples : Examples
        """
        if sample_weight is None:
            return self
        weights = torch.from_numpy(check_sample_weight(sample_weight, self.n_examples))
        weights = weights.to(self.placement.device)
        return Examples(self.source, self.placement, self.targets, self.index, self.rows, weights)


def make_examples(
    task: Task,
    X: Any,
    y: Any = None,
    *,
    require_y: bool = True,
    name: str = "X",
    learned: bool = False,
) -> Examples:
    """Read data as the examples of a task.

    Parameters
    ----------
    task : Task
        Defines the input transform, the classes, and the device and dtype of the batches.
    X : array-like, DataFrame, sparse matrix, Tensor, tuple or dict of them, Dataset, DataLoader
        A tuple holds several inputs of the module, a dict its keyword arguments; a list is
        a list of rows.  The task's transform is applied here, once.  A Dataset is map-style
        and yields x, (x, y), or a dict whose entry "labels" holds the targets.  A DataLoader is
        read as its dataset in order (even with ``shuffle=True``), collated by its ``collate_fn``. A
        Dataset should return the same item every time.
    y : array-like or Tensor of shape (n_examples,) or (n_examples, n_outputs), default=None
        Raw labels or values. Leave y out if the Dataset yields them. It is optional for a causal
        language model, whose labels are its own inputs.
    require_y : bool, default=True
        Whether targets are needed.
    name : str, default="X"
        The argument's name in messages.
    learned : bool, default=False
        Whether the model learned from these rows: then they are read as a Pipeline's last step saw
        them.

    Returns
    -------
    examples : Examples

    Raises
    ------
    ValueError
        If lengths, features, labels or values do not fit the task, or targets are missing
        or given twice.
    TypeError
        If X is of a kind or dtype that cannot be read.
    """
    y_name = "y" + name[1:] if name.startswith("X") else "y"
    if isinstance(X, Examples):
        if y is not None:
            raise given_twice(name, y_name)
        return X
    X = X.tocsr() if hasattr(X, "tocsr") else X  # scipy's dok matrices look like dicts
    if task.collate_fn is not None:
        X, y = text_rows(task, X, y, name, y_name)
    if hasattr(X, "slices"):
        source, y = open_source(task, X, y, name, y_name, learned)
    else:
        source = open_inputs(task, X, name, y if learned else None)
    y = targets_of(task, source, y, require_y, name, y_name)
    targets = None if y is None else _encode(task, source, y, name, y_name)
    placement = Placement(task.device, task.input_dtype, all_float=uses_matrix(task))
    examples = Examples(source, placement, targets, row_labels(X, y))
    if not task.convex:
        settle_output(task, examples)
    one = None if task.convex else try_task(task, lambda k: next(examples.batches(k)).inputs)
    if targets is not None and task.loss.is_own:
        check_own_loss(task, examples, y_name)
    outputs = _first_outputs(task, next(examples.batches(1)).inputs, name) if one is None else one
    if targets is not None:
        check_targets(task, outputs, targets, y_name)
        if source.tree is None:
            check_padding(task, examples, name)
    return examples


@torch.no_grad()
def _first_outputs(task: Task, inputs: Any, name: str) -> Tensor:
    """Outputs for the first example, with a clear error if the model cannot take it."""
    try:
        return task.forward(inputs)
    except UnsupportedModelError:
        raise
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise not_taken(task, inputs, name) from error
    except Exception as error:
        raise ValueError(
            f"{name}: {task.name} cannot take it: its forward raises {type(error).__name__}: "
            f"{error}. Accepted are inputs as in training; its own error is shown above."
        ) from error


def _encode(task: Task, source: Source, y: Any, name: str, y_name: str) -> Tensor:
    if isinstance(y, (tuple, Mapping)) and is_structured(y):
        return pack_targets(task, source, y, y_name)
    check_tensor(y, y_name)
    refuse_odd_targets(y, y_name)
    y = stacked(y, y_name) if isinstance(y, (list, tuple)) else one_column(y)
    y = y if hasattr(y, "shape") else np.asarray(y)
    if len(y.shape) == 0 or 0 in y.shape[1:]:
        raise ValueError(
            f"{y_name}: got {y!r} of shape {tuple(y.shape)}; accepted: one target for each example."
        )
    n, times = len(source), y.shape[0] // len(source)
    if times > 1 and len(y.shape) == 1 and y.shape[0] == n * times:
        raise ValueError(
            f"{y_name}: got shape ({y.shape[0]},) for {n} examples; accepted is one row for each "
            f"example. If each has {times} targets, give {y_name}.reshape({n}, {times})."
        )
    check_same_length({name: n, y_name: y.shape[0]})
    return encode_targets(task, y, y_name)


class ExamplesList(tuple):
    """Examples of several models, one for each, of the same rows.

    Models may have their own preprocessing (fitted Pipelines), so each reads the data itself.
    Rows, targets and labels are the same for all.

    Parameters
    ----------
    iterable : iterable of Examples
        Examples for each model; made by :func:`open_examples`.
    """

    def __repr__(self) -> str:
        return f"ExamplesList(n_models={len(self)}, first={self[0]!r})"

    @property
    def n_examples(self) -> int:
        """Number of examples."""
        return len(self[0])

    @property
    def targets(self) -> Any:
        """Targets as the first model encodes them."""
        return self[0].targets

    @property
    def index(self) -> Any:
        """Row labels."""
        return self[0].index

    def weighted(self, sample_weight: Any) -> ExamplesList:
        """The same examples with weights, for every model; see :meth:`Examples.weighted`."""
        return ExamplesList(examples.weighted(sample_weight) for examples in self)

    def take(self, rows: Any) -> ExamplesList:
        """Some of the examples, for every model.

        Parameters
        ----------
        rows : slice, int array-like or bool mask of shape (n_examples,)

        Returns
        -------
        ExamplesList
        """
        return ExamplesList(examples.take(rows) for examples in self)

    def gathered(self) -> ExamplesList:
        """The same examples alone, for every model; see :meth:`Examples.gathered`."""
        return ExamplesList(examples.gathered() for examples in self)


def open_examples(task: Any, X: Any, y: Any = None, **options: Any) -> Any:
    """Read data as the examples of one model, or of each of several.

    Parameters
    ----------
    task : Task or TaskList
    X, y, **options
        Arguments of :func:`make_examples`.

    Returns
    -------
    Examples or ExamplesList
    """
    name = options.get("name", "X")
    if isinstance(task, Task):
        if isinstance(X, ExamplesList):
            raise TypeError(
                f"{name}: got the examples of {len(X)} models, but there is only one task."
            )
        return make_examples(task, X, y, **options)
    if isinstance(X, ExamplesList):
        return X
    X = read_once(X, name) if hasattr(X, "slices") else X
    if isinstance(X, Examples):
        raise TypeError(f"{name}: got Examples of one model, but there are {len(task)} models.")
    return ExamplesList(make_examples(t, X, y, **options) for t in task)


def each(one_or_several: Any) -> Sequence[Any]:
    """A Task or Examples as a list of one; a TaskList or ExamplesList unchanged.

    Parameters
    ----------
    one_or_several : Task, TaskList, Examples or ExamplesList

    Returns
    -------
    sequence of Task or of Examples
    """
    several = isinstance(one_or_several, (TaskList, ExamplesList))
    return one_or_several if several else [one_or_several]
