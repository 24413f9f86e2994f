"""Where the cells of a grid of examples lie inside one axes."""

from __future__ import annotations

from dataclasses import dataclass

from influencekit.displays._style import FIRST, SECOND, neutral_colour

__all__ = ["Grid"]

# all in units of one image's width
MARGIN, GAP, BETWEEN, HEADING = 0.1, 0.5, 0.12, 0.42
INCHES = 0.85  # of that width


@dataclass(frozen=True)
class Grid:
    """Rows of test example | proponents | opponents, with room for captions.

    Parameters
    ----------
    n_rows, n_left, n_right : int
        Test examples, proponents and opponents of each.
    caption_lines : int
        Lines of text under an image.
    """

    n_rows: int
    n_left: int
    n_right: int
    caption_lines: int = 2

    @property
    def width(self) -> float:
        n_cells = 1 + self.n_left + self.n_right
        return 2 * MARGIN + n_cells + (n_cells - 3) * BETWEEN + 2 * GAP

    @property
    def row_height(self) -> float:
        return 1 + (0.2 + 0.15 * self.caption_lines)

    @property
    def height(self) -> float:
        return MARGIN + HEADING + self.n_rows * self.row_height

    @property
    def figsize(self) -> tuple[float, float]:
        """Inches at which captions of 8 points fit."""
        return self.width * INCHES, self.height * INCHES

    def left_edge(self, column: int) -> float:
        """Left edge of a column, as a share of the width; column 0 is the test example."""
        groups = int(column > 0) + int(column > self.n_left)
        x = MARGIN + column + groups * GAP + (column - groups) * BETWEEN
        return x / self.width

    def add_cell(self, ax, row: int, column: int):
        """Axes of one image."""
        bottom = self.height - HEADING - row * self.row_height - 1
        bounds = (
            self.left_edge(column),
            bottom / self.height,
            1 / self.width,
            1 / self.height,
        )
        return ax.inset_axes(bounds)

    def write_none(self, ax, row: int, column: int) -> None:
        """Say that a group of one row is empty, in the place of its first image."""
        x = self.left_edge(column) + 0.5 / self.width
        y = (self.height - HEADING - row * self.row_height - 0.5) / self.height
        text = {"ha": "center", "va": "center", "fontsize": 8, "transform": ax.transAxes}
        ax.text(x, y, "none", color=neutral_colour(), **text)

    def write_headings(self, ax) -> None:
        """Name the three groups above the first row."""
        y = 1 - 0.5 * HEADING / self.height
        groups = [
            (0, 1, "test", neutral_colour()),
            (1, self.n_left, "proponents (score > 0)", FIRST["color"]),
            (1 + self.n_left, self.n_right, "opponents (score < 0)", SECOND["color"]),
        ]
        for column, n_columns, text, colour in groups:
            if not n_columns:
                continue
            right = self.left_edge(column + n_columns - 1) + 1 / self.width
            middle = (self.left_edge(column) + right) / 2
            style = {"ha": "center", "va": "center", "fontsize": 10, "weight": "bold"}
            ax.text(middle, y, text, color=colour, transform=ax.transAxes, **style)
