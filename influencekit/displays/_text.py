r"""Names and texts of the user's, written so that matplotlib draws every character as it stands.

Matplotlib reads what stands between two ``$`` as mathematics, and leaves a curve whose name is
empty or begins with ``_`` out of the legend.
"""

from __future__ import annotations

from typing import Any

__all__ = ["legend_text", "literal"]


def literal(text: Any) -> str:
    r"""Text for a title, a tick or an axis: each ``$`` is drawn as ``$``.

    Examples
    --------
    >>> literal("between 10$ and 20$")
    'between 10\\$ and 20\\$'
    """
    return str(text).replace("$", r"\$")


def legend_text(name: Any) -> str:
    """Name of a curve: as :func:`literal`, with a blank before what would hide the curve.

    Examples
    --------
    >>> legend_text("_own")
    ' _own'
    """
    text = literal(name)
    return f" {text}" if not text or text.startswith("_") else text
