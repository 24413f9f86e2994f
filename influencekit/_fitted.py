"""What an attributor learns from a model: all that scoring needs, apart from the configuration."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np

from influencekit.data import Examples

__all__ = ["DampedFitted", "Fitted"]


class Fitted(ABC):
    """What was learned from one model and the examples that it learned from.

    ``BaseAttributor._fit`` returns it, and the attributor keeps a list of them, one for each
    model.  A fitted object is never changed: its methods return changed copies.

    Authors write ``__init__``, which keeps what was learned, ``scores(queries)``, and
    ``self_scores()`` where the method defines it.  Where scores explain an output, it is kept in
    the attribute ``output`` and nowhere else, and ``scores`` reads it there at every call:
    ``explaining`` returns a copy with another one.

    Attributes
    ----------
    output : str or callable, or None
        What is explained; None for methods that explain no output.
    """

    #: What is explained, for methods that explain an output.
    output: Any = None

    @abstractmethod
    def scores(self, queries: Examples) -> np.ndarray:
        """Scores (n_queries, n_train) of the training examples, float64.

        Parameters
        ----------
        queries : Examples
            Without targets the model's own predictions are explained.

        Returns
        -------
        ndarray of shape (n_queries, n_train)
        """

    def self_scores(self) -> np.ndarray:
        """Score (n_train,) of every training example on its own loss.

        Raises
        ------
        NotImplementedError
            If the method defines none.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define self-influence.")

    def explaining(self, output: Any) -> Self:
        """Explain another output with what was learned.

        Parameters
        ----------
        output : str or callable

        Returns
        -------
        Fitted
        """
        return self._with(output=output)

    def _with(self, **changes: Any) -> Self:
        """Copy with other attributes; what was learned is shared."""
        changed = copy.copy(self)
        vars(changed).update(changes)
        return changed


class DampedFitted(Fitted):
    """What was learned by a method with a damping λ.

    Authors write what :class:`Fitted` asks for, and ``path(queries)`` where the curvature has
    eigenvalues.  Nothing in it may depend on λ but what ``scores`` and ``self_scores`` compute
    from the attribute ``damping`` at every call: ``at`` returns a copy with another one.

    Attributes
    ----------
    damping : float
        λ in use.  Set by ``at``, which ``_fit`` calls last: ``return fitted.at(self.damping)``.
    eigenvalues : ndarray or None
        Of the curvature without damping, where it has any.
    least_damping : float
        Least λ above 0 that rounding can carry; 0 where any will do.
    """

    least_damping: float = 0.0
    damping: float
    eigenvalues: np.ndarray | None = None

    def at(self, damping: float) -> Self:
        """Score with another damping.

        Parameters
        ----------
        damping : float

        Returns
        -------
        DampedFitted
        """
        return self._with(damping=damping)

    def path(self, queries: Examples) -> Any:
        """Scores, surrogate indicator and subset sums of queries at any damping.

        Parameters
        ----------
        queries : Examples

        Returns
        -------
        DampingPath

        Raises
        ------
        NotImplementedError
            If the curvature has no eigenvalues.
        """
        raise NotImplementedError(f"{type(self).__name__} has no damping path.")
