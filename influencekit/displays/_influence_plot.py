"""Residuals over leverage, with Cook's distance as size."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit.displays._style import FIRST, literal, neutral_color, open_axes
from influencekit.removal._diagnostics import influence_diagnostics

__all__ = ["InfluencePlotDisplay"]

_COLUMNS = ("hat_diag", "student_resid", "cooks_d")


class InfluencePlotDisplay:
    """A circle for each training row: its leverage, its residual, Cook's distance as its area.

    Parameters
    ----------
    table : DataFrame
        Of :func:`influencekit.influence_diagnostics`.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    points_ : matplotlib PathCollection
    named_ : ndarray of int
        Positions of the rows that are named.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import LinearRegression
    >>> from influencekit.displays import InfluencePlotDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> display = InfluencePlotDisplay.from_estimator(LinearRegression().fit(X, y), X, y)
    >>> display.named_[:2].tolist()
    [382, 123]
    """

    def __init__(self, table: Any):
        missing = [name for name in _COLUMNS if name not in getattr(table, "columns", ())]
        if missing:
            raise ValueError(
                f"table: got a {type(table).__name__} without {missing}; accepted is what "
                f"influence_diagnostics returns."
            )
        self.table = table

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        ax: Any = None,
        **options: Any,
    ) -> InfluencePlotDisplay:
        """Draw the diagnostics of a fitted linear model.

        Parameters
        ----------
        model : fitted linear model, or Pipeline that ends in one
        X, y : array-like
            Its training data.
        sample_weight : array-like of shape (n_train,), default=None
        ax : matplotlib Axes, default=None
        **options
            Of :meth:`plot`.

        Returns
        -------
        InfluencePlotDisplay
        """
        table = influence_diagnostics(model, X, y, sample_weight=sample_weight)
        return cls(table).plot(ax=ax, **options)

    @classmethod
    def from_predictions(
        cls, table: Any, *, ax: Any = None, **options: Any
    ) -> InfluencePlotDisplay:
        """Draw given diagnostics.

        Parameters
        ----------
        table : DataFrame
            Of :func:`influencekit.influence_diagnostics`.
        ax : matplotlib Axes, default=None
        **options
            Of :meth:`plot`.

        Returns
        -------
        InfluencePlotDisplay
        """
        return cls(table).plot(ax=ax, **options)

    def plot(self, ax: Any = None, *, most: int = 5) -> InfluencePlotDisplay:
        """Draw all rows, and name those with the largest Cook's distance.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        most : int, default=5
            Rows that are named, by their index.

        Returns
        -------
        self : InfluencePlotDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        leverage, residual, cook = (self.table[name].to_numpy(float) for name in _COLUMNS)
        ax = open_axes(self, ax, (6.4, 4.8))
        finite = np.nan_to_num(cook, nan=0.0)
        self.named_ = np.argsort(-finite, kind="stable")[:most]
        areas = 8 + 500 * finite / max(finite.max(initial=0.0), 1e-300)
        color = FIRST["color"]
        self.points_ = ax.scatter(
            leverage, residual, s=areas, facecolor="none", edgecolor=color, lw=0.9
        )
        for j in self.named_[np.isfinite(residual[self.named_])]:
            ax.annotate(literal(self.table.index[j]), (leverage[j], residual[j]), fontsize="small")
        ax.axhline(0, color=neutral_color(), lw=0.8)
        ax.set_xlabel("leverage")
        ax.set_ylabel("studentized residual (area: Cook's distance)")
        return self
