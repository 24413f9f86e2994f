"""torch criteria, and their functional forms, as losses of natural outputs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial, singledispatch
from math import inf, isfinite
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._links import Logit, NormalizedLogProbabilities
from influencekit.models.losses._base import NONNEGATIVE, SIGNS, OutputLoss
from influencekit.models.losses._binary import BinaryCrossEntropy
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.models.losses._custom import CustomLoss
from influencekit.models.losses._elementwise import ElementwiseLoss, SquaredError
from influencekit.models.losses._sequence import SequenceCrossEntropy
from influencekit.models.losses._several_arguments import PLACES, SeveralArguments

__all__ = ["Criterion", "frozen_criterion", "read_criterion"]


class Criterion(NamedTuple):
    """What a training criterion defines for a Task.

    Attributes
    ----------
    loss : OutputLoss
    link : callable or None
    class_weight : Tensor of shape (n_classes,) or None
    reduction : {"mean", "sum"}
    """

    loss: OutputLoss
    link: Callable[[Tensor], Tensor] | None = None
    class_weight: Tensor | None = None
    reduction: Literal["mean", "sum"] = "mean"


FUNCTIONAL: dict[Callable[..., Tensor], type[nn.Module]] = {
    F.cross_entropy: nn.CrossEntropyLoss,
    F.nll_loss: nn.NLLLoss,
    F.binary_cross_entropy: nn.BCELoss,
    F.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    F.mse_loss: nn.MSELoss,
    F.l1_loss: nn.L1Loss,
    F.smooth_l1_loss: nn.SmoothL1Loss,
    F.huber_loss: nn.HuberLoss,
    F.poisson_nll_loss: nn.PoissonNLLLoss,
}


#: Settings of torch's criteria: what is a loss, and in words.
_SETTINGS: dict[str, tuple[Callable[[float], bool], str]] = {
    "label_smoothing": (lambda value: 0 <= value <= 1, "a number between 0 and 1"),
    "delta": (lambda value: 0 < value < inf, "a positive number"),
    "beta": (lambda value: 0 <= value < inf, "a number that is not negative"),
    "margin": (isfinite, "a finite number"),
    "eps": (lambda value: 0 < value < inf, "a positive number"),
}


@singledispatch
def read_criterion(criterion: Any) -> Criterion:
    """Read a criterion, a function of (outputs, targets), or an OutputLoss.

    Parameters
    ----------
    criterion : torch.nn.Module, callable or OutputLoss

    Returns
    -------
    Criterion

    Raises
    ------
    TypeError
        If it is not one of these.
    UnsupportedModelError
        If the criterion's objective is not supported.
    """
    if isinstance(criterion, type):
        raise TypeError(
            f"loss: got the class {criterion.__name__}; accepted is an instance: "
            f"loss={criterion.__name__}()."
        )
    if not callable(criterion):
        raise TypeError(
            f"loss: got {type(criterion).__name__}; accepted is a torch criterion such as "
            "nn.CrossEntropyLoss(), or a callable loss(outputs, targets)."
        )
    if isinstance(criterion, partial) and criterion.func in FUNCTIONAL and not criterion.args:
        return read_criterion(FUNCTIONAL[criterion.func](**criterion.keywords))
    if criterion in FUNCTIONAL:
        return read_criterion(FUNCTIONAL[criterion]())
    return Criterion(CustomLoss(criterion))


@read_criterion.register
def _(criterion: OutputLoss) -> Criterion:
    return Criterion(criterion)


@read_criterion.register
def _(criterion: nn.Module) -> Criterion:
    criterion = getattr(criterion, "_orig_mod", criterion)  # torch.compile's wrapper
    _check_settings(criterion)
    reader = _READERS.get(type(criterion), _custom)
    return reader(criterion)


def _check_settings(criterion: nn.Module) -> None:
    """Refuse settings that make a criterion of torch no loss; torch takes some of them."""
    if not type(criterion).__module__.startswith("torch.nn."):
        return
    for name, (fits, accepted) in _SETTINGS.items():
        value = getattr(criterion, name, None)
        if isinstance(value, (int, float)) and not fits(value):
            raise ValueError(
                f"loss: got {type(criterion).__name__} with {name}={value}; accepted is {accepted}."
            )


def _custom(criterion: nn.Module) -> Criterion:
    frozen = frozen_criterion(criterion)
    function = SeveralArguments(frozen) if type(criterion) in PLACES else frozen
    loss = CustomLoss(function)
    loss.target_range = _RANGES.get(type(criterion))
    return Criterion(loss, reduction=_reduction(criterion))


def _cross_entropy(criterion: nn.CrossEntropyLoss) -> Criterion:
    smoothing, weight = float(criterion.label_smoothing), _constant(criterion.weight)
    loss = CrossEntropy(smoothing, weight if smoothing else None, _spatial(criterion, smoothing))
    if smoothing and weight is not None and not bool((weight > 0).all()):
        raise UnsupportedModelError(
            "loss: CrossEntropyLoss with label_smoothing and a class weight of 0 gives examples "
            "with weight 0 a part of the loss. Use positive weights, or no smoothing."
        )
    return Criterion(loss, None, weight, _reduction(criterion))


def _spatial(
    criterion: nn.CrossEntropyLoss | nn.NLLLoss, smoothing: float = 0.0
) -> SequenceCrossEntropy:
    """The criterion of several positions for each example."""
    return SequenceCrossEntropy(
        "sum" if criterion.reduction == "sum" else "tokens",
        criterion.ignore_index,
        label_smoothing=smoothing,
        weight=_constant(criterion.weight),
    )


def _nll(criterion: nn.NLLLoss) -> Criterion:
    weight, loss = _constant(criterion.weight), CrossEntropy(spatial=_spatial(criterion))
    return Criterion(loss, NormalizedLogProbabilities(), weight, _reduction(criterion))


def _bce_with_logits(criterion: nn.BCEWithLogitsLoss) -> Criterion:
    weight, pos_weight = _constant(criterion.weight), _constant(criterion.pos_weight, "pos_weight")
    positive = weight if pos_weight is None else pos_weight
    if weight is not None and pos_weight is not None:
        positive = weight * pos_weight
    return Criterion(_binary(criterion, positive, weight), reduction=_reduction(criterion))


def _bce(criterion: nn.BCELoss) -> Criterion:
    weight = _constant(criterion.weight)
    return Criterion(_binary(criterion, weight, weight), Logit(), None, _reduction(criterion))


def _binary(
    criterion: nn.Module, positive: Tensor | None, negative: Tensor | None
) -> BinaryCrossEntropy:
    average = _reduction(criterion) == "mean"
    return BinaryCrossEntropy(positive, negative, average=average, multilabel=True)


def _squared_error(criterion: nn.MSELoss) -> Criterion:
    reduction = _reduction(criterion)
    return Criterion(SquaredError(average=reduction == "mean"), reduction=reduction)


def _elementwise(criterion: nn.Module) -> Criterion:
    reduction = _reduction(criterion)
    function: Any = copy.deepcopy(criterion)
    function.reduction = "none"
    return Criterion(ElementwiseLoss(function, reduction == "mean"), reduction=reduction)


def _poisson(criterion: nn.PoissonNLLLoss) -> Criterion:
    read = _elementwise(criterion)
    read.loss.target_range = NONNEGATIVE
    return read


#: Targets of other criteria of torch.
_RANGES = {
    nn.MultiLabelSoftMarginLoss: BinaryCrossEntropy.target_range,
    nn.SoftMarginLoss: SIGNS,
    nn.HingeEmbeddingLoss: SIGNS,
}

_READERS: dict[type, Callable[[Any], Criterion]] = {
    nn.CrossEntropyLoss: _cross_entropy,
    nn.NLLLoss: _nll,
    nn.BCEWithLogitsLoss: _bce_with_logits,
    nn.BCELoss: _bce,
    nn.MSELoss: _squared_error,
    nn.L1Loss: _elementwise,
    nn.SmoothL1Loss: _elementwise,
    nn.HuberLoss: _elementwise,
    nn.PoissonNLLLoss: _poisson,
}


def _reduction(criterion: nn.Module) -> Literal["mean", "sum"]:
    """Reduction of a criterion; "none" leaves the mean to the training loop."""
    return "sum" if getattr(criterion, "reduction", "mean") == "sum" else "mean"


def _constant(weight: Tensor | None, name: str = "weight") -> Tensor | None:
    """A weight of a criterion, after a check."""
    if weight is None:
        return None
    bad = ~(torch.isfinite(weight) & (weight >= 0))
    if bool(bad.any()):
        value = float(weight[bad].flatten()[0])
        what = "NaN" if value != value else f"{value:g}"
        raise ValueError(
            f"loss: its {name} holds {what}; accepted are finite weights that are not negative."
        )
    return weight.detach().clone()


def frozen_criterion(criterion: nn.Module) -> nn.Module:
    """Copy in eval mode, with any parameters as constants.

    Parameters
    ----------
    criterion : torch.nn.Module

    Returns
    -------
    torch.nn.Module
    """
    return copy.deepcopy(criterion).eval().requires_grad_(False)
