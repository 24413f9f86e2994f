"""How the LDS depends on hyperparameters: curves and heat maps of a sensitivity study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from influencekit.displays._style import (
    BAND,
    LDS_LABEL,
    LINE_STYLES,
    MARKERS,
    curve_style,
    import_pyplot,
    legend_text,
    literal,
    neutral_color,
    open_axes,
)
from influencekit.displays.sensitivity._sensitivity_data import (
    Curve,
    add_mark,
    axis_values,
    check_table,
    complete,
    default_of,
    draw_heat_map,
    find_axes,
    fixed_values,
    grid_of,
    label_of,
    make_curve,
    place_of,
    scale_of,
    select,
    shade_of,
)
from influencekit.utils._suggest import did_you_mean

__all__ = ["SensitivityDisplay"]

NAMES = {"damping": "damping λ", "checkpoint": "checkpoint (epoch)", "n_models": "number of models"}
#: A legend with more entries is put next to the axes.
MAX_INSIDE = 5
#: Largest width of heat maps in one row, in inches.
MAX_WIDTH = 13


class SensitivityDisplay:
    """LDS against one hyperparameter, or against two as a heat map.

    Parameters
    ----------
    results : DataFrame
        ``results_`` of a SensitivityStudy, or several of them concatenated.
    x : str
        Hyperparameter on the horizontal axis.
    y : str or None, default=None
        A second one makes heat maps, one for each attributor.
    hue : str or None, default=None
        Hyperparameter with a curve for each of its values; only without `y`.
    others : {"tuned", "best"} or dict, default="tuned"
        How to treat hyperparameters that are not drawn. "tuned" shows the best over them at each
        point. "best" fixes them at their values in the attributor's best cell. A dict fixes those
        that it names, and tunes the rest. If a study has several grids for an attributor, cells of
        grids with fewer values of the drawn axes are left out.
    attributors : list of str or None, default=None
        Attributors to draw; None draws all with the axes `x` (and `y`, `hue`).
    defaults : mapping or None, default=None
        ``defaults_`` of the study, to mark the attributors' own values of `x`.
    noise_ceiling : float or None, default=None
        Attainable LDS, drawn as a dotted line.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes, or ndarray of them
        The axes; an array if several heat maps are drawn.
    lines_ : dict of str to matplotlib Line2D
        Curves by their labels in the legend.
    bands_ : dict of str to matplotlib PolyCollection
        One standard error (over queries) to each side.
    best_marks_, default_marks_ : dict of str to matplotlib Line2D
        A star on the best point of a curve, and a diamond at the attributor's own value if it is
        among the cells.
    images_ : dict of str to matplotlib AxesImage
        Heat maps by attributor.
    ceiling_line_ : matplotlib Line2D or None
    colorbar_ : matplotlib Colorbar
        Color bar of the heat maps.
    outlines_ : dict of str to matplotlib Rectangle
        Frame around the best cell of each heat map.

    Raises
    ------
    ValueError
        If a column is missing, or there is nothing to draw.

    See Also
    --------
    influencekit.selection.SensitivityStudy : Computes the results.

    Notes
    -----
    A damping of 0 cannot be drawn on the logarithmic axis of curves and is left out; "auto" is
    drawn at its value in use. Cells that failed are gaps in curves and dashes in heat maps.

    Examples
    --------
    >>> import pandas as pd
    >>> from influencekit.displays import SensitivityDisplay
    >>> table = pd.DataFrame({"attributor": "IF", "damping": [0.1, 1.0], "lds": [0.3, 0.5],
    ...                       "lds_se": 0.02})
    >>> display = SensitivityDisplay(table, "damping").plot()  # doctest: +SKIP
    """

    def __init__(
        self,
        results: Any,
        x: str,
        *,
        y: str | None = None,
        hue: str | None = None,
        others: Any = "tuned",
        attributors: Sequence[str] | None = None,
        defaults: Mapping[str, Mapping[str, Any]] | None = None,
        noise_ceiling: float | None = None,
    ):
        if y is not None and hue is not None:
            raise ValueError(
                "hue: heat maps (y=) do not have curves to color; give either hue or y."
            )
        axes = [name for name in (x, y, hue) if name is not None]
        check_table(results, axes)
        self.results = results
        self.x, self.y, self.hue = x, y, hue
        self.others = others
        self.defaults = defaults
        self.noise_ceiling = noise_ceiling
        self.attributors = self._applicable(attributors, axes)

    def _applicable(self, attributors: Any, axes: list[str]) -> list[str]:
        names = list(dict.fromkeys(self.results["attributor"]))
        unknown = [name for name in attributors or () if name not in names]
        if unknown:
            raise ValueError(
                f"attributors: {unknown} are not in the results; accepted are {names}."
                f"{did_you_mean(unknown[0], names)}"
            )
        chosen = []
        for name in names if attributors is None else attributors:
            rows = self._rows(name)
            if set(axes) <= set(find_axes(rows)) and rows["lds"].notna().any():
                chosen.append(name)
        if not chosen:
            found = {name: find_axes(self._rows(name)) for name in names}
            raise ValueError(
                f"x, y, hue: no attributor has cells with an LDS that differ in {axes}. The axes "
                f"that vary are {found}."
            )
        return chosen

    def _rows(self, name: str) -> Any:
        return self.results[self.results["attributor"] == name]

    def _chosen(self, name: str) -> Any:
        """The rows of an attributor to draw."""
        drawn = [axis for axis in (self.x, self.y, self.hue) if axis is not None]
        rows = self._rows(name)
        if isinstance(self.others, Mapping):
            return complete(select(rows, fixed_values(rows, self.others, drawn)), drawn)
        rows = complete(rows, drawn)
        return select(rows, fixed_values(rows, self.others, drawn))

    @classmethod
    def from_study(
        cls,
        study: Any,
        x: str,
        *,
        y: str | None = None,
        hue: str | None = None,
        others: Any = "tuned",
        attributors: Sequence[str] | None = None,
        ax: Any = None,
        legend_loc: str | None = "auto",
    ) -> SensitivityDisplay:
        """Draw a fitted study.

        Parameters
        ----------
        study : SensitivityStudy
            Fitted.
        x, y, hue, others, attributors
            As in the constructor.
        ax, legend_loc
            As in `plot`.

        Returns
        -------
        SensitivityDisplay

        Raises
        ------
        NotFittedError
            If `study` is not fitted.
        """
        import_pyplot(f"{cls.__name__}.from_study")
        check_is_fitted(study, "results_")
        return cls(
            study.results_,
            x,
            y=y,
            hue=hue,
            others=others,
            attributors=attributors,
            defaults=study.defaults_,
            noise_ceiling=study.noise_ceiling_,
        ).plot(ax=ax, legend_loc=legend_loc)

    def plot(self, ax: Any = None, *, legend_loc: str | None = "auto") -> SensitivityDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or sequence of them, default=None
            None makes a new figure; several heat maps need one axes each.
        legend_loc : str or None, default="auto"
            Matplotlib's ``loc``, None for no legend; "auto" puts a long one next to the axes.

        Returns
        -------
        self : SensitivityDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        self.lines_: dict[str, Any] = {}
        self.bands_: dict[str, Any] = {}
        self.best_marks_: dict[str, Any] = {}
        self.default_marks_: dict[str, Any] = {}
        self.images_: dict[str, Any] = {}
        self.ceiling_line_: Any = None
        self._own_figure = ax is None
        self.outlines_: dict[str, Any] = {}
        if self.y is not None:
            self._plot_heat_maps(ax, self.y)
            return self
        axes = open_axes(self, ax)
        self._plot_curves(axes)
        if legend_loc is not None:
            self._add_legend(axes, legend_loc)
        return self

    def _curves(self) -> dict[str, tuple[Curve, dict[str, Any]]]:
        """Curves and their styles by label."""
        curves = {}
        for i, name in enumerate(self.attributors):
            rows = self._chosen(name)
            default = default_of(self.defaults, name, self.x)
            if self.hue is None:
                curves[name] = make_curve(rows, self.x, default), curve_style(i)
                continue
            values = axis_values(rows[self.hue])
            for k, value in enumerate(values):
                prefix = f"{name}, " if len(self.attributors) > 1 else ""
                style = {"color": shade_of(k, values), "marker": MARKERS[k % len(MARKERS)]}
                style["linestyle"] = LINE_STYLES[i % len(LINE_STYLES)]
                some = select(rows, {self.hue: value})
                label = f"{prefix}{self.hue} = {label_of(value)}"
                curves[label] = make_curve(some, self.x, default), style
        return curves

    def _plot_curves(self, ax: Any) -> None:
        curves = self._curves()
        values = axis_values([v for curve, _ in curves.values() for v in curve.values])
        scale = scale_of(values, self.x)
        for label, (curve, style) in curves.items():
            places = np.array([place_of(v, values, scale) for v in curve.values])
            (line,) = ax.plot(places, curve.lds, **style, markersize=4, label=legend_text(label))
            self.lines_[label] = line
            low, high = curve.lds - curve.lds_se, curve.lds + curve.lds_se
            self.bands_[label] = ax.fill_between(places, low, high, color=style["color"], **BAND)
            if not np.isnan(curve.lds).all():
                best = int(np.nanargmax(curve.lds))
                self.best_marks_[label] = add_mark(
                    ax, places[best], curve.lds[best], style, marker="*", markersize=12
                )
            if curve.default is not None:
                place = place_of(curve.default[0], values, scale)
                self.default_marks_[label] = add_mark(
                    ax, place, curve.default[1], style, marker="D", markersize=8, hollow=True
                )
        self._label_axes(ax, values, scale)

    def _label_axes(self, ax: Any, values: list, scale: str) -> None:
        if scale == "categories":
            ax.set_xticks(range(len(values)), [literal(label_of(v)) for v in values])
        elif scale == "symlog":
            smallest = min(v for v in values if v > 0)
            ax.set_xscale("symlog", linthresh=smallest)
        else:
            ax.set_xscale(scale)
        if self.x != "damping" and scale in ("log", "symlog") and len(values) <= 10:
            ax.set_xticks(values, [label_of(v) for v in values])
            ax.minorticks_off()
        ax.set(xlabel=_axis_name(self.x), ylabel=LDS_LABEL)
        ax.axhline(0, color=neutral_color(), linewidth=0.6, alpha=0.5, zorder=0)
        if self.noise_ceiling is not None and np.isfinite(self.noise_ceiling):
            self.ceiling_line_ = ax.axhline(
                self.noise_ceiling, color=neutral_color(), linestyle=":", linewidth=1
            )
            self.ceiling_line_.set_label("attainable")

    def _add_legend(self, axes: Any, loc: str) -> None:
        from matplotlib.lines import Line2D

        handles = list(self.lines_.values())
        gray: dict[str, Any] = {"color": neutral_color(), "linestyle": "none"}
        if self.best_marks_:
            handles.append(Line2D([], [], marker="*", markersize=10, label="best", **gray))
        if self.default_marks_:
            handles.append(
                Line2D([], [], marker="D", markerfacecolor="none", label="default", **gray)
            )
        if self.ceiling_line_ is not None:
            handles.append(self.ceiling_line_)
        where: dict[str, Any] = {"loc": loc}
        if loc == "auto":
            where = {"loc": "best"}
            if len(handles) > MAX_INSIDE:
                if self._own_figure:
                    self.figure_.set_size_inches(8.6, 4.2)
                where = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        axes.legend(handles=handles, fontsize="small", **where)

    def _plot_heat_maps(self, ax: Any, y: str) -> None:
        grids = {}
        for name in self.attributors:
            grids[name] = grid_of(self._chosen(name), self.x, y)
        axes = self._heat_map_axes(ax, grids)
        tables = [table[np.isfinite(table)] for _, _, table in grids.values()]
        limits = float(np.concatenate(tables).min()), float(np.concatenate(tables).max())
        for (name, (columns, lines, table)), one in zip(grids.items(), axes, strict=True):
            image, _, outline = draw_heat_map(one, columns, lines, table, limits)
            self.images_[name], self.outlines_[name] = image, outline
            one.set(title=literal(name), xlabel=_axis_name(self.x), ylabel=_axis_name(y))
        self.colorbar_ = self.figure_.colorbar(image, ax=list(axes), label=LDS_LABEL, pad=0.02)

    def _heat_map_axes(self, ax: Any, grids: Any) -> list:
        """One axes for each heat map."""
        plt = import_pyplot(f"{type(self).__name__}.plot")
        if ax is None:
            width = max(2.5, 0.5 * max(len(columns) for columns, _, _ in grids.values())) + 0.9
            height = max(1.8, 0.36 * max(len(lines) for _, lines, _ in grids.values())) + 1.1
            n_columns = min(len(grids), max(1, int(MAX_WIDTH / width)))
            n_rows = -(-len(grids) // n_columns)
            size = n_columns * width + 0.9, n_rows * height
            shape = {"nrows": n_rows, "ncols": n_columns, "squeeze": False}
            figure, array = plt.subplots(**shape, figsize=size, layout="constrained")
            axes = list(array.flat)[: len(grids)]
            for unused in list(array.flat)[len(grids) :]:
                unused.remove()
        else:
            axes = list(np.ravel(np.array(ax, dtype=object)))
            figure = axes[0].figure
        if len(axes) != len(grids):
            raise ValueError(
                f"ax: got {len(axes)} axes for {len(grids)} heat maps ({list(grids)}); accepted is "
                "one for each. Choose attributors, or give more axes."
            )
        self.figure_ = figure
        self.ax_ = axes[0] if len(axes) == 1 else np.array(axes, dtype=object)
        return axes


def _axis_name(hyperparameter: Any) -> str:
    return literal(NAMES.get(hyperparameter, hyperparameter))
