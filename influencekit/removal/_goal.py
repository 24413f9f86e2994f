"""A number that a linear model gives, and what a removal of rows is to make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.removal._linear_fit import LinearFit
from influencekit.utils._long_work import chunks

__all__ = [
    "Goal",
    "coefficient_value",
    "flip_value",
    "output_value",
    "property_value",
    "scalar_property",
]

#: Outputs that are held at once.
_BLOCK = 2**23

#: Coefficients (s, k, d) of s models to their numbers (s,).
Value = Callable[[np.ndarray], np.ndarray]


@dataclass
class Goal:
    """Where a number is to go.

    Attributes
    ----------
    value : callable
        ``value(thetas)``, (s, k, d) -> (s,).
    before : float
        At the fitted model.
    until : float or None
        The number that is to be crossed; None for as far as a given number of rows take it.
    sign : float
        1 where the number is to fall, -1 where it is to rise.
    flipped : callable or None
        ``flipped(theta) -> bool`` in place of ``until``.
    """

    value: Value
    before: float
    until: float | None
    sign: float
    flipped: Callable[[np.ndarray], bool] | None = None

    def gains(self, thetas: np.ndarray) -> np.ndarray:
        """How far the numbers of models (s, k, d) have gone the right way, (s,)."""
        return self.sign * (self.before - self.value(thetas))

    def reached(self, theta: np.ndarray) -> bool:
        """Whether a model (k, d) is beyond the number that is to be crossed."""
        if self.flipped is not None:
            return self.flipped(theta)
        if self.until is None:
            return False
        return bool(self.sign * (self.until - self.value(theta[None])[0]) > 0)


def coefficient_value(fit: LinearFit, row: int) -> Value:
    """A coefficient on raw features, by its row among (k·d)."""
    return lambda thetas: fit.raw(thetas).reshape(len(thetas), -1)[:, row]


def output_value(X: np.ndarray, targets: Any, function: Callable[[Tensor, Any], Tensor]) -> Value:
    """A function ``f(outputs, targets) -> (n,)`` of one example, X of shape (1, d)."""

    def value(thetas: np.ndarray) -> np.ndarray:
        z = torch.from_numpy(thetas @ X[0])
        repeated = None if targets is None else targets.expand(len(z), *targets.shape[1:])
        with torch.no_grad():
            return function(z, repeated).double().numpy()

    return value


def property_value(X: np.ndarray, targets: Any, function: Callable[[Tensor, Any], Any]) -> Value:
    """A function ``f(outputs, targets) -> scalar`` of all examples X (m, d) together."""

    def value(thetas: np.ndarray) -> np.ndarray:
        found: list[float] = []
        for some in chunks(len(thetas), len(X) * thetas.shape[1], _BLOCK):
            outputs = np.einsum("md,skd->smk", X, thetas[some])
            with torch.no_grad():
                found += [scalar_property(function(z, targets)) for z in torch.from_numpy(outputs)]
        return np.array(found)

    return value


def scalar_property(value: Any, name: str = "property") -> float:
    """What a function of the outputs of all rows returned, if it is one finite number."""
    found = float(value) if isinstance(value, Tensor) and value.numel() == 1 else np.nan
    if not np.isfinite(found):
        raise ValueError(
            f"{name}: the function returned {value!r:.80}; accepted is one finite number for all "
            f"rows of X together, a scalar Tensor."
        )
    return found


def flip_value(fit: LinearFit, X: np.ndarray) -> tuple[Value, Callable[[np.ndarray], bool]]:
    """How far the predicted class of one example is above every other, and whether it changed.

    Parameters
    ----------
    fit : LinearFit
    X : ndarray of shape (1, d)

    Returns
    -------
    value : callable
    flipped : callable
    """
    loss: Any = fit.task.loss

    def predicted(thetas: np.ndarray) -> Tensor:
        return loss.predicted_positions(torch.from_numpy(thetas @ X[0]))

    own = int(predicted(fit.theta[None])[0])

    def value(thetas: np.ndarray) -> np.ndarray:
        z = thetas @ X[0]
        if z.shape[1] == 1:
            return (1.0 if own else -1.0) * (z[:, 0] - getattr(loss, "cut", 0.0))
        return z[:, own] - np.delete(z, own, axis=1).max(1)

    return value, lambda theta: int(predicted(theta[None])[0]) != own
