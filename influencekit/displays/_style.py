"""One style for every display: distinguishable by color, and by line or marker without color.

Colors are Okabe and Ito's blue and vermilion, which color-blind readers can distinguish, and which
are visible on white and on black. Everything neutral uses the user's text color, so dark styles
work. rcParams are not changed.
"""

from __future__ import annotations

from typing import Any

from influencekit.utils._optional import import_optional

__all__ = [
    "BAND",
    "FIRST",
    "LDS_LABEL",
    "LINE_STYLES",
    "MARKERS",
    "PALETTE",
    "SECOND",
    "curve_style",
    "import_pyplot",
    "is_dark",
    "legend_text",
    "literal",
    "neutral_color",
    "open_axes",
]


#: Style of the first quantity of a picture (ξ; proponents) and of the second (LDS; opponents).
FIRST = {"color": "#0072B2", "linestyle": "-", "marker": "o"}
SECOND = {"color": "#D55E00", "linestyle": "--", "marker": "s"}
#: Colors of many curves: Okabe and Ito's, without yellow and black, with markers and lines.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
MARKERS = ("o", "s", "^", "v", "P", "X", "d")
LINE_STYLES = ("-", "--", "-.", ":")
#: Label of an axis that shows the linear datamodeling score.
LDS_LABEL = "LDS (agreement with retrained models)"
#: Opacity of the bands around curves.
BAND = {"alpha": 0.25, "linewidth": 0}


def curve_style(i: int) -> dict[str, str]:
    """Color, marker and line of the i-th of many curves; the first 28 differ."""
    return {
        "color": PALETTE[i % len(PALETTE)],
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": LINE_STYLES[i % len(LINE_STYLES)],
    }


def import_pyplot(caller: str) -> Any:
    """Return matplotlib.pyplot, or say how to install it.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    return import_optional("matplotlib.pyplot", caller)


def open_axes(display: Any, ax: Any = None, figsize: tuple[float, float] = (6.4, 4.2)) -> Any:
    """Axes for a display to draw on, kept as its ``ax_`` and ``figure_``; None makes a figure."""
    plt = import_pyplot(f"{type(display).__name__}.plot")
    if ax is None:
        _, ax = plt.subplots(figsize=figsize, layout="constrained")
    display.ax_, display.figure_ = ax, ax.figure
    return ax


def neutral_color() -> str:
    """Color of text in the user's style."""
    import matplotlib as mpl

    return mpl.rcParams["text.color"]


def is_dark() -> bool:
    """Whether axes are dark in the user's style."""
    import matplotlib as mpl
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(mpl.rcParams["axes.facecolor"])
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.5


def literal(text: Any) -> str:
    r"""Text for a title, a tick or an axis, in which each ``$`` is drawn literally.

    Examples
    --------
    >>> literal("between 10$ and 20$")
    'between 10\\$ and 20\\$'
    """
    return str(text).replace("$", r"\$")


def legend_text(name: Any) -> str:
    """Name of a curve: as :func:`literal`, with a space before names that would hide the curve.

    Examples
    --------
    >>> legend_text("_own")
    ' _own'
    """
    text = literal(name)
    return f" {text}" if not text or text.startswith("_") else text
