"""Values of rows, and their standard errors, from outputs of models trained on subsets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln

__all__ = [
    "Estimate",
    "beta_weights",
    "chains_of",
    "from_complements",
    "from_differences",
    "from_permutations",
    "pairs_of",
]


class Estimate(NamedTuple):
    """Scores and their standard errors, each (n_query, n_train)."""

    scores: NDArray
    errors: NDArray


def pairs_of(masks: NDArray) -> bool:
    """Whether every second subset is the complement of the one before."""
    return len(masks) % 2 == 0 and bool((masks[1::2] == ~masks[::2]).all())


def from_differences(masks: NDArray, outputs: NDArray) -> Estimate:
    """Mean output with each row minus mean output without it.

    Parameters
    ----------
    masks : ndarray of bool of shape (n_subsets, n_train)
    outputs : ndarray of shape (n_subsets, n_query)

    Returns
    -------
    Estimate
        Errors count a subset and its complement as one draw, where they come in pairs.
    """
    y, inside = outputs - outputs.mean(0), masks.astype(float)
    n_in = inside.sum(0)
    n_out = len(masks) - n_in
    mean_in, mean_out = (y.T @ inside) / n_in, (y.T @ (1 - inside)) / n_out
    scores = mean_in - mean_out
    with np.errstate(divide="ignore", invalid="ignore"):
        if pairs_of(masks):
            n_pairs = len(masks) // 2
            squares = np.square(y[::2] - y[1::2]).mean(0)[:, None] - np.square(scores)
            variance = squares / (n_pairs - 1)
        else:
            square = np.square(y).T
            variance = ((square @ inside) / n_in - np.square(mean_in)) / (n_in - 1)
            variance += ((square @ (1 - inside)) / n_out - np.square(mean_out)) / (n_out - 1)
    return Estimate(scores, np.sqrt(np.maximum(variance, 0)))


def from_complements(masks: NDArray, outputs: NDArray, full: NDArray, empty: NDArray) -> Estimate:
    """Shapley values from pairs of complements of all sizes alike.

    With the difference d of a pair, less what its size alone lets expect (a curve that is odd in
    the size, whose weights cancel), and j the size of its first subset, each row's draws are
    ``n d / 2j`` inside that subset and ``-n d / 2(n - j)`` outside.

    Parameters
    ----------
    masks : ndarray of bool of shape (2 n_pairs, n_train)
    outputs : ndarray of shape (2 n_pairs, n_query)
    full, empty : ndarray of shape (n_query,)
        Outputs with all rows and with none.

    Returns
    -------
    Estimate
    """
    n, inside = masks.shape[1], masks[::2].astype(float)
    sizes = inside.sum(1)
    differences = outputs[::2] - outputs[1::2] - _expected(sizes, n, outputs, full - empty)
    weights = inside * (n / (2 * sizes))[:, None]
    weights -= (1 - inside) * (n / (2 * (n - sizes)))[:, None]
    mean = (differences.T @ weights) / len(weights)
    squares = (np.square(differences).T @ np.square(weights)) / len(weights) - np.square(mean)
    share = (n - 1) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = share * np.sqrt(np.maximum(squares, 0) / (len(weights) - 1))
    return Estimate(((full - empty) / n)[:, None] + share * mean, errors)


def _expected(sizes: NDArray, n: int, outputs: NDArray, whole: NDArray) -> NDArray:
    """Difference of a pair that its sizes let expect, odd in the size, (n_pairs, n_query)."""
    t = ((2 * sizes - n) / n)[:, None]
    if len(t) < 10:
        return t * whole
    powers = np.hstack([t, t**3, t**5])
    fitted = np.linalg.lstsq(powers, outputs[::2] - outputs[1::2], rcond=None)[0]
    return powers @ fitted


def beta_weights(n: int, alpha: float, beta: float) -> NDArray:
    """Weight of a row's effect by its place in a random order, with mean 1.

    ``w_j = n C(n - 1, j - 1) B(j - 1 + β, n - j + α) / B(α, β)``: the effect on j - 1 rows.

    Parameters
    ----------
    n : int
    alpha, beta : float

    Returns
    -------
    ndarray of shape (n,)
    """
    j = np.arange(1, n + 1)
    choose = gammaln(n) - gammaln(j) - gammaln(n - j + 1)
    return n * np.exp(choose + betaln(j - 1 + beta, n - j + alpha) - betaln(alpha, beta))


def chains_of(masks: NDArray) -> list[NDArray] | None:
    """Subsets that grow by one row each, from one row on, as positions of masks.

    Parameters
    ----------
    masks : ndarray of bool of shape (n_subsets, n_train)

    Returns
    -------
    list of ndarray of int, or None
        None where some subset belongs to no such chain.
    """
    starts = np.flatnonzero(masks.sum(1) == 1)
    if not len(starts) or starts[0] != 0:
        return None
    chains = np.split(np.arange(len(masks)), starts[1:])
    for chain in chains:
        before, after = masks[chain[:-1]], masks[chain[1:]]
        if (before & ~after).any() or ((after & ~before).sum(1) != 1).any():
            return None
    return chains


def from_permutations(
    masks: NDArray, outputs: NDArray, full: NDArray, empty: NDArray, weights: NDArray
) -> Estimate:
    """Weighted mean effects of rows that join others in random orders.

    Weights are divided by their sum over the places that a row had.  Rows that an order did not
    come to share the rest of the effect evenly.

    Parameters
    ----------
    masks : ndarray of bool of shape (n_subsets, n_train)
        Chains, see :func:`chains_of`; where their number is even, two of them are one draw.
    outputs : ndarray of shape (n_subsets, n_query)
    full, empty : ndarray of shape (n_query,)
        Outputs with all rows and with none.
    weights : ndarray of shape (n_train,)
        By place in the order.

    Returns
    -------
    Estimate
    """
    chains = chains_of(masks) or []
    together = 2 if len(chains) % 2 == 0 else 1
    n_draws = len(chains) // together
    moments = np.zeros((4, len(full), masks.shape[1]))  # of e effects and w weights: e, ee, ew, ww
    total = np.zeros(masks.shape[1])
    for first in range(0, len(chains), together):
        e, w = np.zeros(moments.shape[1:]), np.zeros(len(total))
        for chain in chains[first : first + together]:
            effects, places = _effects(masks[chain], outputs[chain], full, empty, weights)
            e, w = e + places * effects, w + places
        moments += e, e * e, e * w, np.broadcast_to(w * w, e.shape)
        total += w
    total = np.maximum(total, np.finfo(float).tiny)
    effect, ee, ew, ww = moments
    scores = effect / total
    squares = np.maximum(ee - 2 * scores * ew + np.square(scores) * ww, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.sqrt(squares * n_draws / (n_draws - 1)) / total
    return Estimate(scores, errors)


def _effects(
    masks: NDArray, outputs: NDArray, full: NDArray, empty: NDArray, weights: NDArray
) -> tuple[NDArray, NDArray]:
    """Effect (n_query, n_train) of every row in one order, and its weight (n_train,)."""
    length, left = len(masks), ~masks[-1]
    rows = np.argmax(np.diff(masks, axis=0, prepend=False), axis=1)
    effects, places = np.empty((len(full), len(left))), np.empty(len(left))
    effects[:, rows] = np.diff(outputs, axis=0, prepend=empty[None]).T
    places[rows] = weights[:length]
    if left.any():
        effects[:, left] = ((full - outputs[-1]) / left.sum())[:, None]
        places[left] = weights[length:].mean()
    return effects, places
