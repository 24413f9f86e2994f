"""Top examples as bars of their scores, for rows other than images."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from influencekit.displays._style import FIRST, SECOND, literal, neutral_color
from influencekit.displays.examples._rows import NONE, features, label_line, predicted_line

__all__ = ["draw_bars", "height_of_bars"]

#: Number of letters of a text to show.
TEXT_WIDTH = 58


def height_of_bars(display: Any) -> float:
    """Inches at which the labels do not touch."""
    lines = [line for block in _blocks(display) for line in block]
    return (
        0.9 + 0.24 * sum(1 + label.count("\n") for label, _ in lines) + 0.1 * len(display.X_query)
    )


def draw_bars(ax: Any, display: Any) -> Any:
    """Bars of every test example below each other, proponents first; return them."""
    places: list[float] = []
    labels: list[str] = []
    scores: list[float] = []
    y = 0.0
    for block in _blocks(display):
        for label, score in block:
            places.append(y)
            labels.append(label)
            scores.append(score)
            y += 1 + 0.5 * label.count("\n")
        y += 0.5
    heads = np.isnan(scores)
    values, rows = np.array(scores)[~heads], np.array(places)[~heads]
    colors = np.where(values > 0, FIRST["color"], SECOND["color"])
    bars = ax.barh(rows, values, color=colors, height=0.7)
    for bar, value in zip(bars, values, strict=True):
        bar.set_hatch("" if value > 0 else "///")  # distinguishable without color
    ax.axvline(0, color=neutral_color(), lw=0.8)
    ax.set_yticks(places, [literal(label) for label in labels], fontsize=8)
    for text, head in zip(ax.get_yticklabels(), heads, strict=True):
        text.set_weight("bold" if head else "normal")
    ax.set_ylim(y - 0.5, -1)
    ax.set_xlabel("score: proponents to the right, opponents (hatched) to the left")
    return bars


def _blocks(display: Any) -> list[list[tuple[str, float]]]:
    """For each test example its name (without a score), then names and scores of the others."""
    train = getattr(display.X_train, "index", range(len(display.X_train)))
    tests = getattr(display.X_query, "index", display.query_positions)
    blocks = []
    for row, test in enumerate(tests):
        name = test if isinstance(test, str) else f"test {test}"
        said = predicted_line(display.predicted, display.probability, row).strip()
        block = [(_caption(name, display.y_query, display.X_query, row, said), np.nan)]
        sides = (
            (display.proponents, display.proponent_scores, 1),
            (display.opponents, display.opponent_scores, -1),  # the strongest at the bottom
        )
        for positions, scores, step in sides:
            found = np.flatnonzero(positions[row] != NONE)[::step]
            block += [
                (_caption(train[j], display.y_train, display.X_train, j), scores[row, i])
                for i, j in zip(found, positions[row, found], strict=True)
            ]
        blocks.append(block)
    return blocks


def _caption(name: str, y: Any, X: Any, row: int, said: str = "") -> str:
    """Name, label and prediction of a row, and below them the text that it consists of."""
    facts = ", ".join(fact for fact in (label_line(y, row).strip(), said) if fact)
    line = f"{name} ({facts})" if facts else str(name)
    values = list(features(X, row).values())
    if len(values) == 1 and isinstance(values[0], str):
        line += "\n" + textwrap.shorten(values[0], TEXT_WIDTH, placeholder=" …")
    return line
