"""Numbers that belong to a model as a whole, as functions of its outputs on evaluation data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.data._examples import Examples
from influencekit.data._inputs import compare_row_labels
from influencekit.groups._labels import encode_labels, group_values
from influencekit.models._outputs import ClassProbability, for_task
from influencekit.models._task import Task
from influencekit.models.losses._base import class_positions
from influencekit.utils._optional import import_optional
from influencekit.utils._suggest import did_you_mean

__all__ = [
    "DemographicParityDifference",
    "EqualizedOddsDifference",
    "check_property",
    "named_properties",
    "one_finite_number",
    "property_slopes",
    "resolve_property",
]

#: ``property(outputs, targets) -> scalar``: natural outputs (n, ...) of all evaluation rows.
Property = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class _MeanNegLoss:
    """Minus the mean loss on the evaluation data."""

    task: Task

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        _require_targets(targets, "'mean_neg_loss'")
        return -self.task.loss(outputs, targets).mean()


def mean_neg_loss(task: Task) -> Property:
    """Minus the mean loss of a task: higher is better.

    Parameters
    ----------
    task : Task

    Returns
    -------
    callable
    """
    return _MeanNegLoss(task)


def _require_targets(targets: Tensor | None, name: str) -> None:
    if targets is None:
        raise ValueError(f"y: got None; property {name} needs the targets of the evaluation rows.")


class _Gap:
    """Largest group mean of the positive class's probability minus the smallest.

    Parameters
    ----------
    sensitive : array-like of shape (n_evaluation,)
        Group of each evaluation row.
    positive : int, default=1
        Position of the class whose probability is looked at.

    Raises
    ------
    ValueError
        If a group is missing.
    """

    def __init__(self, sensitive: Any, positive: int = 1):
        n_rows = len(sensitive) if hasattr(sensitive, "__len__") else 0
        self.sensitive = group_values(sensitive, n_rows, "sensitive")
        self.row_labels = getattr(sensitive, "index", None) if hasattr(sensitive, "iloc") else None
        self.positive = _position(positive)
        self._positions, self.groups = encode_labels(self.sensitive)
        self._probability = ClassProbability(self.positive, "property")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(groups={self.groups.tolist()})"

    def for_task(self, task: Task) -> _Gap:
        """The same gap in the probabilities that a model's ``predict_proba`` gives."""
        bound = copy.copy(self)
        bound._probability = self._probability.for_task(task)  # noqa: SLF001  a copy of itself
        return bound

    def _probabilities(self, outputs: Tensor) -> Tensor:
        if len(outputs) != len(self.sensitive):
            raise ValueError(
                f"sensitive: got {len(self.sensitive):,} labels for {len(outputs):,} evaluation "
                "rows; accepted is one for each."
            )
        return self._probability(outputs)

    def _spread(self, values: Tensor, counted: Tensor | None = None) -> Tensor:
        positions = torch.as_tensor(self._positions, device=values.device)
        means = []
        for g, label in enumerate(self.groups):
            own = positions == g if counted is None else (positions == g) & counted
            if not bool(own.any()):
                raise ValueError(
                    f"sensitive: the group {str(label)!r} does not have evaluation rows that "
                    f"count here. Merge it with another, or use more evaluation rows."
                )
            means.append(values[own].mean())
        found = torch.stack(means)
        return found.max() - found.min()


def _position(positive: Any) -> int:
    """A class's position as a plain number; a label of another kind is refused."""
    if isinstance(positive, (bool, np.bool_, Integral)) and int(positive) >= 0:
        return int(positive)
    raise ValueError(
        f"positive: got {positive!r}; accepted is the position of the positive class, its column "
        "of predict_proba: 0, 1, .... For a label, give list(model.classes_).index(label)."
    )


class DemographicParityDifference(_Gap):
    """Gap between groups in the mean probability of the positive class.

    Parameters
    ----------
    sensitive : array-like of shape (n_evaluation,)
        Group of each row of the evaluation data.
    positive : int, default=1
        Position of the positive class: its column of ``predict_proba``.

    Notes
    -----
    Attributors take the probabilities of the model's own ``predict_proba``, and refuse a model
    that has none.  Called on outputs alone, the gap reads them as logits.

    The largest mean minus the smallest, between 0 and 1.  Probabilities in place of decisions
    make it smooth; thresholded decisions are counted by
    :func:`influencekit.applications.fairness_gap`.

    Examples
    --------
    >>> import torch
    >>> from influencekit.groups import DemographicParityDifference
    >>> gap = DemographicParityDifference(["a", "a", "b"])
    >>> outputs = torch.tensor([[0.0, 2.0], [0.0, 2.0], [0.0, 0.0]])
    >>> round(float(gap(outputs, None)), 3)
    0.381
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002  the form of an output function
        """Gap of a model with these outputs."""
        return self._spread(self._probabilities(outputs))


class EqualizedOddsDifference(_Gap):
    """Largest gap between groups in the mean probability of the positive class, given the label.

    Parameters
    ----------
    sensitive : array-like of shape (n_evaluation,)
        Group of each row of the evaluation data.
    positive : int, default=1
        Position of the positive class: its column of ``predict_proba``.

    Notes
    -----
    Attributors take the probabilities of the model's own ``predict_proba``, and refuse a model
    that has none.  Called on outputs alone, the gap reads them as logits.

    The larger of two gaps: among rows with the positive label, and among the others.

    Examples
    --------
    >>> import torch
    >>> from influencekit.groups import EqualizedOddsDifference
    >>> gap = EqualizedOddsDifference(["a", "a", "b", "b"])
    >>> outputs = torch.tensor([[0.0, 2.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    >>> round(float(gap(outputs, torch.tensor([1, 0, 1, 0]))), 3)
    0.381
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Gap of a model with these outputs."""
        p = self._probabilities(outputs)
        _require_targets(targets, type(self).__name__)
        positive = class_positions(targets) == self.positive
        gaps = [self._spread(p, counted) for counted in (positive, ~positive)]
        return torch.stack(gaps).max()


def compare_index(index: Any, given: Any) -> None:
    """Warn if a gap's labels are in another order than the evaluation rows.

    Parameters
    ----------
    index : pandas.Index or None
        Row labels of the evaluation data.
    given : object
        A property.
    """
    people = getattr(given, "row_labels", None)
    if index is not None and people is not None:  # only pandas' data have row labels
        pd = import_optional("pandas", "Row labels")
        compare_row_labels(X=pd.Series(0, index=index), sensitive=pd.Series(0, index=people))


def named_properties(given: Any) -> dict[Any, Any]:
    """Properties by their names, one or several.

    Parameters
    ----------
    given : {"mean_neg_loss"}, callable, or list or dict of them

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If there is none, one is neither a name nor a function, or two have the same name.
    """
    listed = list(given) if isinstance(given, (list, tuple)) else [given]
    named = dict(given) if isinstance(given, Mapping) else {_name_of(one): one for one in listed}
    if not named:
        raise ValueError(
            f"property: got {given!r}; accepted is at least one property. Give None to explain the "
            "output of each row."
        )
    for one in named.values():
        if not isinstance(one, str) and not callable(one):
            raise ValueError(
                f"property: got {one!r} among several; accepted are 'mean_neg_loss' and functions "
                "(outputs, targets) -> scalar Tensor of all evaluation rows."
            )
    if not isinstance(given, Mapping) and len(named) < len(listed):
        raise ValueError(
            f"property: got {len(listed)} properties with the names {list(map(_name_of, listed))}; "
            "accepted is a list of properties with names of their own. Give a dict of name and "
            "property, such as {'gap by sex': DemographicParityDifference(sex)}."
        )
    return named


def _name_of(given: Any) -> str:
    return given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)


def resolve_property(task: Task, given: Any) -> Property:
    """Function that a ``property`` parameter means.

    Parameters
    ----------
    task : Task
    given : {"mean_neg_loss"} or callable

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        If it is unknown, or needs what the model does not give.
    """
    check_property(given)
    return mean_neg_loss(task) if isinstance(given, str) else for_task(given, task)


def check_property(given: Any) -> None:
    """Refuse an unknown name of a property."""
    if isinstance(given, str) and given != "mean_neg_loss":
        raise ValueError(
            f"property: got {given!r}; accepted are 'mean_neg_loss' and a function "
            "(outputs, targets) -> scalar Tensor of all evaluation rows."
            f"{did_you_mean(given, ['mean_neg_loss'])}"
        )


def one_finite_number(value: Any) -> Tensor:
    """What a property returned, checked to be one finite number."""
    if isinstance(value, Tensor) and value.numel() == 1 and bool(torch.isfinite(value)):
        return value
    got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    got = str(value.item()) if isinstance(value, Tensor) and value.numel() == 1 else got
    raise ValueError(
        f"property: the function returned {got}; accepted is one finite number for all "
        "evaluation rows together, a scalar Tensor."
    )


def property_slopes(
    task: Task, function: Property, queries: Examples, batch_size: int = 1024
) -> tuple[float, Tensor]:
    """Value of a property, and its derivative by the outputs of each evaluation row.

    Parameters
    ----------
    task : Task
    function : callable
    queries : Examples
    batch_size : int, default=1024

    Returns
    -------
    value : float
    slopes : Tensor of the outputs' shape

    Raises
    ------
    ValueError
        If the function gives anything but one finite number, or does not depend on the outputs.
    """
    with torch.no_grad():
        parts = [task.forward(batch.inputs) for batch in queries.batches(batch_size)]
    outputs = torch.cat(parts).requires_grad_(True)
    with torch.enable_grad():
        value = one_finite_number(function(outputs, queries.targets))
    if not value.requires_grad:
        raise ValueError(
            "property: its value does not depend on the outputs in a way that torch can "
            "differentiate. Use probabilities in place of decisions, and only torch operations."
        )
    return value.item(), torch.autograd.grad(value.reshape(()), outputs)[0]
