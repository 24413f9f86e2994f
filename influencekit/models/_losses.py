"""Losses as functions of a model's natural outputs, with their curvature in output space.

A natural output is what the loss is convex in: logits for a classifier, the prediction
for a regressor.  Each loss knows three things: its value per example, the factor ``L`` of
its Hessian with respect to the outputs (``H = L Lᵀ``), and the coordinates ``c`` of its
gradient in that factor (``∇ = L c``).  The generalised Gauss-Newton matrix needs all three.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "CustomLoss",
    "HessianFactor",
    "OutputLoss",
    "SquaredError",
    "class_positions",
]


class HessianFactor(NamedTuple):
    """Factor of a batch of output-space Hessians.

    Attributes
    ----------
    factor : Tensor of shape (n, n_outputs, rank)
        ``L`` with ``H = L Lᵀ`` for every example (outputs flattened).
    coordinates : Tensor of shape (n, rank) or None
        ``c`` with ``∇loss = L c``; None where some gradient leaves the range of ``L``.
    """

    factor: Tensor
    coordinates: Tensor | None


class OutputLoss(ABC):
    """A per-example loss of the natural outputs.  Lower is better."""

    #: "classification", "regression" or "other"
    kind: str = "other"

    @abstractmethod
    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example: (n, ...), (n, ...) -> (n,)."""

    @abstractmethod
    def hessian_factor(self, outputs: Tensor, targets: Tensor) -> HessianFactor:
        """Factor of the Hessian with respect to the flattened outputs."""

    def predict_proba(self, outputs: Tensor) -> Tensor:
        """Class probabilities (n, n_classes) from natural outputs."""
        raise TypeError(f"{type(self).__name__} does not define class probabilities.")

    def encode_classes(self, indices: Tensor, n_classes: int) -> Tensor:
        """Targets in the form that this loss takes, from class positions (n,)."""
        return indices

    def class_margins(self, outputs: Tensor) -> Tensor:
        """Log-odds of every class, log(p / (1 - p)), shape (n, n_classes)."""
        raise TypeError(f"{type(self).__name__} has no classes, so it has no margin.")

    def class_logits(self, outputs: Tensor) -> Tensor:
        """Raw score of every class, shape (n, n_classes)."""
        raise TypeError(f"{type(self).__name__} has no classes, so it has no logit.")


class CrossEntropy(OutputLoss):
    """Softmax cross-entropy of logits (n, n_classes) and class positions (n,).

    Parameters
    ----------
    label_smoothing : float in [0, 1), default=0.0
    """

    kind = "classification"

    def __init__(self, label_smoothing: float = 0.0):
        self.label_smoothing = label_smoothing

    def __call__(self, outputs, targets):
        return F.cross_entropy(
            outputs, targets, reduction="none", label_smoothing=self.label_smoothing
        )

    def hessian_factor(self, outputs, targets):
        # L = diag(√p) - p √pᵀ has the null vector √p.  A Householder reflection turns that
        # vector into the last axis, so one column is exactly zero and is dropped.
        log_p = torch.log_softmax(outputs, dim=-1)
        root_p = torch.exp(log_p / 2)
        factor = torch.diag_embed(root_p) - root_p.square()[:, :, None] * root_p[:, None, :]
        n_classes = outputs.shape[-1]
        smooth = self.label_smoothing / n_classes
        probabilities = F.one_hot(targets, n_classes).to(outputs.dtype)
        probabilities = probabilities * (1 - self.label_smoothing) + smooth
        coordinates = torch.where(
            probabilities > 0, -probabilities * torch.exp(-log_p / 2), torch.zeros_like(log_p)
        )
        mirror = root_p.clone()
        mirror[:, -1] += 1.0  # root_p >= 0: no cancellation
        mirror = mirror / mirror.norm(dim=-1, keepdim=True)
        reflected = factor - 2 * (factor @ mirror[:, :, None]) * mirror[:, None, :]
        moved = coordinates - 2 * (coordinates * mirror).sum(-1, keepdim=True) * mirror
        return HessianFactor(reflected[:, :, :-1], moved[:, :-1])

    def predict_proba(self, outputs):
        return torch.softmax(outputs, dim=-1)

    def class_margins(self, outputs):
        n_classes = outputs.shape[-1]
        others = outputs[:, None, :].expand(-1, n_classes, -1)
        diagonal = torch.eye(n_classes, dtype=torch.bool, device=outputs.device)
        others = others.masked_fill(diagonal, -math.inf)
        return outputs - torch.logsumexp(others, dim=-1)

    def class_logits(self, outputs):
        return outputs


class BinaryCrossEntropy(OutputLoss):
    """Logistic loss of logits (n, k) and targets in [0, 1] of the same shape, summed over k.

    With one column it is binary classification; with several, one-versus-rest.
    """

    kind = "classification"

    def __call__(self, outputs, targets):
        losses = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
        return losses.flatten(1).sum(1)

    def hessian_factor(self, outputs, targets):
        z, t = outputs.flatten(1), targets.flatten(1)
        scale = torch.exp((F.logsigmoid(z) + F.logsigmoid(-z)) / 2)
        # (σ - t)/√(σ(1-σ)), written so that a saturated unit on the right side gives 0
        rising = torch.where(t < 1, (1 - t) * torch.exp(z / 2), torch.zeros_like(z))
        falling = torch.where(t > 0, t * torch.exp(-z / 2), torch.zeros_like(z))
        return HessianFactor(torch.diag_embed(scale), rising - falling)

    def predict_proba(self, outputs):
        p = torch.sigmoid(outputs.flatten(1))
        if p.shape[1] == 1:
            return torch.cat([1 - p, p], dim=1)
        total = p.sum(1, keepdim=True)
        return torch.where(total > 0, p / total, torch.full_like(p, 1 / p.shape[1]))

    def encode_classes(self, indices, n_classes):
        if n_classes == 2:
            return indices[:, None].to(torch.get_default_dtype())
        return F.one_hot(indices, n_classes).to(torch.get_default_dtype())

    def class_margins(self, outputs):
        return self.class_logits(outputs)

    def class_logits(self, outputs):
        z = outputs.flatten(1)
        return torch.cat([-z, z], dim=1) if z.shape[1] == 1 else z


class SquaredError(OutputLoss):
    """``scale * Σ_k (output_k - target_k)²``.

    Parameters
    ----------
    scale : float, default=1.0
        1 for scikit-learn's Ridge, ½ where the model minimises half the squared error,
        1/k where a criterion averages over k outputs.
    """

    kind = "regression"

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def __call__(self, outputs, targets):
        return self.scale * (outputs - targets).flatten(1).square().sum(1)

    def hessian_factor(self, outputs, targets):
        residual = (outputs - targets).flatten(1)
        root = math.sqrt(2 * self.scale)
        eye = torch.eye(residual.shape[1], dtype=residual.dtype, device=residual.device)
        return HessianFactor(root * eye.expand(len(residual), -1, -1), root * residual)


class CustomLoss(OutputLoss):
    """Any differentiable loss, given as a function of (outputs, targets).

    Its Hessian in output space is taken by automatic differentiation and cut to its
    positive part; the Gauss-Newton matrix of a loss that is not convex in the outputs is
    therefore that of its convex part.

    Parameters
    ----------
    function : callable
        ``function(outputs, targets) -> (n,)``, one loss an example.
    kind : {"classification", "regression", "other"}, default="other"
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], kind: str = "other"):
        self.function = function
        self.kind = kind

    def __call__(self, outputs, targets):
        return self.function(outputs, targets)

    def hessian_factor(self, outputs, targets):
        shape = outputs.shape[1:]

        def one(output, target):
            return self.function(output.reshape(1, *shape), target[None]).sum()

        flat = outputs.detach().flatten(1)
        hessian = torch.func.vmap(torch.func.hessian(one))(flat, targets)
        gradient = torch.func.vmap(torch.func.grad(one))(flat, targets)
        values, vectors = torch.linalg.eigh(hessian)
        floor = values.abs().amax(1, keepdim=True) * torch.finfo(values.dtype).eps * flat.shape[1]
        keep = values > floor
        root = torch.where(keep, values, torch.zeros_like(values)).sqrt()
        inner = (vectors.mT @ gradient[:, :, None])[:, :, 0]
        safe = torch.where(keep, root, torch.ones_like(root))
        coordinates = torch.where(keep, inner / safe, torch.zeros_like(inner))
        factor = vectors * root[:, None, :]
        missing = (factor @ coordinates[:, :, None])[:, :, 0] - gradient
        tolerance = 1e3 * torch.finfo(values.dtype).eps * gradient.norm(dim=1).clamp_min(1e-30)
        inside = bool((missing.norm(dim=1) <= tolerance).all())
        return HessianFactor(factor, coordinates if inside else None)


def class_positions(targets: Tensor) -> Tensor:
    """Class position (n,) of targets in any encoding: positions, one column, or one-hot."""
    if not targets.is_floating_point():
        return targets
    return targets[:, 0].round().long() if targets.shape[1] == 1 else targets.argmax(1)
