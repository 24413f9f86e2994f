"""Which of a module's several outputs without names the loss gets: what data can prove."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from influencekit.data._targets import check_targets
from influencekit.exceptions import UnsupportedModelError
from influencekit.models._call import call_module
from influencekit.models._several_outputs import says_shapes, takes_all, tensors_without_names
from influencekit.models._task import Task
from influencekit.models.losses._custom import CustomLoss
from influencekit.models.snapshot._kept import put_back
from influencekit.models.snapshot._trial import idle_parameters
from influencekit.utils._torch import plain_kernels

__all__ = ["settle_output"]

#: Examples on which a loss is tried.
_SOME = 8
#: What a model or a loss raises on what it was not made for.
_NOT_TAKEN = (
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    ValueError,
    RuntimeError,
    UnsupportedModelError,
    UserWarning,
)


def settle_output(task: Task, examples: Any) -> None:
    """Find out which of several outputs the loss gets, once.

    A function as loss that can take all of them gets all. Otherwise an output is the loss's if it
    is the only one that its targets fit; or, of several, the only one that all trainable parameters
    have an effect on, as they could not have been trained otherwise.

    Parameters
    ----------
    task : Task
        Its ``output_place`` becomes the place of that output.
    examples : Examples
        Without targets nothing is found out.

    Raises
    ------
    UnsupportedModelError
        If nothing proves which output it is.
    """
    loss, place = task.loss, task.output_place
    own = isinstance(loss, CustomLoss)
    if place == () or examples.targets is None or (place is not None and not own):
        return
    if isinstance(loss, CustomLoss) and loss.outputs_packing is not None:
        return
    raw, _ = _raw(task, examples, 1)
    if not isinstance(raw, Tensor):
        raw, _ = _raw(task, examples, 2)
    if raw is None:
        return
    if not isinstance(raw, Tensor) and isinstance(loss, CustomLoss):
        raw, targets = _raw(task, examples, _SOME)
        if takes_all(loss, raw, targets, task.name):
            return
    if isinstance(raw, Tensor) or not tensors_without_names(raw):
        place = ()
    elif place is None:
        place = _place(task, examples, raw)
    object.__setattr__(task, "output_place", place)  # a fact that data alone tell


def _raw(task: Task, examples: Any, k: int) -> tuple[Any, Any]:
    """What the module returns for the first k examples, and their targets; None if it cannot."""
    first = next(examples.batches(k))
    try:
        with torch.no_grad(), plain_kernels(), put_back(task.module):
            return call_module(task.module, first.inputs), first.targets
    except Exception:  # whatever a model raises is said where data are read
        return None, None


def _place(task: Task, examples: Any, raw: Any) -> tuple[Any, ...]:
    places = [place for place, _ in tensors_without_names(raw)]
    if len(places) == 1:
        return places[0]
    trials = [replace(task, output_place=place) for place in places]
    fitting = [trial for trial in trials if _fits(trial, examples)]
    if len(fitting) > 1:
        fitting = [trial for trial in fitting if _reaches_all(trial, examples)]
    if len(fitting) == 1:
        return fitting[0].output_place or ()
    count = "several" if len(fitting) != 0 else "not one"
    raise UnsupportedModelError(
        f"model: {task.name} returned {says_shapes(raw)} without names, and {count} of them can be "
        f"what {type(task.loss).__name__} takes with these targets and all trainable parameters "
        "have an effect on. Say which: "
        "loss=lambda outputs, y: F.cross_entropy(outputs[0], y), with the loss and the "
        "number that it was trained with; or return a dict with the entry 'logits'."
    )


def _fits(trial: Task, examples: Any) -> bool:
    """Whether the loss takes an output together with the targets."""
    first = next(examples.batches(_SOME))
    try:
        with warnings.catch_warnings(), torch.no_grad(), plain_kernels():
            warnings.simplefilter("error", UserWarning)  # a target that is broadcast
            outputs = trial.forward(first.inputs)
            check_targets(trial, outputs[:1], examples.targets)
            losses = trial.loss(outputs, first.targets)
    except _NOT_TAKEN:
        return False
    return losses.shape == (len(first.targets),) and bool(losses.isfinite().all())


def _reaches_all(trial: Task, examples: Any) -> bool:
    """Whether all trainable parameters have an effect on an output."""
    inputs = lambda k: next(examples.batches(k)).inputs  # noqa: E731
    with torch.enable_grad(), plain_kernels():
        return not idle_parameters(trial, trial.forward(inputs(2)), inputs)
