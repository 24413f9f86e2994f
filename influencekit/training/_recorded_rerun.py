"""Another training of a model that keeps checkpoints."""

from __future__ import annotations

import copy
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils import shuffle

from influencekit.exceptions import UnsupportedModelError
from influencekit.training._checkpoints import KeepCheckpoints
from influencekit.training._kept_run import net_inside
from influencekit.training._randomness import seeded
from influencekit.training._step_checkpoints import State, even_steps
from influencekit.training.estimator._recipe import (
    device_of,
    fresh_copy,
    match_net_dtype,
    read_recipe,
)
from influencekit.training.estimator._rows import count_rows, take_rows

__all__ = ["rerun_with_checkpoints"]


def rerun_with_checkpoints(model: Any, X: Any, y: Any, n: int, seed: int) -> list[State | Any]:
    """Train a copy of a model once, and keep n checkpoints.

    Parameters
    ----------
    model : estimator
        A fitted skorch net, MLPClassifier or MLPRegressor, or a Pipeline or search that ends in
        one, with its fitted transformers kept. It is not changed.
    X, y : array-like
        All training rows, as given to the model's ``fit``.
    n : int
    seed : int
        Seed for the training. A scikit-learn model with an integer ``random_state`` uses that
        instead: the checkpoints are then those of its own run.

    Returns
    -------
    list of state dict, or of fitted MLP

    Raises
    ------
    UnsupportedModelError
        If the model is of another kind, or its solver does not train on batches.
    """
    recipe = read_recipe(model)
    inner, X = recipe.estimator, recipe.transform(X)
    if isinstance(inner, (MLPClassifier, MLPRegressor)):
        return _mlp_checkpoints(inner, X, y, n, seed)
    if net_inside(inner) is None:
        raise UnsupportedModelError(
            f"model: a {type(inner).__name__} cannot be trained again with checkpoints; accepted "
            f"are skorch nets, MLPClassifier and MLPRegressor. For other models, keep checkpoints "
            f"while you train, and give them: RunAverage(checkpoints=states)."
        )
    net = fresh_copy(inner, seed)
    own = net.callbacks if isinstance(net.callbacks, (list, tuple)) else []
    net.set_params(callbacks=[*own, ("run_checkpoints", KeepCheckpoints(n=n))])
    with seeded(seed, device_of(net)):
        net.fit(X, match_net_dtype(y, inner))
    return list(dict(net.callbacks_)["run_checkpoints"].checkpoints_.values())


def _mlp_checkpoints(mlp: Any, X: Any, y: Any, n: int, seed: int) -> list[Any]:
    """Copies of an MLP after the epochs nearest to the requested ones."""
    if mlp.solver == "lbfgs":
        raise UnsupportedModelError(
            f"model: a {type(mlp).__name__} with the solver lbfgs does not train on batches, so "
            f"there are no checkpoints along its run; accepted are the solvers adam and sgd."
        )
    own = mlp.random_state
    start = int(own) if isinstance(own, Integral) else seed
    first = {"classes": np.unique(y)} if _takes_classes(mlp, y) else {}
    # fit shuffles the last epoch's order, partial_fit the original order: so shuffle here
    draws = np.random.RandomState(start)
    _unfitted(mlp, draws).partial_fit(X, y, **first)  # only draws the weights
    again, order = _unfitted(mlp, np.random.RandomState(start)), np.arange(count_rows(X))
    wanted = {max(1, epoch) for epoch in even_steps(mlp.n_iter_, n)}
    found = []
    for epoch in range(1, max(wanted) + 1):
        order = shuffle(order, random_state=draws) if mlp.shuffle else order
        again.partial_fit(take_rows(X, order), take_rows(y, order), **first)
        first = {}
        if epoch in wanted:
            found.append(copy.deepcopy(again))
    return found


def _unfitted(mlp: Any, random_state: np.random.RandomState) -> Any:
    again = clone(mlp).set_params(early_stopping=False, warm_start=False, shuffle=False)
    return again.set_params(random_state=random_state)


def _takes_classes(mlp: Any, y: Any) -> bool:
    return isinstance(mlp, MLPClassifier) and np.ndim(y) == 1
