"""The strongest proponents and opponents of a few test examples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from influencekit.displays._style import FIRST, SECOND, import_pyplot, neutral_color, open_axes
from influencekit.displays.examples._images import Grid, as_images, draw_image
from influencekit.displays.examples._predictions import own_predictions
from influencekit.displays.examples._rows import (
    NONE,
    as_table,
    check_rows,
    examples_frame,
    label_line,
    predicted_line,
    take,
    top,
)
from influencekit.displays.examples._top_bars import draw_bars, height_of_bars
from influencekit.utils._suggest import check_choice

__all__ = ["TopExamplesDisplay"]

KINDS = ("auto", "images", "bars")


class TopExamplesDisplay:
    """Top proponents and opponents of test examples, as a grid of images, bars or a table.

    Images: proponents have positive scores (solid blue frames, on the left), opponents negative
    ones (dashed vermilion frames, on the right).  An example with the other sign is never shown, so
    a test example with few opponents has empty cells, and one without opponents shows "none".  Rows
    of tables, and texts: bars of the scores, blue to the right and hatched vermilion to the left,
    with the rows' names.

    Parameters
    ----------
    proponents, opponents : array-like of int of shape (n_shown, k)
        Positions in `X_train`, strongest first; -1 leaves a cell empty.
    proponent_scores, opponent_scores : array-like of shape (n_shown, k)
    X_train : array-like or DataFrame of n_train examples
        Images ((n, h, w), (n, h, w, 3) or (n, 3, h, w)), flat images with `image_shape`,
        or rows of any kind.
    X_query : array-like or DataFrame of n_shown examples
        The test examples shown, one per row of the grid.
    y_train, y_query : array-like of shape (n_train,) and (n_shown,), default=None
        Labels to write under the images.
    query_positions : array-like of int of shape (n_shown,), default=None
        Numbers of the test examples, for the captions; None counts from 0.
    image_shape : tuple of int, default=None
        Shape of one image, (h, w), (h, w, 3) or (3, h, w), if `X_train` is flat.
    predicted, probability : array-like of shape (n_shown,), default=None
        What the model predicts for the test examples, and the probability that it gives it: in
        the captions and in `to_frame`.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
        Holds the whole grid.
    axes_ : ndarray of matplotlib Axes or None, of shape (n_shown, 1 + 2 k)
        For images: test example, proponents, opponents; None if a cell is empty.
    bars_ : matplotlib BarContainer
        For ``kind="bars"``: for each test example, proponents, then opponents, from top to bottom.

    Raises
    ------
    ValueError
        If shapes disagree or positions are outside `X_train`.

    Examples
    --------
    >>> import numpy as np
    >>> from influencekit.displays import TopExamplesDisplay
    >>> scores = np.array([[0.5, -0.2, 0.1]])
    >>> X_train, X_query = np.eye(3), np.ones((1, 3))
    >>> display = TopExamplesDisplay.from_predictions(scores, X_train, X_query, k=2, plot=False)
    >>> display.proponents, display.opponents
    (array([[0, 2]]), array([[ 1, -1]]))
    """

    def __init__(
        self,
        *,
        proponents: ArrayLike,
        opponents: ArrayLike,
        proponent_scores: ArrayLike,
        opponent_scores: ArrayLike,
        X_train: Any,
        X_query: Any,
        y_train: ArrayLike | None = None,
        y_query: ArrayLike | None = None,
        query_positions: ArrayLike | None = None,
        image_shape: tuple[int, ...] | None = None,
        predicted: ArrayLike | None = None,
        probability: ArrayLike | None = None,
    ):
        self.proponents = np.asarray(proponents)
        self.opponents = np.asarray(opponents)
        self.proponent_scores = np.asarray(proponent_scores, dtype=np.float64)
        self.opponent_scores = np.asarray(opponent_scores, dtype=np.float64)
        self.X_train, self.X_query = as_table(X_train, "X_train"), as_table(X_query, "X_query")
        self.y_train = None if y_train is None else np.asarray(y_train)
        self.y_query = None if y_query is None else np.asarray(y_query)
        n_shown = len(self.X_query)
        counted = np.arange(n_shown)
        self.query_positions = counted if query_positions is None else np.asarray(query_positions)
        self.image_shape = image_shape
        self.predicted = None if predicted is None else np.asarray(predicted)
        self.probability = None if probability is None else np.asarray(probability)
        self._check()

    @classmethod
    def from_predictions(
        cls,
        scores: ArrayLike,
        X_train: Any,
        X_query: Any,
        *,
        y_train: ArrayLike | None = None,
        y_query: ArrayLike | None = None,
        k: int = 5,
        rows: ArrayLike | None = None,
        image_shape: tuple[int, ...] | None = None,
        kind: str = "auto",
        ax: Any = None,
        plot: bool = True,
    ) -> TopExamplesDisplay:
        """Find the top examples in a score matrix, and draw them.

        Parameters
        ----------
        scores : array-like of shape (n_test, n_train)
            Positive = proponent.
        X_train, X_query : array-like or DataFrame of n_train and n_test examples
        y_train, y_query : array-like of shape (n_train,) and (n_test,), default=None
        k : int, default=5
            Number of proponents, and of opponents, for each test example.
        rows : array-like of int or bool, default=None
            Positions of the test examples to show, or a mask of n_test booleans; None shows the
            first three.
        image_shape, kind, ax
            As in the constructor and `plot`.
        plot : bool, default=True
            Whether to draw; False is for `to_frame` only.

        Returns
        -------
        TopExamplesDisplay

        Raises
        ------
        ValueError
            If shapes disagree or scores are NaN.
        """
        table, X_query = np.asarray(scores, dtype=np.float64), as_table(X_query, "X_query")
        expected = (len(X_query), len(as_table(X_train, "X_train")))
        if table.shape != expected:
            raise ValueError(
                f"`scores` must have shape (n_test, n_train) = {expected}; got {table.shape}."
            )
        rows = check_rows(rows, len(table))
        chosen = table[rows]
        if np.isnan(chosen).any():
            raise ValueError("`scores` holds NaN in the rows shown; choose others with `rows`.")
        if k < 1:
            raise ValueError(f"`k` must be 1 or more; got {k}.")
        proponents, proponent_scores = top(chosen, k)
        opponents, opponent_scores = top(-chosen, k)
        display = cls(
            proponents=proponents,
            opponents=opponents,
            proponent_scores=proponent_scores,
            opponent_scores=-opponent_scores,
            X_train=X_train,
            X_query=take(X_query, rows),
            y_train=y_train,
            y_query=None if y_query is None else np.asarray(y_query)[rows],
            query_positions=rows,
            image_shape=image_shape,
        )
        return display.plot(ax=ax, kind=kind) if plot else display

    @classmethod
    def from_estimator(
        cls,
        attributor: Any,
        X_train: Any,
        X_query: Any,
        *,
        y_train: ArrayLike | None = None,
        y_query: ArrayLike | None = None,
        k: int = 5,
        rows: ArrayLike | None = None,
        image_shape: tuple[int, ...] | None = None,
        kind: str = "auto",
        ax: Any = None,
        plot: bool = True,
    ) -> TopExamplesDisplay:
        """Score the test examples shown with a fitted attributor, and draw.

        Parameters
        ----------
        attributor : fitted attributor
            Attributor of single examples; for a GroupAttributor, give its ``attributor_``.
        X_train : array-like or DataFrame of n_train examples
            The data that the attributor was fitted on, in the same order.
        X_query : array-like or DataFrame of n_test examples
        y_train, y_query, k, rows, image_shape, kind, ax, plot
            As in `from_predictions`; without `y_query` the model's own predictions are
            explained.

        Returns
        -------
        TopExamplesDisplay
        """
        if getattr(attributor, "_grouped", None) is not None:
            raise TypeError(
                f"attributor: got {type(attributor).__name__}, which scores groups, but this "
                f"display shows single training examples. Give attributor_ of the fitted "
                f"GroupAttributor, or "
                "draw the groups with GroupScoresDisplay.from_estimator(grouped, X_query)."
            )
        rows = check_rows(rows, len(as_table(X_query, "X_query")))
        shown = take(as_table(X_query, "X_query"), rows)
        targets = None if y_query is None else np.asarray(y_query)[rows]
        display = cls.from_predictions(
            attributor.score(shown, targets),
            X_train,
            shown,
            y_train=y_train,
            y_query=targets,
            k=k,
            rows=np.arange(len(rows)),
            image_shape=image_shape,
            plot=False,
        )
        display.query_positions = rows
        if hasattr(attributor, "task_"):
            display.predicted, display.probability = own_predictions(attributor.task_, shown)
        return display.plot(ax=ax, kind=kind) if plot else display

    def plot(self, ax: Any = None, *, kind: str = "auto", cmap: str = "gray") -> TopExamplesDisplay:
        """Draw the images with labels and scores under them, or bars of the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to fill; None makes a figure of suitable size.
        kind : {"auto", "images", "bars"}, default="auto"
            "auto" is "images" with `image_shape` or if an example has at least two axes, and "bars"
            for rows of tables and for texts.
        cmap : str or Colormap, default="gray"
            Color map for images with one channel.

        Returns
        -------
        self : TopExamplesDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If ``kind`` is unknown, or "images" for examples that are not images.
        """
        check_choice("kind", kind, KINDS)
        if kind == "auto":
            images = self.image_shape is not None or np.ndim(self.X_train) > 2
            kind = "images" if images else "bars"
        return self._plot_images(ax, cmap) if kind == "images" else self._plot_bars(ax)

    def _plot_bars(self, ax: Any) -> TopExamplesDisplay:
        self.bars_ = draw_bars(open_axes(self, ax, (7.2, height_of_bars(self))), self)
        return self

    def _plot_images(self, ax: Any, cmap: Any) -> TopExamplesDisplay:
        plt = import_pyplot(f"{type(self).__name__}.plot")
        positions = np.concatenate([self.proponents, self.opponents], axis=1)
        used = np.unique(positions[positions != NONE])
        images = as_images(take(self.X_train, used), self.X_query, self.image_shape)
        lines = 1 + any(labels is not None for labels in (self.y_train, self.y_query))
        lines += self.predicted is not None
        grid = Grid(len(positions), self.proponents.shape[1], self.opponents.shape[1], lines)
        if ax is None:
            _, ax = plt.subplots(figsize=grid.figsize)
            ax.set_position((0, 0, 1, 1))
        self.ax_, self.figure_ = ax, ax.figure
        ax.set_axis_off()
        grid.write_headings(ax)
        self.axes_ = np.full((len(positions), 1 + positions.shape[1]), None, dtype=object)
        for row in range(len(positions)):
            cell = self.axes_[row, 0] = grid.add_cell(ax, row, 0)
            caption = f"test {self.query_positions[row]}" + label_line(self.y_query, row)
            caption += predicted_line(self.predicted, self.probability, row)
            draw_image(cell, images.test[row], images, cmap, {"color": neutral_color()}, caption)
            self._plot_side(grid, row, 1, "proponent", FIRST, (used, images, cmap))
            self._plot_side(grid, row, 1 + grid.n_left, "opponent", SECOND, (used, images, cmap))
        return self

    def _plot_side(
        self, grid: Any, row: Any, column: Any, side: str, style: Any, drawing: Any
    ) -> None:
        """Draw the proponents or the opponents of one test example."""
        used, images, cmap = drawing
        positions, scores = getattr(self, f"{side}s")[row], getattr(self, f"{side}_scores")[row]
        if (positions == NONE).all():
            grid.write_none(self.ax_, row, column)
        for i in np.flatnonzero(positions != NONE):
            cell = self.axes_[row, column + i] = grid.add_cell(self.ax_, row, column + i)
            caption = f"{scores[i]:+#.3g}" + label_line(self.y_train, positions[i])
            image = images.train[np.searchsorted(used, positions[i])]
            draw_image(cell, image, images, cmap, style, caption)

    def to_frame(self) -> Any:
        """Table of the same examples, for rows other than images.

        Returns
        -------
        pandas.DataFrame
            One row for each example, indexed by test example (index label in X_query, or position),
            kind ("test", "proponent" or "opponent") and rank (from 1).  Columns: ``train``
            (index label in X_train, or position), ``score``, ``label`` if labels are known,
            ``predicted`` and ``probability`` of test examples if they are known (as from
            `from_estimator`), then the features.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return examples_frame(self)

    def _check(self) -> None:
        n_shown, n_train = len(self.X_query), len(self.X_train)
        for side in ("proponent", "opponent"):
            positions, scores = getattr(self, f"{side}s"), getattr(self, f"{side}_scores")
            if positions.ndim != 2 or len(positions) != n_shown:
                raise ValueError(
                    f"`{side}s` must have shape (n_shown, k) with n_shown = {n_shown}, the "
                    f"rows of X_query; got {positions.shape}."
                )
            if scores.shape != positions.shape:
                raise ValueError(
                    f"`{side}_scores` must have the shape of `{side}s`, {positions.shape}; "
                    f"got {scores.shape}."
                )
            if (
                positions.dtype.kind not in "iu"
                or positions.min(initial=NONE) < NONE
                or (positions.max(initial=NONE) >= n_train)
            ):
                raise ValueError(
                    f"`{side}s` must be integer positions from 0 to {n_train - 1} (-1: empty)."
                )
        names = ("y_query", "query_positions", "predicted", "probability")
        lengths = {"y_train": n_train, **dict.fromkeys(names, n_shown)}
        for name, length in lengths.items():
            values = getattr(self, name)
            if values is not None and values.shape != (length,):
                raise ValueError(f"`{name}` must have shape ({length},); got {values.shape}.")
