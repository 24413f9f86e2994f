"""Output of retrained models against the share of rows removed."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit.applications._removal import RemovalCurve
from influencekit.displays._style import (
    curve_style,
    legend_text,
    literal,
    neutral_color,
    open_axes,
)

__all__ = ["RemovalCurveDisplay"]


class RemovalCurveDisplay:
    """Curves of a removal experiment, with random removal and no removal for comparison.

    Parameters
    ----------
    curve : RemovalCurve

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    lines_ : dict of str to matplotlib Line2D
        By name of the scores, and "random"; each starts without removal.
    nothing_line_ : matplotlib Line2D
        Level without removal.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import InfluenceFunction
    >>> from influencekit.applications import removal_curve
    >>> from influencekit.displays import RemovalCurveDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> data = X[::2], y[::2], X[1::2], y[1::2]
    >>> model = LogisticRegression(max_iter=1000).fit(*data[:2])
    >>> scores = InfluenceFunction().fit(model, *data[:2]).score(*data[2:])
    >>> curve = removal_curve(model, *data, {"IF": scores}, fractions=[0.2], random_state=0)
    >>> RemovalCurveDisplay(curve).plot().ax_.get_xlabel()  # doctest: +SKIP
    'most helpful rows removed (%)'
    """

    def __init__(self, curve: RemovalCurve):
        self.curve = curve

    @classmethod
    def from_result(
        cls, curve: RemovalCurve, *, ax: Any = None, **options: Any
    ) -> RemovalCurveDisplay:
        """Draw a result of :func:`influencekit.applications.removal_curve`.

        Parameters
        ----------
        curve : RemovalCurve
        ax : matplotlib Axes, default=None
        **options
            Of :meth:`plot`.

        Returns
        -------
        RemovalCurveDisplay
        """
        return cls(curve).plot(ax=ax, **options)

    def plot(self, ax: Any = None, *, legend_loc: str | None = "best") -> RemovalCurveDisplay:
        """Draw means, with bars of one standard error.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        legend_loc : str or None, default="best"
            Matplotlib's ``loc``; None for no legend.

        Returns
        -------
        self : RemovalCurveDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = open_axes(self, ax)
        means, errors = self.curve.means(), self.curve.standard_errors()
        level = float(means.pop("nothing")[0])
        start = float(errors.pop("nothing")[0])
        x = 100 * np.concatenate([[0.0], self.curve.fractions])
        order = np.argsort(x)
        gray = neutral_color()
        self.nothing_line_ = ax.axhline(level, color=gray, lw=1, ls=":", label="nothing removed")
        self.lines_ = {}
        scored = [name for name in means if name != "random"]
        styles = {name: curve_style(i) for i, name in enumerate(scored)}
        styles["random"] = {"color": gray, "marker": "x", "linestyle": "--"}
        for name, values in means.items():
            y = np.concatenate([[level], values])[order]
            bars = np.nan_to_num(np.concatenate([[start], errors[name]])[order])
            options = {"markersize": 5, "capsize": 2, "label": legend_text(name), **styles[name]}
            drawn = ax.errorbar(x[order], y, bars, **options)
            self.lines_[name] = drawn.lines[0]
        ax.set(
            xlabel=f"most {self.curve.which} rows removed (%)",
            ylabel=literal(f"{self.curve.output} after retraining"),
        )
        if legend_loc is not None:
            ax.legend(loc=legend_loc, fontsize="small")
        return self
