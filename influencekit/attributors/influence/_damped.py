"""Attributors whose damping can be changed after the fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from influencekit._fitted import DampedFitted
from influencekit.exceptions import LambdaPathWarning, warn_user
from influencekit.utils import validate_parameters, with_gradients

__all__ = ["DampedMixin", "of_models"]

F = TypeVar("F", bound=DampedFitted)


class DampedMixin:
    """``set_damping`` and what several models share, for attributors with a ``damping``.

    Authors write ``_named_damping(name, fitted)``, and end ``_fit`` with
    ``return self._at(fitted, self.damping)``.
    """

    damping: Any
    fitted_: Sequence[DampedFitted]

    def _named_damping(self, name: str, fitted: Any) -> float:
        """What a damping given by name, such as "auto", stands for in one model."""
        raise NotImplementedError

    def _at(self, fitted: F, damping: float | str) -> F:
        """What was learned from one model, with a damping given as a number or by name."""
        if isinstance(damping, str):
            return fitted.at(float(self._named_damping(damping, fitted)))
        _warn_below(fitted.least_damping, float(damping))
        return fitted.at(float(damping))

    @property
    def damping_(self) -> Any:
        """λ in use: a float, or an ndarray with one for each of several models."""
        return of_models([fitted.damping for fitted in self.fitted_])

    @property
    def eigenvalues_(self) -> np.ndarray:
        """Of the curvature without damping, those of all models together."""
        if any(fitted.eigenvalues is None for fitted in self.fitted_):
            raise AttributeError("eigenvalues_: the curvature has none.")
        if len(self.fitted_) == 1:
            return self.fitted_[0].eigenvalues
        return np.sort(np.concatenate([fitted.eigenvalues for fitted in self.fitted_]))

    @with_gradients
    def set_damping(self, damping):
        """Change the damping of a fitted attributor; nothing else of the fit depends on it.

        Parameters
        ----------
        damping : float or str
            A number, or a name that the parameter ``damping`` accepts.

        Returns
        -------
        self : object
        """
        check_is_fitted(self, "fitted_")
        before, self.damping = self.damping, damping
        try:
            validate_parameters(self)
        except ValueError:
            self.damping = before
            raise
        self.fitted_ = [self._at(fitted, damping) for fitted in self.fitted_]
        return self


def _warn_below(floor: float, damping: float) -> None:
    """Warn of a damping that rounding rules."""
    if 0 < damping < floor:
        warn_user(
            f"damping={damping:.2g} is below {floor:.2g}, the least that the rounding of the "
            "curvature's eigenvalues can carry: directions without curvature may drown the scores. "
            f"Give 0, which leaves them out, or {floor:.2g} and more.",
            LambdaPathWarning,
        )


def of_models(values: list) -> Any:
    """The value of one model, or an array of those of several."""
    return values[0] if len(values) == 1 else np.array(values)
