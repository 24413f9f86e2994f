"""Models and attributors from their names on the command line."""

from __future__ import annotations

import ast
from importlib import import_module
from inspect import isabstract, signature
from pathlib import Path
from typing import Any

import joblib

import influencekit
from influencekit.base import BaseAttributor
from influencekit.utils._suggest import did_you_mean

__all__ = ["attributor_of", "load_model"]


def load_model(text: str, trust: bool) -> Any:
    """A fitted model, from a file of joblib or a name in a module.

    Parameters
    ----------
    text : str
        Path of a file that ``joblib.dump`` wrote, or ``module:attribute``; the attribute is a
        fitted model, or a function without arguments that returns one.
    trust : bool
        Whether the file may be read; reading it runs the code that is in it.

    Returns
    -------
    object

    Raises
    ------
    ValueError
        If there is no such file or attribute, or the file is not trusted.
    """
    if Path(text).is_file():
        if not trust:
            raise ValueError(
                f"--model: reading {text!r} runs the code that is in the file. If you or somebody "
                "you trust wrote it, add --trust; else name the model as module:attribute."
            )
        try:
            return joblib.load(text)
        except Exception as error:  # whatever the code in the file raises
            raise ValueError(
                f"--model: {text!r} cannot be read ({type(error).__name__}: {error}); accepted is "
                f"a file written by joblib.dump, with the same libraries installed here."
            ) from error
    module, colon, attribute = text.partition(":")
    if not colon:
        raise ValueError(
            f"--model: there is no file {text!r}; accepted are a file written by joblib.dump, and "
            "module:attribute."
        )
    return _imported(module, attribute)


def _imported(module: str, attribute: str) -> Any:
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, ValueError) as error:  # no name is a ValueError
        raise ValueError(f"--model: the module {module!r} cannot be imported: {error}") from error
    except AttributeError as error:
        raise ValueError(f"--model: the module {module!r} has no {attribute!r}.") from error
    fitted = hasattr(found, "fit") or hasattr(found, "forward")
    return found() if callable(found) and not fitted else found


def attributor_of(name: str, settings: list[str], verbose: int) -> BaseAttributor:
    """An unfitted attributor.

    Parameters
    ----------
    name : str
        Class at influencekit's top level, such as "InfluenceFunction".
    settings : list of str
        ``parameter=value``; the value is a Python literal, or a text without quotation marks.
    verbose : int

    Returns
    -------
    BaseAttributor

    Raises
    ------
    ValueError
        For an unknown class or a setting without "=".
    """
    names = sorted(n for n in influencekit.__all__ if _needs_no_argument(n))
    if name not in names:
        raise ValueError(
            f"--method: got {name!r}; accepted are {', '.join(names)}.{did_you_mean(name, names)}"
        )
    attributor = getattr(influencekit, name)()
    values = dict(map(_setting, settings))
    if "verbose" in attributor.get_params():
        values = {"verbose": verbose, **values}
    return attributor.set_params(**values)


def _needs_no_argument(name: str) -> bool:
    """Whether a name at the top level is an attributor that can be made without arguments."""
    found = getattr(influencekit, name)
    if not isinstance(found, type) or not issubclass(found, BaseAttributor) or isabstract(found):
        return False
    parameters = signature(found).parameters.values()
    return all(p.default is not p.empty or p.kind is p.VAR_KEYWORD for p in parameters)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set: got {text!r}; accepted is parameter=value, such as damping=0.1.")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
