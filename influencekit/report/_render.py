"""From what the page says to the page: jinja2's templates, which escape whatever they are given."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from influencekit.report._text import visible

__all__ = ["render"]


@cache
def _environment() -> Environment:
    """Everything between braces is escaped, and its hidden characters are written out."""
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
