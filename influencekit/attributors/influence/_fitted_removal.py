"""An influence function of a linear model whose removals are exact in their leverage."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch

from influencekit.attributors.influence._fitted_influence import FittedInfluence
from influencekit.data._examples import Examples
from influencekit.exceptions import LeverageWarning, warn_user
from influencekit.removal._effects import LinearQueries, read_queries
from influencekit.removal._linear_fit import LinearFit
from influencekit.removal._whitened import ALONE, Whitened, whitened

__all__ = ["FittedRemoval", "coefficient_effects"]


class FittedRemoval(FittedInfluence):
    """A linear model with its rows, from which rows and groups are removed.

    Parameters
    ----------
    influence : FittedInfluence
        The same model to first order, which chooses the damping.
    order : {"first", "leverage", "newton"}
    """

    def __init__(self, influence: FittedInfluence, order: str):
        vars(self).update(vars(influence))
        self.order = order
        self._white: Whitened | None = None

    @property
    def white(self) -> Whitened:
        """The model's decomposed Hessian at the damping in use."""
        if self._white is None:
            damped = self.damping > 0
            self._white = whitened(self.linear, self.damping) if damped else self.undamped
        return self._white

    def at(self, damping: float) -> Self:
        return self._with(damping=damping, _white=None)

    def warn_of_leverage(self) -> None:
        if self.order == "first":
            super().warn_of_leverage()
        elif not self.shares:
            self.shares.append(float(np.mean(self.white.leverages > ALONE)))
            if self.shares[0] > 0:
                warn_user(
                    f"{self.shares[0]:.1%} of the training rows have a leverage of 1: the data do "
                    f"not determine {self.task.name} without one of them (a row alone in its "
                    f"level, or as many columns as rows). Where only such a row decides, the model "
                    f"is taken to stay, with a score near 0. Fit the model with a penalty.",
                    LeverageWarning,
                )

    def scores(self, queries: Examples) -> np.ndarray:
        self.warn_of_leverage()
        return self._effects(self._read(queries), self.white.steps(self.order))

    def self_scores(self) -> np.ndarray:
        steps, white = self.white.steps(self.order), self.white
        moved = [np.einsum("ikq,iq->ik", P, steps[some]) for some, P in white.blocks()]
        change = np.concatenate(moved)
        if self.order == "newton":
            return _losses(white.fit, change) - _losses(white.fit, 0.0)
        # g_iᵀ P_i v_i: the change of each row's own loss
        return np.einsum("ik,ik->i", white.slopes, change)

    def group_scores(self, queries: Examples, labels: np.ndarray, n_groups: int) -> np.ndarray:
        """Effect (n_queries, n_groups) of removing whole groups of the learned rows."""
        steps = self.white.group_steps(self.order, labels, n_groups)
        return self._effects(self._read(queries), steps)

    def coefficient_scores(self) -> np.ndarray:
        """``coef - coef without``, (k·d, n_train), on raw features, output by output."""
        self.warn_of_leverage()
        return coefficient_effects(self.white, self.white.steps(self.order))

    def _read(self, queries: Examples) -> LinearQueries:
        return read_queries(self.white, queries, self.output)

    def _effects(self, queries: LinearQueries, steps: np.ndarray) -> np.ndarray:
        if self.order == "newton":
            return queries.evaluated(steps)
        return queries.linearized(steps)


def _losses(fit: LinearFit, change: np.ndarray | float) -> np.ndarray:
    """Each row's own loss after its outputs have changed."""
    with torch.no_grad():
        return fit.task.loss(torch.from_numpy(fit.outputs + change), fit.targets).numpy()


def coefficient_effects(white: Whitened, steps: np.ndarray) -> np.ndarray:
    """``coef - coef without`` of steps (n, q), (k·d, n), on raw features, output by output."""
    k, d = white.fit.theta.shape
    moved = (white.basis @ steps.T).T.reshape(-1, k, d)
    return -white.fit.raw(moved).reshape(-1, k * d).T
