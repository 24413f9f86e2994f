"""One style for every display: told apart by colour, and by line or marker without colour.

Colours are Okabe and Ito's blue and vermilion, which stay apart for colour-blind readers and
stand out on white and on black.  Everything neutral follows the user's own text colour, so
dark styles work.  No rcParams are changed.
"""

from __future__ import annotations

__all__ = ["FIRST", "MARKERS", "PALETTE", "SECOND", "import_pyplot", "neutral_colour"]

#: Style of the first quantity of a picture (ξ; proponents) and of the second (LDS; opponents).
FIRST = {"color": "#0072B2", "linestyle": "-", "marker": "o"}
SECOND = {"color": "#D55E00", "linestyle": "--", "marker": "s"}
#: Colours of many curves: Okabe and Ito's, without yellow and black, and a marker beside each.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
MARKERS = ("o", "s", "^", "v", "P", "X", "d")


def import_pyplot(caller: str):
    """Return matplotlib.pyplot, or say which extra to install.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{caller} needs matplotlib, which is not installed. "
            "Install it with `pip install influencekit[plot]`."
        ) from error
    return plt


def neutral_colour() -> str:
    """Colour of text in the style that the user has chosen."""
    import matplotlib as mpl

    return mpl.rcParams["text.color"]
