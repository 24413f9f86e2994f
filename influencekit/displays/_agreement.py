"""Agreement with a gold standard against the amount of training or the number of seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from influencekit.displays._style import (
    BAND,
    curve_style,
    legend_text,
    literal,
    neutral_color,
    open_axes,
)
from influencekit.metrics._agreement import AgreementResult
from influencekit.metrics._seed_curve import SeedCurve
from influencekit.utils._arguments import real_array
from influencekit.utils._suggest import check_choice

__all__ = ["AgreementDisplay"]

#: Largest number of curves whose legend fits into the axes.
_MOST_INSIDE = 5


class AgreementDisplay:
    """Curves of several methods, and the band above the noise ceiling.

    Parameters
    ----------
    x : array-like of shape (n_points,)
        Horizons, or numbers of seeds: positive, ascending.
    curves : mapping of str to array-like of shape (n_points,)
        Agreement of each method.
    errors : mapping of str to array-like of shape (n_points,), default=None
        Half-widths of the bands around the curves.
    ceiling : array-like of shape (n_points,), default=None
        Highest agreement that the gold standard's noise allows; the band above is out of reach.
    xlabel, ylabel : str
        Labels of the axes.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    lines_ : dict of str to matplotlib Line2D
    ceiling_line_ : matplotlib Line2D or None
    band_ : matplotlib PolyCollection or None
        From the ceiling up to 1.

    Raises
    ------
    ValueError
        If lengths disagree or x is not positive and ascending.

    See Also
    --------
    influencekit.metrics.attribution_agreement : Agreement and ceiling per horizon.
    influencekit.metrics.agreement_by_seeds : Agreement per number of seeds.

    Examples
    --------
    >>> from influencekit.displays import AgreementDisplay
    >>> curves = {"GradDot": [0.9, 0.7, 0.4]}
    >>> display = AgreementDisplay([1, 5, 20], curves, ceiling=[0.97, 0.95, 0.9])
    >>> display.plot().ax_.get_xlabel()  # doctest: +SKIP
    'further training'
    """

    def __init__(
        self,
        x: ArrayLike,
        curves: Mapping[str, ArrayLike],
        errors: Mapping[str, ArrayLike] | None = None,
        *,
        ceiling: ArrayLike | None = None,
        xlabel: str = "further training",
        ylabel: str = "cosine",
    ):
        self.x = real_array("x", x)
        if self.x.ndim != 1 or not self.x.size or not (np.diff(self.x) > 0).all() or self.x[0] <= 0:
            raise ValueError(f"`x` must be positive and ascending; got {np.asarray(x).tolist()}.")
        if not curves:
            raise ValueError("`curves` is empty; give at least one method.")
        self.curves = {name: self._checked(y, f"curves[{name!r}]") for name, y in curves.items()}
        self.errors = {
            name: self._checked(y, f"errors[{name!r}]") for name, y in (errors or {}).items()
        }
        self.ceiling = None if ceiling is None else self._checked(ceiling, "ceiling")
        self.xlabel, self.ylabel = xlabel, ylabel

    def _checked(self, values: ArrayLike, name: str) -> np.ndarray:
        array = real_array("curves", values)
        if array.shape != self.x.shape:
            raise ValueError(f"`{name}` has shape {array.shape}; accepted is {self.x.shape}, as x.")
        return array

    @classmethod
    def from_results(
        cls,
        results: Mapping[str, AgreementResult],
        *,
        measure: str = "cosine",
        unit: str = "epochs",
        ax: Any = None,
        **options: Any,
    ) -> AgreementDisplay:
        """Draw agreement against the horizon.

        Parameters
        ----------
        results : mapping of str to AgreementResult
            By method, against one gold standard.
        measure : {"cosine", "spearman"}, default="cosine"
        unit : str, default="epochs"
            Unit of the horizons.
        ax : matplotlib Axes, default=None
        **options
            Of :meth:`plot`.

        Returns
        -------
        AgreementDisplay
        """
        check_choice("measure", measure, ("cosine", "spearman"))
        if not results:
            raise ValueError("`results` is empty; give at least one method.")
        first = next(iter(results.values()))
        name = measure if measure == "cosine" else "Spearman correlation"
        ceiling = getattr(first, f"{measure}_ceiling")
        return cls(
            first.horizons,
            {name: getattr(result, measure) for name, result in results.items()},
            {name: getattr(result, f"{measure}_se") for name, result in results.items()},
            ceiling=None if np.isnan(ceiling).all() else ceiling,
            xlabel=f"further training ({unit})",
            ylabel=f"{name} with measured effects",
        ).plot(ax=ax, **options)

    @classmethod
    def from_seed_curve(
        cls, curve: SeedCurve, *, ax: Any = None, **options: Any
    ) -> AgreementDisplay:
        """Draw the best cosine over horizons against the number of seeds.

        Parameters
        ----------
        curve : SeedCurve
        ax : matplotlib Axes, default=None
        **options
            Of :meth:`plot`.

        Returns
        -------
        AgreementDisplay
        """
        return cls(
            curve.n_repeats, curve.best(), xlabel="seeds", ylabel="best cosine over horizons"
        ).plot(ax=ax, **options)

    def plot(self, ax: Any = None, *, legend_loc: str | None = "auto") -> AgreementDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        legend_loc : str or None, default="auto"
            Matplotlib's ``loc``; None for no legend.  "auto" is "best" for up to five curves, and
            next to the axes for more.

        Returns
        -------
        self : AgreementDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = open_axes(self, ax)
        self._plot_ceiling(ax)
        self._plot_curves(ax)
        lowest = min(0.0, *(float(np.nanmin(y, initial=0.0)) for y in self.curves.values()))
        ax.set(xlabel=literal(self.xlabel), ylabel=literal(self.ylabel), ylim=(1.05 * lowest, 1.02))
        if len(self.x) > 1:
            ax.set_xscale("log")
        ticks = _apart(self.x)
        ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
        ax.set_xticks([], minor=True)
        self._plot_legend(ax, legend_loc)
        return self

    def _plot_legend(self, ax: Any, loc: str | None) -> None:
        if loc == "auto" and len(self.curves) > _MOST_INSIDE:
            ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize="small")
        elif loc is not None:
            ax.legend(loc="best" if loc == "auto" else loc, fontsize="small")

    def _plot_ceiling(self, ax: Any) -> None:
        self.ceiling_line_ = self.band_ = None
        if self.ceiling is None:
            return
        color = neutral_color()
        self.band_ = ax.fill_between(self.x, self.ceiling, 1.0, color=color, alpha=0.12, lw=0)
        (self.ceiling_line_,) = ax.plot(
            self.x, self.ceiling, color=color, lw=1, ls=":", label="noise ceiling"
        )

    def _plot_curves(self, ax: Any) -> None:
        self.lines_ = {}
        for i, (name, y) in enumerate(self.curves.items()):
            style = curve_style(i)
            (self.lines_[name],) = ax.plot(
                self.x, y, **style, markersize=4, label=legend_text(name)
            )
            if name in self.errors:
                low, high = y - self.errors[name], y + self.errors[name]
                ax.fill_between(self.x, low, high, color=style["color"], **BAND)


def _apart(x: NDArray, most: int = 12) -> NDArray:
    """Positions on a logarithmic axis whose labels do not touch, including both ends."""
    if len(x) <= 2:
        return x
    step = np.log(x[-1] / x[0]) / most
    kept = [x[0]]
    for place in x[1:-1]:
        if min(np.log(place / kept[-1]), np.log(x[-1] / place)) >= step:
            kept.append(place)
    return np.array([*kept, x[-1]])
