"""Optional packages, needed by only some calls."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["import_optional"]


def import_optional(module: str, caller: str, package: str | None = None) -> Any:
    """Return a module, or say how to install its package.

    Parameters
    ----------
    module : str
        Such as "matplotlib.pyplot".
    caller : str
        Name of the caller, the subject of the message.
    package : str or None, default=None
        What is installed; None is the module's first name.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If the package is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = package or module.split(".")[0]
        raise ImportError(
            f"{caller} needs {package}, which is not installed. "
            f"Install it with `pip install {package}`."
        ) from error
