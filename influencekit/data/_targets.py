"""Convert raw labels and values to the tensors that a task's loss takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from influencekit.data._datasets import DatasetSource
from influencekit.data._missing import as_floats
from influencekit.data._sources import Source, check_dtype, check_finite, to_tensor
from influencekit.data._target_values import check_values
from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.models.losses._elementwise import ColumnLoss
from influencekit.models.losses._sequence import SequenceCrossEntropy
from influencekit.models.losses.meta._vote import ValueVote
from influencekit.utils._arguments import refuse_masked
from influencekit.utils._long_work import chunks

__all__ = [
    "check_targets",
    "encode_targets",
    "given_twice",
    "one_column",
    "refuse_odd_targets",
    "targets_of",
]


def refuse_odd_targets(y: Any, name: str) -> None:
    """Refuse containers of targets that numpy would take as a single object."""
    if isinstance(y, np.ma.MaskedArray):
        refuse_masked(name, y)
    if sparse.issparse(y):
        raise TypeError(
            f"{name}: got a sparse matrix of shape {y.shape}; accepted is one target for each "
            f"example in a dense array. Use {name}.toarray()."
        )
    if not hasattr(y, "shape") and not isinstance(y, (list, tuple)):
        raise ValueError(
            f"{name}: got {y!r} ({type(y).__name__}); accepted: one target for each example, in an "
            "array, a Series, a Tensor or a list."
        )


def one_column(y: Any) -> Any:
    """The column of a DataFrame with only one; anything else unchanged.

    Parameters
    ----------
    y : array-like

    Returns
    -------
    Series or array-like
    """
    frame = hasattr(y, "columns") and hasattr(y, "to_numpy")
    return y[y.columns[0]] if frame and y.shape[1] == 1 else y


def targets_of(task: Task, source: Source, y: Any, require_y: bool, name: str, y_name: str) -> Any:
    """The raw targets: from the argument, the Dataset, or the inputs themselves."""
    own = source.read_targets() if isinstance(source, DatasetSource) else None
    if own is not None and y is not None:
        raise given_twice(name, y_name)
    y = y if own is None else own
    if y is None and task.input_targets is not None:
        parts = chunks(len(source), 1, 256)
        return torch.cat([task.input_targets(source.read(rows)) for rows in parts])
    if y is None and require_y:
        raise ValueError(
            f"{y_name}: got None, but training examples need targets. Give {y_name}, or as "
            f"{name} a Dataset that yields (x, y)."
        )
    return y


def given_twice(name: str, y_name: str) -> ValueError:
    """Error for targets given both as an argument and with the data."""
    return ValueError(
        f"{y_name}: targets were given twice, by {y_name} and by the data in {name}. Leave "
        f"{y_name} out, or give a Dataset of inputs only (several in one tuple: ((x1, x2),))."
    )


def encode_targets(task: Task, y: Any, name: str = "y") -> Tensor:
    """All targets of a set of examples.

    Parameters
    ----------
    task : Task
    y : array-like or Tensor of shape (n,) or (n, n_outputs)
        Labels if the task has classes, otherwise what its loss takes.
    name : str, default="y"
        The argument's name in messages.

    Returns
    -------
    Tensor of shape (n, ...)
        On the task's device.  A regression target has two axes, as the outputs do.

    Raises
    ------
    ValueError
        If a label is unknown, a value of y is missing, or its shape does not fit the loss.
    TypeError
        If values are not numbers but numbers are needed.
    """
    if task.classes is not None:
        positions = torch.from_numpy(label_positions(y, task.classes, name))
        targets = task.loss.encode_classes(positions, len(task.classes))
    else:
        targets = _numbers(task, y, name)
    if targets.is_floating_point():
        return targets.to(device=task.device, dtype=task.dtype)
    return targets.to(task.device)


def label_positions(y: Any, classes: np.ndarray, name: str) -> np.ndarray:
    """Position (n,) of each label in ``classes``."""
    labels = y.detach().cpu().numpy() if isinstance(y, Tensor) else as_floats(np.asarray(y))
    if labels.ndim == 2 and labels.shape[1] == 1:  # scikit-learn's fit takes a column too
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(
            f"{name}: got shape {labels.shape}; accepted for a classifier is one label for each "
            f"example, "
            f"shape (n_examples,) or (n_examples, 1). Use {name}.argmax(axis=1) for one-hot rows."
        )
    if labels.dtype.kind in "OUS":
        values, inverse = _unique_objects(labels, name)
    else:
        check_finite(labels, name)
        unique, inverse = np.unique(labels, return_inverse=True)
        values = unique.tolist()
    known = {label: i for i, label in enumerate(np.asarray(classes).tolist())}
    unseen = [value for value in values if value not in known]
    if unseen:
        raise ValueError(
            f"{name}: got the label {_list(unseen)}, which the model was not fitted with; accepted "
            f"are {_list(list(known))}. Drop those rows, or fit the model on all labels."
        )
    return np.array([known[value] for value in values], dtype=np.int64)[inverse]


def _unique_objects(labels: np.ndarray, name: str) -> tuple[list, np.ndarray]:
    """Unique labels, in order of appearance, of an array that may mix types."""
    seen: dict[Any, int] = {}
    inverse = np.empty(len(labels), dtype=np.int64)
    for i, label in enumerate(labels.tolist()):
        if _is_missing(label):
            raise ValueError(f"{name}: the label in row {i} is missing ({label!r}); drop the row.")
        inverse[i] = seen.setdefault(label, len(seen))
    return list(seen), inverse


def _is_missing(label: Any) -> bool:
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(label, float) and label != label


def _numbers(task: Task, y: Any, name: str) -> Tensor:
    """Targets of a task without classes: tensors, cast to float if the loss needs it."""
    array = y if isinstance(y, Tensor) else as_floats(np.asarray(y))
    if not isinstance(array, Tensor) and array.dtype == object:
        array = _float_array(array, name)
    if not isinstance(array, Tensor) and array.dtype.kind in "US":
        raise TypeError(
            f"{name}: got text ({array.dtype}); the model was fitted with numbers. Encode the "
            f"labels as for its fit, for instance with the transform of the same LabelEncoder."
        )
    check_dtype(array, name)
    check_finite(array, name, task.dtype)
    if isinstance(task.loss, CrossEntropy) and not _are_classes(array):
        raise TypeError(
            f"{name}: got dtype {array.dtype}, shape {tuple(array.shape)}; accepted are integer "
            "class positions, shape (n_examples,), or the share of each class, shape (n_examples, "
            f"n_classes). Cast whole numbers: {name}.astype(int) or, for a Tensor, {name}.long()."
        )
    # to() with copy: later changes of the user's y must not reach the targets
    targets = to_tensor(array).detach().clone(memory_format=torch.contiguous_format)
    if isinstance(task.loss, (ColumnLoss, ValueVote)):
        targets = targets.to(task.dtype)
        return targets[:, None] if targets.ndim == 1 else targets
    if targets.is_floating_point() or targets.dtype == torch.bool:
        return targets
    return targets.long()


def _are_classes(array: Any) -> bool:
    """Whether values may be class positions, or floats in columns: class shares."""
    floating = array.is_floating_point() if isinstance(array, Tensor) else array.dtype.kind == "f"
    if array.dtype in (torch.bool, np.bool_):
        return False
    return array.ndim == 2 if floating else True


def _float_array(array: np.ndarray, name: str) -> np.ndarray:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name}: got values that are not numbers ({error}); the model's loss takes numbers. "
            f"Encode labels as for training, 0 to n_classes - 1."
        ) from error


def check_targets(task: Task, outputs: Tensor, targets: Tensor, name: str = "y") -> None:
    """Check targets (n, ...) against the loss and the model's outputs (1, ...) for one example.

    Without these checks, a wrong shape would be broadcast, or a loss evaluated where it is not
    defined, and the scores would be silently wrong.
    """
    if not outputs.numel():
        raise UnsupportedModelError(
            f"model: {task.name} has outputs of shape {('n', *outputs.shape[1:])}, without any "
            "number; accepted are outputs that a loss can depend on."
        )
    _check_shape(task, outputs, targets, name)
    if targets.is_floating_point():
        check_values(task, targets, name)


def _check_shape(task: Task, outputs: Tensor, targets: Tensor, name: str) -> None:
    shares = isinstance(task.loss, CrossEntropy) and targets.is_floating_point()
    weight = task.class_weight if isinstance(task.loss, CrossEntropy) else None
    if isinstance(weight, Tensor) and len(weight) != outputs.shape[1]:  # or "balanced"
        raise ValueError(
            f"loss: its weight has {len(weight)} classes, but {task.name} has {outputs.shape[1]} "
            "outputs; accepted is one weight for each output."
        )
    if shares and task.class_weight is not None:
        raise ValueError(
            f"{name}: got class probabilities, but {task.name} was trained with class weights, "
            "which torch then applies inside each example's loss; accepted are class labels. "
            "Or give as_task the loss itself: loss=lambda outputs, targets: "
            "F.cross_entropy(outputs, targets, weight=w, reduction='none')."
        )
    if isinstance(task.loss, ColumnLoss) or shares:
        expected = task.loss.target_shape(outputs)
        if targets.shape[1:] != expected:
            flat = f"({len(targets)},) or " if targets.shape[1:] == (1,) else ""
            raise ValueError(
                f"{name}: got shape {flat}{tuple(targets.shape)}, {task.name} has outputs of shape "
                f"{('n', *expected)}; accepted is one target for each output: give {name} of "
                "the shape of the outputs."
            )
    elif isinstance(task.loss, CrossEntropy):
        if outputs.ndim == 2:
            _check_ignored(task, targets, name)
        if task.classes is None:
            _check_positions(task, outputs, targets, name)
    elif isinstance(task.loss, SequenceCrossEntropy):
        _check_tokens(task.loss, task.name, outputs, targets, name)


def _check_ignored(task: Task, targets: Tensor, name: str) -> None:
    """Refuse examples that the criterion leaves out of the loss."""
    spatial = getattr(task.loss, "spatial", None)
    ignored = None if spatial is None else spatial.ignore_index
    left_out = 0 if ignored is None else int((targets == ignored).sum())
    if left_out:
        raise ValueError(
            f"{name}: got the label {ignored}, which the criterion ignores (ignore_index), so "
            f"{left_out} of the examples are not in the loss; accepted are other labels. "
            f"Leave those rows out: keep = {name} != {ignored}."
        )


def _check_positions(task: Task, outputs: Tensor, targets: Tensor, name: str) -> None:
    n_classes, axes = outputs.shape[1], tuple(outputs.shape[2:])
    shape = ", ".join(["n_examples", *map(str, axes)]) + ("" if axes else ",")
    accepted = f"accepted are integer class positions 0 to {n_classes - 1}, shape ({shape})"
    if tuple(targets.shape[1:]) != axes:
        ways = {1: f" Give {name}[:, 0].", n_classes: f" Give {name}.argmax(1)."}
        way = "" if axes or targets.ndim != 2 else ways.get(targets.shape[1], "")
        raise ValueError(f"{name}: got shape {tuple(targets.shape)}; {accepted}.{way}")
    spatial = getattr(task.loss, "spatial", None)
    ignored = None if spatial is None else spatial.ignore_index
    if axes and ignored is not None:
        accepted += f", or {ignored} for pixels not in the loss"
        targets = targets[targets != ignored]
        if not len(targets):
            raise ValueError(f"{name}: every label is {ignored}; {accepted}.")
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= n_classes:
        bad = low if low < 0 else high
        raise ValueError(
            f"{name}: got the label {bad}, but {task.name} has {n_classes} outputs; {accepted}."
        )


def _check_tokens(
    loss: SequenceCrossEntropy, model: str, outputs: Tensor, targets: Tensor, name: str
) -> None:
    ignored, n_classes = loss.ignore_index, outputs.shape[-1]
    accepted = (
        f"accepted are integer labels 0 to {n_classes - 1}, or {ignored} for tokens not in the "
        f"loss, shape (n_examples, {outputs.shape[1]})"
    )
    if outputs.ndim != 3:
        raise ValueError(
            f"model: {model} has outputs of shape {('n', *outputs.shape[1:])}; a loss for every "
            f"token needs (n_examples, n_tokens, n_classes)."
        )
    if targets.is_floating_point() or targets.shape[1:] != outputs.shape[1:2]:
        raise ValueError(f"{name}: got {targets.dtype}, shape {tuple(targets.shape)}; {accepted}.")
    bad = targets[(targets != ignored) & ((targets < 0) | (targets >= n_classes))]
    if len(bad):
        raise ValueError(f"{name}: got the label {int(bad[0])}; {accepted}.")
    if not bool((loss.labels(targets) != ignored).any()):
        raise ValueError(
            f"{name}: every label is {ignored}, so no token is in the loss; {accepted}."
        )


def _list(values: list) -> str:
    shown = ", ".join(repr(v) for v in values[:10])
    return shown if len(values) <= 10 else f"{shown} and {len(values) - 10} more"
