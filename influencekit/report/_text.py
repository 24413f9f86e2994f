"""Values of any type as short text without hidden characters, and filled templates."""

from __future__ import annotations

import re
from functools import cache
from numbers import Integral, Real
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["number", "plain", "render", "shorten", "visible"]


#: Control characters, direction overrides and isolates, invisible spaces and tags, lone
#: surrogates (which cannot be written to a file). Joiners stay: scripts and emoji need them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f\ud800-\udfff]"
)
#: The memory address of an object differs from run to run.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def visible(value: Any) -> Any:
    r"""Text with hidden characters written out; Markup is returned unchanged.

    Examples
    --------
    >>> visible("a\u202eb")
    'a\\u202eb'
    """
    if not isinstance(value, str) or type(value) is Markup:
        return value  # a label may claim to be safe; only our own Markup is
    return _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", str(value).replace("\r\n", "\n"))


def shorten(text: str, limit: int) -> str:
    """The first characters of a text, and how many there are.

    Examples
    --------
    >>> shorten("abcdef", 3)
    'abc… (6 characters)'
    """
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


def number(value: float) -> str:
    """A number with four digits; minus signs and NaN unchanged.

    Examples
    --------
    >>> number(0.123456), number(float("nan")), number(1e-9)
    ('0.1235', 'NaN', '1e-09')
    """
    return "NaN" if value != value else f"{value:.4g}"


def plain(value: Any, limit: int = 200) -> str:
    """A label, feature or parameter of any type as text.

    Examples
    --------
    >>> plain(3), plain(2.0), plain(None), plain(np.float32(0.1)), plain("a")
    ('3', '2', 'None', '0.1', 'a')
    """
    if isinstance(value, Real) and not isinstance(value, (Integral, bool, np.bool_)):
        return number(float(value))
    return shorten(_ADDRESS.sub("", str(value)), limit)


@cache
def _environment() -> Environment:
    """Template engine that escapes every value and writes out its hidden characters."""
    return Environment(
        loader=PackageLoader("influencekit.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **content: Any) -> str:
    """Fill a template.

    Parameters
    ----------
    template : str
        Name of a file in ``templates``.
    **content : object
        What it shows.

    Returns
    -------
    str
    """
    return _environment().get_template(template).render(**content)
