"""Pictures inside the page: PNG as data URLs, curves as SVG in the page's colors."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from io import BytesIO, StringIO
from typing import Any

from markupsafe import Markup
from numpy.typing import NDArray

from influencekit.displays._style import FIRST, SECOND, import_pyplot
from influencekit.displays.examples._images import Images
from influencekit.report._text import visible

__all__ = ["draw_svg", "figure_address", "image_address"]

#: Neutral lines and texts are drawn in this color, which then becomes the page's own.
_NEUTRAL = "#010203"
_COLORS = {
    _NEUTRAL: "currentColor",
    FIRST["color"].lower(): "var(--proponent)",
    SECOND["color"].lower(): "var(--opponent)",
}
_NEUTRAL_KEYS = (
    "text.color",
    "axes.edgecolor",
    "axes.labelcolor",
    "axes.titlecolor",
    "xtick.color",
    "ytick.color",
    "legend.edgecolor",
)
_UNSIGNED: dict[str, Any] = {"Software": None}  # the same bytes from every version
_CLEAR = "#ffffff00"  # no background, and not a dark style either


def image_address(image: NDArray, images: Images) -> str:
    """Write one image as a PNG in a data URL.

    Parameters
    ----------
    image : ndarray of shape (h, w) or (h, w, channels)
    images : Images
        All images of the report, whose range of values it shares.

    Returns
    -------
    str

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    plt = import_pyplot("AttributionReport with images")
    stream = BytesIO()
    options: dict[str, Any] = {"vmin": images.low, "vmax": images.high, "cmap": "gray"}
    plt.imsave(stream, image, format="png", metadata=_UNSIGNED, **options)
    return _address(stream)


def figure_address(figure: Any) -> str:
    """Write a user's figure, with its own colors, as a PNG in a data URL."""
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=150, bbox_inches="tight", metadata=_UNSIGNED)
    return _address(stream)


def draw_svg(plot: Callable[[Any], Any], caller: str) -> Markup:
    """Draw curves as inline SVG; text, axes and the two sides use the page's colors.

    Parameters
    ----------
    plot : callable
        Function that draws into given axes.
    caller : str
        Name of the caller, for the error if matplotlib is missing.

    Returns
    -------
    Markup
        The SVG; its texts are escaped by matplotlib.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    plt = import_pyplot(caller)
    import matplotlib as mpl

    style: dict[str, Any] = dict.fromkeys(_NEUTRAL_KEYS, _NEUTRAL)
    style |= dict.fromkeys(("figure.facecolor", "axes.facecolor"), _CLEAR)
    style |= {"svg.fonttype": "none", "svg.hashsalt": "influencekit", "legend.framealpha": 0.0}
    stream = StringIO()
    # colors of the user's style may not fit the page
    with mpl.rc_context():
        mpl.rcdefaults()
        settings: Any = mpl.rcParams
        settings.update(style)
        figure, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
        try:
            plot(ax)
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(stream, format="svg", bbox_inches="tight", metadata=nothing)
        finally:
            plt.close(figure)
    return _inline(stream.getvalue())


def _inline(svg: str) -> Markup:
    """An SVG file as an element of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # several pictures would share them
    for drawn, own in _COLORS.items():
        svg = svg.replace(drawn, own)
    return Markup(visible(svg))


def _address(stream: BytesIO) -> str:
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
