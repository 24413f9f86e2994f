"""Training losses of boosted trees: first and second derivatives, and how they move with scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, softmax

__all__ = ["Derivatives", "base_score", "base_slopes", "derivatives"]


@dataclass
class Derivatives:
    """Derivatives of each row's loss with respect to its scores, for the trees of one stage.

    Attributes
    ----------
    first, second : ndarray of shape (n, k)
        First and second derivatives, from which leaf values are computed.
    first_slope, second_slope : ndarray of shape (n, k, k)
        Derivatives of these; ``[:, a, b]`` is that of output a with respect to score b.
    """

    first: np.ndarray
    second: np.ndarray
    first_slope: np.ndarray
    second_slope: np.ndarray


def derivatives(
    loss: str, scores: np.ndarray, targets: np.ndarray, curvature: float = 1.0
) -> Derivatives:
    """Derivatives at given scores.

    Parameters
    ----------
    loss : {"squared", "logistic", "softmax"}
    scores : ndarray of shape (n, k)
    targets : ndarray of shape (n, k)
        Numbers, or zeros and ones.
    curvature : float, default=1.0
        Factor by which a library multiplies the second derivative.

    Returns
    -------
    Derivatives
    """
    if loss == "squared":
        one, zero = np.ones_like(scores), np.zeros_like(scores)
        return Derivatives(scores - targets, one, one[:, :, None], zero[:, :, None])
    share = expit(scores) if loss == "logistic" else softmax(scores, axis=1)
    own = np.eye(scores.shape[1])
    moved = share[:, :, None] * (own - (share[:, None, :] if loss == "softmax" else share[:, None]))
    second_slope = curvature * (1 - 2 * share)[:, :, None] * moved
    return Derivatives(share - targets, curvature * share * (1 - share), moved, second_slope)


def base_score(rule: str, weights: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Score (k,) before the first tree, from weighted targets.

    Parameters
    ----------
    rule : {"mean", "log_odds", "newton_log_odds", "log_share", "centered_log_share"}
    weights : ndarray of shape (n,)
    targets : ndarray of shape (n, k)

    Returns
    -------
    ndarray of shape (k,)
    """
    mean = weights @ targets / weights.sum()
    if rule == "mean":
        return mean
    if rule == "newton_log_odds":
        return 4 * mean - 2  # one step from 0
    eps = np.finfo(np.float64).eps
    mean = np.clip(mean, eps, 1 - eps)
    if rule == "log_odds":
        return logit(mean)
    share = np.log(mean)
    return share - share.mean() if rule == "centered_log_share" else share


def base_slopes(rule: str, weights: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Derivative (n, k) of the base score with respect to each row's weight.

    Parameters
    ----------
    rule : {"fixed", "mean", "log_odds", "newton_log_odds", "log_share", "centered_log_share"}
    weights : ndarray of shape (n,)
    targets : ndarray of shape (n, k)

    Returns
    -------
    ndarray of shape (n, k)
    """
    if rule == "fixed":
        return np.zeros_like(targets)
    total = weights.sum()
    mean = weights @ targets / total
    slopes = (targets - mean) / total
    if rule in ("mean", "newton_log_odds"):
        return slopes if rule == "mean" else 4 * slopes
    eps = np.finfo(np.float64).eps
    mean = np.clip(mean, eps, 1 - eps)
    slopes = slopes / (mean * (1 - mean) if rule == "log_odds" else mean)
    return slopes - slopes.mean(1, keepdims=True) if rule == "centered_log_share" else slopes
