"""Losses of scikit-learn's SGD models as functions of score and target (or sign)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "clipped_probability",
    "half_squared_error",
    "huber",
    "modified_huber",
    "squared_epsilon_insensitive",
    "squared_error",
    "squared_hinge",
]


def half_squared_error(scores: Tensor, targets: Tensor) -> Tensor:
    """``½ (s - t)²``."""
    return 0.5 * (scores - targets).square()


def squared_error(scores: Tensor, targets: Tensor) -> Tensor:
    """``(s - t)²``."""
    return (scores - targets).square()


def huber(scores: Tensor, targets: Tensor, epsilon: float) -> Tensor:
    """``½ r²`` up to ``|r| = epsilon``, then linear."""
    size = (scores - targets).abs()
    inner = size.clamp_max(epsilon)
    return inner * (size - 0.5 * inner)


def squared_epsilon_insensitive(scores: Tensor, targets: Tensor, epsilon: float) -> Tensor:
    """``max(0, |r| - epsilon)²``."""
    return ((scores - targets).abs() - epsilon).clamp_min(0).square()


def squared_hinge(scores: Tensor, signs: Tensor) -> Tensor:
    """``max(0, 1 - s y)²``."""
    return (1 - scores * signs).clamp_min(0).square()


def modified_huber(scores: Tensor, signs: Tensor) -> Tensor:
    """``max(0, 1 - s y)²`` up to ``s y = -1``, then linear."""
    margin = scores * signs
    return torch.where(margin >= -1, (1 - margin).clamp_min(0).square(), -4 * margin)


def clipped_probability(scores: Tensor) -> Tensor:
    """Probabilities of a model fitted with :func:`modified_huber`."""
    return (scores.clamp(-1, 1) + 1) / 2
