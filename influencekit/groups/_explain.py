"""A property as the output that attributors of single examples explain."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np

from influencekit.attributors._slope_output import SlopeOutput
from influencekit.attributors.first_order._grad_cos import GradCos
from influencekit.base import BaseAttributor
from influencekit.data._examples import Examples, ExamplesList, each
from influencekit.groups._properties import compare_index, property_slopes, resolve_property
from influencekit.utils._suggest import did_you_mean

__all__ = ["SlopeOutput", "check_explains", "check_queries", "explain", "sloped"]


#: What searches accept in ``fit`` in addition to the training data.
_QUERIES = ("X_query", "y_query", "subset_outputs")


def check_explains(attributor: BaseAttributor) -> None:
    """Refuse an attributor that cannot explain a property.

    Raises
    ------
    ValueError
        If neither it nor one inside it has an output, or rows do not add up.
    """
    name = type(attributor).__name__
    if isinstance(attributor, GradCos):
        raise ValueError(
            f"property: {name} divides the gradient of each test row by its norm, so that rows do "
            "not add up to a property. Use GradDot."
        )
    if not any(p.split("__")[-1] == "output" for p in attributor.get_params(deep=True)):
        raise ValueError(
            f"property: {name} does not have a parameter 'output', so it cannot explain a "
            f"property; accepted "
            "are attributors by gradients or by training."
        )


def check_queries(attributor: BaseAttributor, queries: dict[str, Any]) -> None:
    """Refuse queries that an attributor does not take, and a search that lacks those it needs.

    Raises
    ------
    TypeError
    ValueError
    """
    accepted = [name for name in signature(attributor.fit).parameters if name in _QUERIES]
    unknown = sorted(set(queries) - set(accepted))
    if unknown:
        raise TypeError(
            f"fit: got {unknown}, which {type(attributor).__name__} does not take; accepted are "
            f"{accepted or 'model, X, y and groups'}.{did_you_mean(unknown[0], accepted)}"
        )
    if "subset_outputs" in accepted and queries.get("X_query") is None:
        raise ValueError(
            f"X_query: got None; {type(attributor).__name__} inside needs examples that the model "
            f"was not trained on. Give them: fit(model, X, y, groups=groups, X_query=X_val, "
            "y_query=y_val)."
        )


def explain(attributor: Any, output: Any) -> None:
    """Let a fitted attributor explain another output, and with it those that it holds.

    Parameters
    ----------
    attributor : fitted attributor
        Changed in place: of several models, or a search, or one by itself.
    output : callable
    """
    while hasattr(attributor, "best_attributor_"):
        attributor = attributor.best_attributor_
    attributor.fitted_ = [fitted.explaining(output) for fitted in attributor.fitted_]


def sloped(
    models: Any, given: Any, queries: Examples | ExamplesList
) -> tuple[float, Examples | ExamplesList]:
    """Value of a property, and queries with its slopes as targets, for each model its own.

    Parameters
    ----------
    models : Task or TaskList
    given : str or callable
        One property.
    queries : Examples or ExamplesList

    Returns
    -------
    value : float
        Mean over the models.
    queries : Examples or ExamplesList
    """
    values, parts = [], []
    compare_index(queries.index, given)
    for task, own in zip(each(models), each(queries), strict=True):
        value, slopes = property_slopes(task, resolve_property(task, given), own)
        values.append(value)
        parts.append(own.with_targets(slopes))
    found = ExamplesList(parts) if isinstance(queries, ExamplesList) else parts[0]
    return float(np.mean(values)), found
