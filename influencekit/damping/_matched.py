"""Damping that matches a stated amount of gradient descent."""

from __future__ import annotations

from influencekit.training.further._config import ResolvedTraining

__all__ = ["matched_damping"]


def matched_damping(config: ResolvedTraining) -> float:
    """Damping at which an influence function describes a stated amount of gradient descent.

    T steps of size η along a direction of curvature s move a fraction ``1 - (1 - ηs)^T`` of
    the way to its minimum; ``s / (s + λ)`` with ``λ = 1 / (ηT)`` has the same slope at s = 0
    and the same limit.  Momentum β multiplies the step by ``1 / (1 - β)``.

    Parameters
    ----------
    config : ResolvedTraining
        Configuration of training with SGD.

    Returns
    -------
    float
    """
    return (1.0 - config.momentum) / (config.lr * config.n_steps)
