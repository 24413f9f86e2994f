"""Bars of group scores, next to effects measured by retraining."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from influencekit.displays._style import FIRST, SECOND, literal, neutral_color, open_axes
from influencekit.groups._properties import named_properties
from influencekit.selection._attributor_search import innermost

__all__ = ["GroupScoresDisplay"]

GROUP_SCORE = "score of the group; positive: a proponent"


class GroupScoresDisplay:
    """One bar for each group: proponents to the right, opponents to the left.

    Parameters
    ----------
    scores : array-like of shape (n_groups,)
    names : array-like of str of shape (n_groups,)
    measured : array-like of shape (n_groups,), default=None
        Measured effect of retraining without each group, NaN if it was not measured.
    measured_se : array-like of shape (n_groups,), default=None
        Standard errors of ``measured``.
    label : str, default="score of the group; positive: a proponent"
        Label of the axis.
    sizes : array-like of int of shape (n_groups,), default=None
        Rows of each group, written behind its name.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    bars_ : matplotlib BarContainer
    order_ : ndarray of int
        Positions of the groups drawn, from top to bottom.

    Examples
    --------
    >>> from influencekit.displays import GroupScoresDisplay
    >>> display = GroupScoresDisplay([0.2, -0.1], ["a", "b"]).plot()
    >>> display.order_.tolist()
    [0, 1]
    """

    def __init__(
        self,
        scores: ArrayLike,
        names: ArrayLike,
        measured: ArrayLike | None = None,
        measured_se: ArrayLike | None = None,
        label: str = GROUP_SCORE,
        sizes: ArrayLike | None = None,
    ):
        self.scores = np.asarray(scores, dtype=np.float64).reshape(-1)
        self.names = np.asarray(names, dtype=object)
        self.measured, self.measured_se = measured, measured_se
        self.label, self.sizes = label, sizes
        if self.names.shape != self.scores.shape:
            raise ValueError(
                f"names: got {len(self.names)} for {len(self.scores)} scores; accepted is one "
                f"name for each score."
            )
        for name in ("measured", "measured_se", "sizes"):
            values = getattr(self, name)
            if values is not None and np.shape(values) != self.scores.shape:
                raise ValueError(
                    f"{name}: got shape {np.shape(values)} for {len(self.scores)} scores; "
                    f"accepted is one number for each score, NaN where there is none."
                )

    @classmethod
    def from_estimator(
        cls,
        grouped: Any,
        X: Any,
        y: Any = None,
        *,
        measured: ArrayLike | None = None,
        measured_se: ArrayLike | None = None,
        ax: Any = None,
        **options: Any,
    ) -> GroupScoresDisplay:
        """Draw the scores of a fitted group attributor, averaged over test rows.

        Parameters
        ----------
        grouped : fitted GroupAttributor, or a fitted search around one
        X, y : array-like
            Test or evaluation rows.
        measured, measured_se : array-like of shape (n_groups,), default=None
        ax : matplotlib Axes, default=None
        **options
            Of :meth:`plot`.

        Returns
        -------
        GroupScoresDisplay

        Raises
        ------
        TypeError
            If `grouped` scores single examples.
        ValueError
            If it explains several properties.
        """
        chosen = innermost(grouped)
        if getattr(chosen, "_grouped", None) is None:
            raise TypeError(
                f"grouped: got {type(grouped).__name__}, which scores single training examples; "
                "accepted is a fitted GroupAttributor, or a fitted search around one."
            )
        if isinstance(chosen.property, (list, tuple, dict)):
            raise ValueError(
                "grouped: got a GroupAttributor of several properties; accepted is one, as their "
                "scores have no mean. Give one row of its scores to "
                "GroupScoresDisplay.from_predictions."
            )
        scores = np.asarray(grouped.score(X, y)).mean(axis=0)
        label = GROUP_SCORE
        if chosen.property is not None:
            (name,) = named_properties(chosen.property)
            label = f"predicted fall of {name} without the group"
        names, sizes = chosen.group_names_, chosen.group_sizes_
        display = cls(scores, names, measured, measured_se, label, sizes)
        return display.plot(ax=ax, **options)

    @classmethod
    def from_predictions(
        cls,
        scores: ArrayLike,
        names: ArrayLike,
        *,
        measured: ArrayLike | None = None,
        measured_se: ArrayLike | None = None,
        sizes: ArrayLike | None = None,
        ax: Any = None,
        **options: Any,
    ) -> GroupScoresDisplay:
        """Draw given scores, averaged over test rows.

        Parameters
        ----------
        scores : array-like of shape (n_groups,) or (n_test, n_groups)
        names : array-like of str of shape (n_groups,)
        measured, measured_se : array-like of shape (n_groups,), default=None
        sizes : array-like of int of shape (n_groups,), default=None
            Rows of each group, written behind its name.
        ax : matplotlib Axes, default=None
        **options
            Of :meth:`plot`.

        Returns
        -------
        GroupScoresDisplay
        """
        means = np.atleast_2d(np.asarray(scores, dtype=np.float64)).mean(axis=0)
        return cls(means, names, measured, measured_se, sizes=sizes).plot(ax=ax, **options)

    def plot(self, ax: Any = None, *, most: int = 20) -> GroupScoresDisplay:
        """Draw the groups with the largest absolute scores, highest score first.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        most : int, default=20
            Groups that are drawn.

        Returns
        -------
        self : GroupScoresDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        largest = np.argsort(-np.abs(self.scores), kind="stable")[:most]
        self.order_ = largest[np.argsort(-self.scores[largest], kind="stable")]
        n = len(self.order_)
        ax = open_axes(self, ax, (6.4, 1.2 + 0.3 * n))
        values, places = self.scores[self.order_], np.arange(n)
        colors = np.where(values >= 0, FIRST["color"], SECOND["color"])
        self.bars_ = ax.barh(places, values, color=colors, height=0.7)
        for bar, value in zip(self.bars_, values, strict=True):
            bar.set_hatch("" if value >= 0 else "///")  # distinguishable without color
        if self.measured is not None:
            self._draw_measured(ax, places)
        ax.axvline(0, color=neutral_color(), lw=0.8)
        ax.set_yticks(places, [literal(name) for name in self._names_and_sizes()])
        ax.invert_yaxis()
        ax.set_xlabel(literal(self.label))
        if n < len(self.scores):
            ax.set_title(f"the {n} largest of {len(self.scores)} groups", fontsize="medium")
        return self

    def _names_and_sizes(self) -> list[str]:
        names = [str(name) for name in self.names[self.order_]]
        if self.sizes is None:
            return names
        sizes = np.asarray(self.sizes)[self.order_]
        return [f"{name} ({size:,} rows)" for name, size in zip(names, sizes, strict=True)]

    def _draw_measured(self, ax: Any, places: Any) -> None:
        found = np.asarray(self.measured, dtype=np.float64)[self.order_]
        errors = None
        if self.measured_se is not None:
            errors = np.nan_to_num(np.asarray(self.measured_se, dtype=np.float64)[self.order_])
        ax.errorbar(
            found,
            places,
            xerr=errors,
            color=neutral_color(),
            marker="D",
            markerfacecolor=ax.get_facecolor(),
            ls="",
            markersize=6,
            capsize=3,
            label="measured by retraining",
        )
        ax.legend(loc="best", fontsize="small")
