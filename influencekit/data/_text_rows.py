"""Tokenized data in any container, for models that say how their items are collated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from influencekit.data._datasets import DatasetSource, split_batch
from influencekit.data._sources import Placement, leaves, map_tree, to_tensor
from influencekit.data._targets import given_twice
from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.models._task import Task

__all__ = ["check_padding", "text_rows"]

#: Padded examples whose loss is compared with that of the example alone.
_TRIED = 3


def text_rows(task: Task, X: Any, y: Any, name: str, y_name: str) -> tuple[Any, Any]:
    """A dict of inputs without its labels, or as a list of items where their lengths differ.

    Parameters
    ----------
    task : Task
        With a ``collate_fn``.
    X, y : object
        Data as in :func:`make_examples`.
    name, y_name : str
        Names of the arguments in messages.

    Returns
    -------
    X, y : object
    """
    if isinstance(X, str) or (isinstance(X, (list, tuple)) and X and isinstance(X[0], str)):
        raise TypeError(
            f"{name}: got texts; accepted are their tokens, as dicts of the arguments of "
            f"{task.name}. Tokenize them first: {name} = tokenizer(texts)."
        )
    if isinstance(X, Mapping):
        _check_entries(task, X, name)
        inputs, own = split_batch(X, name)
        if own is not None and y is not None:
            raise given_twice(name, y_name)
        y = y if own is None else own
        if not any(_is_ragged(values) for values in [*inputs.values(), y]):
            return _of_arrays(task, inputs, y, name)
        X = _items(inputs)
    if isinstance(X, list) and X and isinstance(X[0], Mapping) and y is not None:
        if split_batch(X[0], name)[1] is not None:
            raise given_twice(name, y_name)
        if len(X) == len(y):
            return [{**row, "labels": label} for row, label in zip(X, y, strict=True)], None
    return X, y


def _of_arrays(task: Task, inputs: dict, y: Any, name: str) -> tuple[Any, Any]:
    """Arrays of inputs and labels, finished as the task's collator finishes a batch."""
    finished = getattr(task.collate_fn, "finished", None)
    if finished is None:
        return inputs, y
    if y is None or np.ndim(y) < 2:
        return finished(inputs), y
    return split_batch(finished({**inputs, "labels": y}), name)


def _check_entries(task: Task, X: Mapping, name: str) -> None:
    """Refuse a dict that has no argument of the model, such as a DatasetDict."""
    columns = getattr(task.collate_fn, "columns", X)
    if X and not any(key in columns for key in X):
        raise ValueError(
            f"{name}: got a {type(X).__name__} with the entries {list(X)[:5]}; accepted are "
            f"arguments of {task.name}, such as {list(columns)[:3]}. Of a DatasetDict, give one "
            "Dataset."
        )


def _is_ragged(values: Any) -> bool:
    if not isinstance(values, (list, tuple)):
        return False
    return len({np.shape(row)[:1] if hasattr(row, "shape") else _length(row) for row in values}) > 1


def _length(row: Any) -> tuple[int, ...]:
    return (len(row),) if isinstance(row, (list, tuple)) else ()


def _items(inputs: Mapping) -> list[dict[str, Any]]:
    n = min(map(len, inputs.values()))
    return [{key: values[i] for key, values in inputs.items()} for i in range(n)]


@torch.no_grad()
def check_padding(task: Task, examples: Any, name: str) -> None:
    """Warn if the loss of an example depends on the padding that its batch adds.

    Parameters
    ----------
    task : Task
    examples : Examples
        With targets.
    name : str
        The argument's name in messages.

    Warns
    -----
    InfluenceKitWarning
    """
    source, tried = examples.source, 0
    if not isinstance(source, DatasetSource) or source.even is None or not source.even.longest:
        return
    if source.even.draws:  # another draw alone
        return
    for position in range(min(len(examples), 32)):
        inputs, targets = split_batch(source.even.alone(position), name)
        padded = next(examples.take([position]).batches(1))
        if targets is None and task.input_targets is not None:
            targets = task.input_targets(inputs)
        if targets is None or not _is_longer(padded.inputs, inputs):
            continue
        try:
            outputs = task.forward(_placed(examples.placement, inputs))
            alone = float(task.loss(outputs, torch.as_tensor(targets).to(task.device)))
        except (RuntimeError, IndexError, TypeError, ValueError):
            return  # said where the data are used
        found = float(task.loss(task.forward(padded.inputs), padded.targets))
        if abs(found - alone) > _rounding(task) * max(abs(alone), 0.01):
            warn_user(
                f"{name}: padding changes the model's loss of example {position}, which is "
                f"{alone:.4g} alone and {found:.4g} when padded to the longest example. "
                "Scores are those of the padded examples. Give an attention_mask, or pad on the "
                "right, if training did not see this padding.",
                InfluenceKitWarning,
            )
            return
        tried += 1
        if tried == _TRIED:
            return


def _rounding(task: Task) -> float:
    """Relative difference of two losses that rounding explains."""
    return 0.05 if torch.finfo(task.input_dtype).bits < 32 else 1e-3


def _is_longer(inputs: Any, others: Any) -> bool:
    """Whether a tensor of some inputs is larger than the same tensor of others."""
    sizes = {path: tuple(np.shape(leaf)) for path, leaf in leaves(others)}
    return any(tuple(leaf.shape) != sizes.get(path, leaf.shape) for path, leaf in leaves(inputs))


def _placed(placement: Placement, inputs: Any) -> Any:
    return placement.place(map_tree(lambda leaf, _: to_tensor(leaf), inputs))
