"""The surrogate indicator ξ along the path of dampings, with the chosen dampings."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from influencekit.displays._style import (
    BAND,
    FIRST,
    LDS_LABEL,
    SECOND,
    import_pyplot,
    legend_text,
    literal,
    neutral_color,
    open_axes,
)

__all__ = ["LambdaPathDisplay", "searched_path"]


def curve(
    x: Any, y: Any, error: Any, names: tuple[str, str, str]
) -> tuple[NDArray, NDArray, NDArray | None]:
    """Curve sorted by x, as float arrays of one length, without the points at x = 0."""
    x = _float_array(x, names[0], names[0], None)
    y = _float_array(y, names[1], names[0], x.shape)
    error = None if error is None else _float_array(error, names[2], names[0], x.shape)
    if not np.isfinite(x).all() or not (x >= 0).all() or not (x > 0).any():
        raise ValueError(
            f"`{names[0]}` must be finite dampings of 0 or more, at least one of them positive: "
            f"the axis is logarithmic. Got values from {x.min()} to {x.max()}."
        )
    order = np.argsort(x, kind="stable")
    order = order[x[order] > 0]
    return x[order], y[order], None if error is None else error[order]


def _float_array(values: Any, name: str, x_name: str, shape: tuple[int, ...] | None) -> NDArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or shape not in (None, array.shape):
        raise ValueError(
            f"`{name}` must be 1-d, not empty, and as long as `{x_name}`; got shape "
            f"{array.shape}" + ("." if shape is None else f" beside {shape}.")
        )
    return array


def label_levels(positions: NDArray, labels: list[str], ax: Any) -> list[int]:
    """Height, in lines, at which each label clears those to its left."""
    low, high = np.log10(ax.get_xlim())
    inches = ax.get_window_extent().width / ax.figure.dpi
    letter = 0.095 * (high - low) / inches  # width of a letter of 10 points, in decades
    ends: list[float] = []
    levels = []
    for position, label in zip(positions, labels, strict=True):
        half = (len(label) / 2 + 0.5) * letter
        level = next((i for i, end in enumerate(ends) if position - half > end), len(ends))
        ends[level:] = [position + half, *ends[level + 1 :]]
        levels.append(level)
    return levels


def merge_close(
    labels: list[str], positions: list[float], ratio: float = 1.05
) -> tuple[list[str], list[float]]:
    """One label for marks, in ascending order, at the same position on a log axis.

    Examples
    --------
    >>> merge_close(["a", "b", "c"], [1.0, 1.01, 2.0])
    (['a, b', 'c'], [1.0, 2.0])
    """
    texts, places = labels[:1], positions[:1]
    for label, position in zip(labels[1:], positions[1:], strict=True):
        if position <= places[-1] * ratio:
            texts[-1] = f"{texts[-1]}, {label}"
        else:
            texts.append(label)
            places.append(position)
    return texts, places


def emptiest_corner(lines: list) -> str:
    """Corner of the axes with the fewest points of the lines."""
    points = []
    for line in lines:
        x, y = line.get_xdata(), line.get_ydata()
        fine = np.linspace(0, len(x) - 1, 200)  # lines may cross corners between their points
        steps = np.arange(len(x))
        path = np.column_stack(
            [10 ** np.interp(fine, steps, np.log10(x)), np.interp(fine, steps, y)]
        )
        points.append(line.axes.transAxes.inverted().transform(line.axes.transData.transform(path)))
    x, y = np.concatenate(points).T
    inside = {
        f"{vertical} {horizontal}": (side & height).sum()
        for vertical, height in (("upper", y > 0.7), ("lower", y < 0.3))
        for horizontal, side in (("left", x < 0.4), ("right", x > 0.6))
    }
    return min(inside, key=lambda corner: inside[corner])


class LambdaPathDisplay:
    """Mean ξ against the damping λ, together with the LDS if it is known.

    Parameters
    ----------
    dampings : array-like of shape (n_dampings,)
        In any order; λ = 0 cannot be drawn on a logarithmic axis and is left out.
    mean_xi : array-like of shape (n_dampings,)
        Mean of the surrogate indicator over queries, from 0 to 1.
    std_xi : array-like of shape (n_dampings,), default=None
        Half-width of the band around it.
    threshold : float or None, default=0.5
        Level at which λ is chosen.
    best_damping : float, default=None
        The chosen damping, marked as "ξ pick".
    lds, lds_se : array-like of shape (n_lds_dampings,), default=None
        Linear datamodeling score of each damping, on the right axis, and its standard error.
    lds_dampings : array-like of shape (n_lds_dampings,), default=None
        Dampings of `lds`; None uses `dampings`.
    picks : dict of str to float, default=None
        More dampings to mark, by label, for instance ``{"default": 1e-6}``.
    indicator : str, default="ξ"
        Name of the indicator whose means are in ``mean_xi``, for labels.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
        Of ξ.
    ax_lds_ : matplotlib Axes or None
        Right axis, of the LDS.
    line_ : matplotlib Line2D
        Mean ξ.
    ax_picks_ : matplotlib Axes or None
        Upper axis, with the labels of the picks.
    lds_line_ : matplotlib Line2D or None
    threshold_line_ : matplotlib Line2D or None
    pick_lines_ : dict of str to matplotlib Line2D
        The vertical lines; their labels are on the upper axis.

    Raises
    ------
    ValueError
        If lengths disagree or a damping is not a finite number of 0 or more.

    See Also
    --------
    influencekit.selection.SurrogateLambdaSearchCV : Computes the path and chooses λ.

    Examples
    --------
    >>> from influencekit.displays import LambdaPathDisplay
    >>> display = LambdaPathDisplay([1e-3, 1e-2, 1e-1], [0.2, 0.45, 0.9], best_damping=1e-2)
    >>> display.plot().ax_.get_ylabel()  # doctest: +SKIP
    'mean ξ'
    """

    def __init__(
        self,
        dampings: ArrayLike,
        mean_xi: ArrayLike,
        std_xi: ArrayLike | None = None,
        *,
        threshold: float | None = 0.5,
        best_damping: float | None = None,
        lds: ArrayLike | None = None,
        lds_se: ArrayLike | None = None,
        lds_dampings: ArrayLike | None = None,
        picks: Mapping[str, float] | None = None,
        indicator: str = "ξ",
    ):
        self.indicator = indicator
        self.dampings, self.mean_xi, self.std_xi = curve(
            dampings, mean_xi, std_xi, ("dampings", "mean_xi", "std_xi")
        )
        self.threshold = threshold
        self.best_damping = best_damping
        self.lds = self.lds_se = self.lds_dampings = None
        if lds is not None:
            name = "dampings" if lds_dampings is None else "lds_dampings"
            self.lds_dampings, self.lds, self.lds_se = curve(
                dampings if lds_dampings is None else lds_dampings,
                lds,
                lds_se,
                (name, "lds", "lds_se"),
            )
        elif lds_se is not None or lds_dampings is not None:
            raise ValueError(
                "`lds_se` and `lds_dampings` describe `lds`, which is None; also give `lds`."
            )
        if self.lds is not None and not np.isfinite(self.lds).any():
            raise ValueError("`lds` has no finite value to draw.")
        self.picks = {} if best_damping is None else {f"{indicator} pick": best_damping}
        self.picks.update(picks or {})
        for label, damping in self.picks.items():
            if not isinstance(damping, Real) or not 0 < damping < np.inf:
                raise ValueError(
                    f"`picks`: {label!r} is {damping!r}; a damping on the logarithmic axis must "
                    "be positive and finite."
                )

    @classmethod
    def from_estimator(
        cls,
        search: Any,
        *,
        lds: ArrayLike | None = None,
        lds_se: ArrayLike | None = None,
        lds_dampings: ArrayLike | None = None,
        picks: Mapping[str, float] | None = None,
        ax: Any = None,
        legend_loc: str | None = "auto",
    ) -> LambdaPathDisplay:
        """Draw the path of a fitted search.

        Parameters
        ----------
        search : SurrogateLambdaSearchCV
            Fitted.
        lds, lds_se, lds_dampings, picks
            As in the constructor.
        ax, legend_loc
            As in `plot`.

        Returns
        -------
        LambdaPathDisplay

        Raises
        ------
        TypeError
            If `search` is not a SurrogateLambdaSearchCV.
        NotFittedError
            If `search` is not fitted.
        """
        import_pyplot(f"{cls.__name__}.from_estimator")
        if not hasattr(search, "criterion"):
            raise TypeError(
                f"search: got {type(search).__name__}; accepted is a fitted "
                "SurrogateLambdaSearchCV. LDS values at any dampings can be added with lds= and "
                "lds_dampings=; for an LDSSearch they are its cv_results_['mean_test_score'] "
                "and cv_results_['param_damping']."
            )
        check_is_fitted(search, "cv_results_")
        more: dict[str, Any] = {
            "lds": lds,
            "lds_se": lds_se,
            "lds_dampings": lds_dampings,
            "picks": picks,
        }
        return cls(**searched_path(search), **more).plot(ax=ax, legend_loc=legend_loc)

    @classmethod
    def from_predictions(
        cls,
        dampings: ArrayLike,
        mean_xi: ArrayLike,
        *,
        ax: Any = None,
        legend_loc: str | None = "auto",
        **arrays: Any,
    ) -> LambdaPathDisplay:
        """Draw a path given as arrays: the constructor, then `plot`.

        Parameters
        ----------
        dampings, mean_xi : array-like of shape (n_dampings,)
        ax, legend_loc
            As in `plot`.
        **arrays
            Other arguments of the constructor.

        Returns
        -------
        LambdaPathDisplay
        """
        return cls(dampings, mean_xi, **arrays).plot(ax=ax, legend_loc=legend_loc)

    def plot(self, ax: Any = None, *, legend_loc: str | None = "auto") -> LambdaPathDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        legend_loc : str or None, default="auto"
            Matplotlib's ``loc``, None for no legend; "auto" uses the emptiest corner.

        Returns
        -------
        self : LambdaPathDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = open_axes(self, ax)
        self._plot_xi(ax)
        self._plot_lds(ax)
        self._mark_picks(ax)
        if legend_loc is not None:
            self._add_legend(ax, legend_loc)
        return self

    def _plot_xi(self, ax: Any) -> None:
        name = f"mean {self.indicator}"
        label = name if self.lds is None else f"{name} (left)"
        (self.line_,) = ax.plot(
            self.dampings, self.mean_xi, **FIRST, markersize=4, label=legend_text(label)
        )
        if self.std_xi is not None:
            low, high = self.mean_xi - self.std_xi, self.mean_xi + self.std_xi
            ax.fill_between(self.dampings, low, high, color=FIRST["color"], **BAND)
        self.threshold_line_ = None
        if self.threshold is not None:
            self.threshold_line_ = ax.axhline(
                self.threshold,
                color=neutral_color(),
                linestyle=":",
                linewidth=1,
                label=f"threshold {self.threshold:g}",
            )
        ax.set(xscale="log", ylim=(0, 1.02), xlabel="damping λ")
        ax.set_ylabel(literal(name), color=FIRST["color"])

    def _plot_lds(self, ax: Any) -> None:
        self.ax_lds_ = self.lds_line_ = None
        if self.lds is None:
            return
        self.ax_lds_ = right = ax.twinx()
        (self.lds_line_,) = right.plot(
            self.lds_dampings, self.lds, **SECOND, markersize=4, label="LDS (right)"
        )
        error = np.zeros_like(self.lds) if self.lds_se is None else self.lds_se
        if self.lds_se is not None:
            low, high = self.lds - error, self.lds + error
            right.fill_between(self.lds_dampings, low, high, color=SECOND["color"], **BAND)
        top, bottom = np.nanmax(self.lds + error), min(0.0, np.nanmin(self.lds - error))
        right.set_ylim(bottom * 1.05, max(top, 0.05) * 1.15)
        right.set_ylabel(LDS_LABEL, color=SECOND["color"])

    def _mark_picks(self, ax: Any) -> None:
        self.pick_lines_, self.ax_picks_ = {}, None
        if not self.picks:
            return
        labels = sorted(self.picks, key=lambda label: self.picks[label])
        for label in labels:
            self.pick_lines_[label] = ax.axvline(
                self.picks[label], color=neutral_color(), linewidth=1, linestyle="-.", zorder=1
            )
        upper = ax.secondary_xaxis("top")
        upper.minorticks_off()
        labels, positions = merge_close(labels, [self.picks[label] for label in labels])
        # a label that would touch its neighbor is lifted by empty lines below it
        levels = label_levels(np.log10(positions), labels, ax)
        texts = [literal(label) + "\n" * level for label, level in zip(labels, levels, strict=True)]
        upper.set_xticks(positions, texts, minor=False)
        self.ax_picks_ = upper

    def _add_legend(self, ax: Any, loc: str) -> None:
        lines = [self.line_, self.threshold_line_, self.lds_line_]
        handles = [line for line in lines if line is not None]
        if loc == "auto":
            loc = emptiest_corner([line for line in handles if line is not self.threshold_line_])
        (self.ax_lds_ or ax).legend(handles=handles, loc=loc, fontsize="small")


def searched_path(search: Any) -> dict[str, Any]:
    """Arguments for the display of a fitted search.

    Parameters
    ----------
    search : SurrogateLambdaSearchCV

    Returns
    -------
    dict
        Keyword arguments of :class:`LambdaPathDisplay`.
    """
    results, indicator = search.cv_results_, search.indicator_
    [(name, chosen)] = search.best_params_.items()  # of groups "attributor__damping"
    return {
        "dampings": results[f"param_{name}"],
        "mean_xi": results[f"mean_{indicator}"],
        "std_xi": results.get(f"std_{indicator}"),
        "threshold": getattr(search, "threshold_", search.threshold),
        "indicator": "ξ" if indicator == "xi" else indicator,
        "best_damping": chosen or None,  # 0 cannot be drawn on the axis
    }
