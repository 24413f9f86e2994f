"""Softmax cross-entropy."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from influencekit.models.losses._base import (
    Draw,
    HessianFactor,
    OutputLoss,
    class_positions,
    log_floor,
)

__all__ = ["CrossEntropy", "label_gradients"]


class CrossEntropy(OutputLoss):
    """Softmax cross-entropy of logits (n, n_classes) and class positions (n,).

    With ``spatial``, logits (n, n_classes, ...) and class positions (n, ...) as well, one for each
    pixel: the classes are second, as in torch.

    Parameters
    ----------
    label_smoothing : float in [0, 1), default=0.0
    smoothing_weight : Tensor of shape (n_classes,), default=None
        Class weights, all positive, of a criterion with label smoothing and class weights: torch
        weights the smoothed part by each class, and the rest by the example's class. The loss here
        is that of the criterion divided by the weight of the example's class, which the Task has as
        ``class_weight``.
    spatial : SequenceCrossEntropy or None, default=None
        The loss of several positions for each example, with classes last.
    """

    problem_type = "classification"

    def __init__(
        self,
        label_smoothing: float = 0.0,
        smoothing_weight: Tensor | None = None,
        spatial: Any = None,
    ):
        self.label_smoothing = label_smoothing
        self.smoothing_weight = smoothing_weight
        self.spatial = spatial

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.spatial is not None and outputs.ndim > 2:
            return self.spatial(_classes_last(outputs), targets.flatten(1))
        if outputs.ndim != 2:
            raise _no_matrix(outputs)
        if self.smoothing_weight is None:
            return F.cross_entropy(
                outputs, targets, reduction="none", label_smoothing=self.label_smoothing
            )
        shares = self._shares(targets, outputs)
        return -(shares * torch.log_softmax(outputs, dim=-1)).sum(-1)

    def example_weights(self, targets: Tensor) -> Tensor | None:
        """Weights (n,) of the examples: how much their pixels count."""
        if not self.weighs_classes(targets):
            return None
        return self.spatial.example_weights(targets.flatten(1))

    def weighs_classes(self, targets: Tensor) -> bool:
        return self.spatial is not None and targets.ndim > 1 and not targets.is_floating_point()

    def _shares(self, targets: Tensor, outputs: Tensor) -> Tensor:
        """Share ``q`` of every class in the loss ``-Σ q_c log p_c``, shape (n, n_classes)."""
        n_classes = outputs.shape[-1]
        if targets.is_floating_point():
            shares = targets.to(outputs.dtype)
        else:
            classes = torch.arange(n_classes, device=outputs.device)
            shares = (targets[:, None] == classes).to(outputs.dtype)
        if self.label_smoothing == 0:
            return shares
        smooth = torch.full_like(outputs, self.label_smoothing / n_classes)
        if self.smoothing_weight is not None:
            weight = self.smoothing_weight.to(outputs)
            smooth = smooth * weight / weight[targets][:, None]
        return shares * (1 - self.label_smoothing) + smooth

    def hessian_scale(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What the Hessian ``diag(p) - p pᵀ`` of each example is multiplied with, (n,)."""
        return self._shares(targets, outputs).sum(-1)

    def hessian_factor(self, outputs: Tensor, targets: Tensor) -> HessianFactor:
        # L = diag(√p) - p √pᵀ has the null vector √p.  A Householder reflection turns that
        # vector into the last axis, so one column is exactly zero and is dropped.
        if self.spatial is not None and outputs.ndim > 2:
            found = self.spatial.hessian_factor(_classes_last(outputs), targets.flatten(1))
            rows = found.factor.unflatten(1, (-1, outputs.shape[1])).transpose(1, 2).flatten(1, 2)
            return HessianFactor(rows, found.coordinates)
        if outputs.ndim != 2:
            raise _no_matrix(outputs)
        log_p = torch.log_softmax(outputs, dim=-1).clamp_min(log_floor(outputs.dtype))
        root_p = torch.exp(log_p / 2)
        factor = torch.diag_embed(root_p) - root_p.square()[:, :, None] * root_p[:, None, :]
        shares = self._shares(targets, outputs)
        total = shares.sum(-1, keepdim=True).sqrt()  # 1 unless smoothing is weighted
        coordinates = -shares * torch.exp(-log_p / 2) / total
        reflection = root_p.clone()
        reflection[:, -1] += 1.0  # root_p >= 0: no cancellation
        reflection = reflection / reflection.norm(dim=-1, keepdim=True)
        reflected = factor - 2 * (factor @ reflection[:, :, None]) * reflection[:, None, :]
        moved = coordinates - 2 * (coordinates * reflection).sum(-1, keepdim=True) * reflection
        return HessianFactor(total[:, :, None] * reflected[:, :, :-1], moved[:, :-1])

    def sampled_gradients(self, outputs: Tensor, targets: Tensor, draw: Draw) -> Tensor:
        if self.spatial is not None and outputs.ndim > 2:
            flat, labels = _classes_last(outputs), targets.flatten(1)
            drawn = self.spatial.sampled_gradients(flat, labels, draw)
            return drawn.transpose(2, 3).unflatten(3, outputs.shape[2:])
        if outputs.ndim != 2:
            raise _no_matrix(outputs)
        gradients = label_gradients(outputs, draw())
        if self.smoothing_weight is None:
            return gradients
        return gradients * self.hessian_scale(outputs, targets).sqrt()[:, None, None]

    def predict_proba(self, outputs: Tensor) -> Tensor:
        return torch.softmax(
            outputs, dim=1 if self.spatial is not None and outputs.ndim > 2 else -1
        )

    def predicted_targets(self, outputs: Tensor) -> Tensor:
        if self.spatial is not None and outputs.ndim > 2:
            return outputs.argmax(1)
        return super().predicted_targets(outputs)

    def positions(self, targets: Tensor) -> Tensor:
        return targets if self.weighs_classes(targets) else class_positions(targets)

    def logit(self, outputs: Tensor, positions: Tensor) -> Tensor:
        if self.spatial is not None and outputs.ndim > 2:
            return self.spatial.logit(_classes_last(outputs), positions.flatten(1))
        return super().logit(outputs, positions)

    def margin(self, outputs: Tensor, positions: Tensor) -> Tensor:
        if self.spatial is not None and outputs.ndim > 2:
            return self.spatial.margin(_classes_last(outputs), positions.flatten(1))
        given = outputs.gather(1, positions[:, None])[:, 0]
        others = outputs.scatter(1, positions[:, None], -math.inf)
        return given - torch.logsumexp(others, dim=1)

    def class_logits(self, outputs: Tensor) -> Tensor:
        return outputs


def _classes_last(outputs: Tensor) -> Tensor:
    """Logits (n, n_classes, ...) as (n, n_positions, n_classes)."""
    return outputs.flatten(2).transpose(1, 2)


def _no_matrix(outputs: Tensor) -> ValueError:
    return ValueError(
        f"model: its outputs have shape {tuple(outputs.shape)}; cross-entropy is accepted for "
        "(n_examples, n_classes). For a loss of several positions per example, with classes "
        "last, give loss=influencekit.models.SequenceCrossEntropy(); else a callable: "
        "loss=lambda outputs, targets: "
        "F.cross_entropy(outputs, targets, reduction='none').flatten(1).mean(1)."
    )


def label_gradients(logits: Tensor, uniform: Tensor) -> Tensor:
    """Gradients ``p - onehot(c)`` of softmax cross-entropy at labels c drawn from p.

    Parameters
    ----------
    logits : Tensor of shape (n, ..., n_classes)
    uniform : Tensor of shape (n, n_samples, ...)
        Numbers in (0, 1): position of the label in the cumulative probabilities.

    Returns
    -------
    Tensor of shape (n, n_samples, ..., n_classes)
    """
    p = torch.softmax(logits, dim=-1)
    cumulated = p.to(torch.float64).cumsum(-1)
    places = uniform.movedim(1, -1).to(cumulated) * cumulated[..., -1:]
    labels = torch.searchsorted(cumulated, places.contiguous()).movedim(-1, 1)
    out = p[:, None].repeat(1, uniform.shape[1], *[1] * (p.ndim - 1))
    labels = labels.clamp_max(p.shape[-1] - 1)[..., None]
    return out.scatter_add_(-1, labels, out.new_full(labels.shape, -1.0))
