"""What is said of inputs that a model cannot take."""

from __future__ import annotations

from typing import Any

import torch

from influencekit.data._sources import leaves
from influencekit.models._task import Task

__all__ = ["not_taken", "same_columns"]


def same_columns(X: Any, given: Any, model: Any, name: str = "X") -> Any:
    """X, if its columns are those of the training rows in their order.

    A model that was fitted on arrays does not know names, and would read columns by position.

    Parameters
    ----------
    X : object
    given : object
        The training rows. Only names of two DataFrames are compared.
    model : object
        Task or estimator; one with ``feature_names_in`` or ``feature_names_in_`` compares itself.
    name : str, default="X"

    Returns
    -------
    X : object

    Raises
    ------
    ValueError
    """
    knows = ("feature_names_in", "feature_names_in_")
    framed = hasattr(X, "iloc") and hasattr(given, "iloc") and X.ndim == given.ndim == 2
    if not framed or any(getattr(model, one, None) is not None for one in knows):
        return X
    got, wanted = list(X.columns), list(given.columns)
    if got == wanted or not all(isinstance(one, str) for one in [*got, *wanted]):
        return X
    raise ValueError(
        f"{name}: got the columns {got[:5]}; the training rows have {wanted[:5]}. The model was "
        "fitted without names, so that columns are read by position: accepted are the same ones "
        f"in the same order. Select them: {name}[X_train.columns]."
    )


def not_taken(task: Task, inputs: Any, name: str) -> ValueError:
    """An error for inputs on which a model's forward fails.

    Parameters
    ----------
    task : Task
    inputs : Tensor, tuple or dict of Tensor
        The first example, as a batch.
    name : str
        The argument's name in messages.

    Returns
    -------
    ValueError
    """
    found = ", ".join(f"{p or name} {tuple(t.shape)} {t.dtype}" for p, t in leaves(inputs))
    whole = [p or name for p, t in leaves(inputs) if t.dtype == torch.long]
    cast = ""
    if whole:
        cast = (
            f" Whole numbers, uint8 too, are given as torch.int64; if those of {whole[0]} are not "
            f"indices, cast and scale them as in training, for instance pixels {whole[0]} / 255."
        )
    return ValueError(
        f"{name}: {task.name} cannot take it. Its first example as a batch has the shape "
        f"{found}; accepted are inputs as in training: the axes, features and dtype (floats "
        "for numbers), or integers within its embedding. The model's own error is shown above."
        f"{cast}"
    )
