"""Whether the models that a model holds are known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from influencekit.models._estimator_outputs import has_gradients
from influencekit.models._has_trees import has_trees
from influencekit.models._no_gradients import no_gradients

__all__ = ["check_known"]


def check_known(model: Any, inner: Iterable[Any]) -> None:
    """Refuse a model that holds one without gradients, fitted or not.

    Parameters
    ----------
    model : estimator
    inner : iterable of estimators
        Those that it fits clones of; the text "drop" and None are none.

    Raises
    ------
    UnsupportedModelError
    """
    for one in inner:
        if one is None or isinstance(one, str):
            continue
        if has_trees(one) or not has_gradients(one):
            raise no_gradients(model)
