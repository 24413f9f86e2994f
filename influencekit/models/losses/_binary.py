"""Losses with one logit per class: binary classification, one-versus-rest and multilabel."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from influencekit.models.losses._base import Draw, HessianFactor, TargetRange, log_floor
from influencekit.models.losses._elementwise import ColumnLoss, flat_pair

__all__ = ["BinaryCrossEntropy", "BinaryLoss", "MarginLoss"]


class BinaryLoss(ColumnLoss):
    """Loss of scores (n, k) and targets in [0, 1] of the same shape.

    One column is binary classification; several columns are one-versus-rest, or several labels for
    each example.

    Parameters
    ----------
    positive_weight, negative_weight : Tensor of shape (1,) or (k,), default=None
        Weight of the part of each column's loss that belongs to targets 1 and 0.
    average : bool, default=False
        Mean over the k columns (torch criteria) instead of their sum.
    multilabel : bool, default=False
        Whether several columns mean several labels an example, not exclusive classes.
    """

    problem_type = "classification"
    target_range = TargetRange(0, 1, "from 0 to 1")
    #: Score above which a single column predicts the second class.
    cut: float = 0.0

    def __init__(
        self,
        positive_weight: Tensor | None = None,
        negative_weight: Tensor | None = None,
        average: bool = False,
        multilabel: bool = False,
    ):
        self.positive_weight = positive_weight
        self.negative_weight = negative_weight
        self.average = average
        self.multilabel = multilabel

    def shares(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Weight of the positive and of the negative loss of every column, each (n, k)."""
        return (
            _weigh(self.positive_weight, targets, outputs),
            _weigh(self.negative_weight, 1 - targets, outputs),
        )

    def encode_classes(self, indices: Tensor, n_classes: int) -> Tensor:
        if n_classes == 2:
            return indices[:, None].to(torch.get_default_dtype())
        return F.one_hot(indices, n_classes).to(torch.get_default_dtype())

    def predicted_targets(self, outputs: Tensor) -> Tensor:
        z = outputs.flatten(1)
        if z.shape[1] == 1 or self.multilabel:
            return (z > self.cut).to(z.dtype).reshape(outputs.shape)
        return F.one_hot(z.argmax(1), z.shape[1]).to(z.dtype)

    def predicted_positions(self, outputs: Tensor) -> Tensor:
        z = outputs.flatten(1)
        return (z[:, 0] > self.cut).long() if z.shape[1] == 1 else z.argmax(1)

    def margin(self, outputs: Tensor, positions: Tensor) -> Tensor:
        return self.logit(outputs, positions)

    def class_logits(self, outputs: Tensor) -> Tensor:
        z = outputs.flatten(1)
        if z.shape[1] == 1:
            return torch.cat([-z, z], dim=1)
        if self.multilabel:
            raise TypeError(
                f"output: the model has {z.shape[1]} labels for each example, so there is no "
                "single margin or logit. Use output='neg_loss' or a callable, for instance "
                "output=lambda outputs, targets: outputs[:, 0]."
            )
        return z

    def predict_proba(self, outputs: Tensor) -> Tensor:
        p = self._column_probabilities(outputs.flatten(1))
        if p.shape[1] == 1:
            return torch.cat([1 - p, p], dim=1)
        if self.multilabel:
            return p
        total = p.sum(1, keepdim=True)
        return torch.where(total > 0, p / total, 1 / p.shape[1])

    def _column_probabilities(self, _z: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not define class probabilities.")


class BinaryCrossEntropy(BinaryLoss):
    """Logistic loss of logits (n, k) and targets in [0, 1] of the same shape.

    Parameters
    ----------
    positive_weight, negative_weight : Tensor of shape (1,) or (k,), default=None
        Weight of the part of each column's loss that belongs to targets 1 and 0.
    average : bool, default=False
        Mean over the k columns (torch criteria) instead of their sum.
    multilabel : bool, default=False
        Whether several columns mean several labels an example, not exclusive classes.
    """

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        positive, negative = self.shares(outputs, targets)
        return -(positive * F.logsigmoid(outputs) + negative * F.logsigmoid(-outputs))

    def hessian_factor(self, outputs: Tensor, targets: Tensor) -> HessianFactor:
        z, t = flat_pair(outputs, targets)
        positive, negative = self.shares(z, t)
        limit = -log_floor(z.dtype)
        z = z.clamp(-limit, limit)
        total = (positive + negative).sqrt()
        root = total * torch.exp((F.logsigmoid(z) + F.logsigmoid(-z)) / 2)
        # (negative σ - positive (1 - σ)) / √(σ(1-σ)), without forming the quotient
        slope = negative * torch.exp(z / 2) - positive * torch.exp(-z / 2)
        coordinates = torch.where(total > 0, slope / torch.where(total > 0, total, 1.0), 0.0)
        scale = 1 / math.sqrt(z.shape[1]) if self.average else 1.0
        return HessianFactor(scale * torch.diag_embed(root), scale * coordinates)

    def sampled_gradients(self, outputs: Tensor, targets: Tensor, draw: Draw) -> Tensor:
        z, t = flat_pair(outputs, targets)
        positive, negative = self.shares(z, t)
        scale = (positive + negative).sqrt() / (math.sqrt(z.shape[1]) if self.average else 1.0)
        p = torch.sigmoid(z)[:, None]
        labels = (draw(z.shape[1]).to(z.device) < p).to(z.dtype)
        return ((p - labels) * scale[:, None]).unflatten(2, outputs.shape[1:])

    def _column_probabilities(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z)


class MarginLoss(BinaryLoss):
    """Any differentiable loss of a score and a sign, with one column per class.

    Parameters
    ----------
    function : callable
        ``function(scores, signs) -> losses``, all (n, k), signs -1 or +1.
    positive_weight, negative_weight : Tensor of shape (1,) or (k,), default=None
    probabilities : callable, default=None
        ``probabilities(scores) -> (n, k)``, if the model defines them.
    """

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        positive_weight: Tensor | None = None,
        negative_weight: Tensor | None = None,
        probabilities: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__(positive_weight, negative_weight)
        self.function = function
        self.probabilities = probabilities

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        positive, negative = self.shares(outputs, targets)
        signs = 2 * targets - 1
        return (positive + negative) * self.function(outputs, signs)

    def _column_probabilities(self, z: Tensor) -> Tensor:
        if self.probabilities is None:
            return super()._column_probabilities(z)
        return self.probabilities(z)


def _weigh(weight: Tensor | None, share: Tensor, outputs: Tensor) -> Tensor:
    if weight is None:
        return share
    if weight.numel() not in (1, outputs.shape[1]):
        raise ValueError(
            f"loss: its weight has {weight.numel()} values but the model has {outputs.shape[1]} "
            "outputs; accepted is one weight, or one for each output."
        )
    return weight.to(outputs).reshape(-1) * share
