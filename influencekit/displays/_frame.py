"""Top examples as a table, for rows that are no images."""

from __future__ import annotations

from influencekit.displays.examples._rows import NONE, features, label_or_none

__all__ = ["examples_frame"]


def examples_frame(display):
    """Table of a TopExamplesDisplay, see its `to_frame`.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "TopExamplesDisplay.to_frame needs pandas, which is not installed. "
            "Install it with `pip install pandas`."
        ) from error
    keys, facts, rows = zip(*_entries(display, missing=pd.NA), strict=True)
    index = pd.MultiIndex.from_tuples(keys, names=["test", "kind", "rank"])
    table = pd.DataFrame(facts, columns=["train", "score", "label"], index=index)
    if display.y_train is None and display.y_test is None:
        table = table.drop(columns="label")
    return pd.concat([table, pd.DataFrame(rows, index=index)], axis=1)


def _entries(display, missing):
    """Key, facts and features of every example, the test example first."""
    labels = getattr(display.X_train, "index", range(len(display.X_train)))
    tests = getattr(display.X_test, "index", display.test_positions)
    sides = [
        ("proponent", display.proponents, display.proponent_scores),
        ("opponent", display.opponents, display.opponent_scores),
    ]
    for row, test in enumerate(tests):
        facts = (missing, float("nan"), label_or_none(display.y_test, row))
        yield (test, "test", 0), facts, features(display.X_test, row)
        for kind, positions, scores in sides:
            for rank, position in enumerate(positions[row]):
                if position != NONE:
                    label = label_or_none(display.y_train, position)
                    facts = (labels[position], scores[row, rank], label)
                    yield (test, kind, rank + 1), facts, features(display.X_train, position)
