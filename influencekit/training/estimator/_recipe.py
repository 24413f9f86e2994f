"""What is retrained: the estimator inside a fitted model, and a new copy of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter
from skorch import NeuralNet
from skorch.callbacks import BatchScoring, EpochScoring

from influencekit.exceptions import UnsupportedModelError
from influencekit.models.adapters._wrappers import Steps, check_step
from influencekit.models.snapshot._own_predictions import own_methods
from influencekit.training.trajectory._recorder import TrajectoryRecorder

__all__ = ["Recipe", "device_of", "fresh_copy", "match_net_dtype", "read_recipe", "weighted_fit"]


@dataclass
class Recipe:
    """How to retrain a model.

    Parameters
    ----------
    estimator : estimator with ``fit``
        The estimator that is cloned and fitted.
    transformers : list of Steps
        Fitted steps that are kept; X passes through them once, in order.
    """

    estimator: Any
    transformers: list[Steps]

    def of_training_rows(self, X: Any, y: Any) -> Any:
        """Training rows as the estimator learned from them."""
        for transformer in self.transformers:
            X = transformer.of_training_rows(X, y)
        return match_net_dtype(X, self.estimator)

    def transform(self, X: Any) -> Any:
        """X as the estimator sees it."""
        for transformer in self.transformers:
            X = transformer(X)
        return match_net_dtype(X, self.estimator)


def read_recipe(model: Any, refit_transformers: bool = False) -> Recipe:
    """Find what has to be retrained.

    For a search, that is its ``best_estimator_``; for a FrozenEstimator, its estimator; for a
    Pipeline, its last step, unless its transformers are also fitted again.

    Parameters
    ----------
    model : estimator
    refit_transformers : bool, default=False

    Returns
    -------
    Recipe

    Raises
    ------
    NotFittedError
        If a search, or a Pipeline whose transformers are kept, was not fitted.
    UnsupportedModelError
        If the model does not have ``fit``, or holds a model and predicts otherwise than it does.
    """
    transformers = []
    if isinstance(model, Pipeline):  # its parameters have the names of its steps before them
        _check_settings(model)
    while True:
        _check_opened(model, refit_transformers)
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif type(model).__name__ == "FrozenEstimator":
            model = model.estimator
        elif isinstance(model, Pipeline) and not refit_transformers:
            if len(model.steps) > 1:
                transformers.append(_fitted_steps(model))
            model = model.steps[-1][1]
        else:
            break
    _check_trainable(model)
    return Recipe(model, transformers)


def _check_opened(model: Any, refit_transformers: bool) -> None:
    """Refuse a Pipeline or search with predictions of its own, of which only the inside is kept."""
    opened = isinstance(model, Pipeline) and not refit_transformers
    _, names = own_methods(model)
    if names and (opened or hasattr(model, "best_estimator_")):
        way = "refit_transformers=True" if opened else "a model that is not a search"
        raise UnsupportedModelError(
            f"model: {type(model).__name__} has its own {' and '.join(names)}, but only the model "
            f"inside is retrained and asked. Accepted is {way}."
        )


def _fitted_steps(pipeline: Pipeline) -> Steps:
    steps = [step for _, step in pipeline.steps[:-1] if step not in (None, "passthrough")]
    for step in steps:
        try:
            check_step(step)
        except NotFittedError as error:
            raise NotFittedError(
                f"{error} By default, the fitted steps are kept and only the last step is "
                "retrained. Fit the Pipeline first. To fit the whole Pipeline on every subset, use "
                "retrain_on_subsets(..., refit_transformers=True)."
            ) from error
    return Steps(steps)


def _check_trainable(model: Any) -> None:
    if hasattr(model, "best_estimator_") or hasattr(model, "param_grid"):
        raise NotFittedError(
            f"model: this {type(model).__name__} does not have a best_estimator_; call its fit "
            f"first."
        )
    missing = [method for method in ("fit", "get_params") if not hasattr(model, method)]
    if isinstance(model, torch.nn.Module) or missing:
        raise UnsupportedModelError(
            f"model: got {type(model).__name__}, which cannot be retrained because it has no "
            f"{(missing or ['fit'])[0]}. Accepted: a skorch net, a scikit-learn estimator or "
            "Pipeline. For anything else pass retrain=function(X_subset, y_subset, seed) -> "
            "fitted model."
        )
    _check_settings(model)


def _check_settings(model: Any) -> None:
    """Refuse settings that only fit the training that they were made for."""
    for name, net in _nets(model):
        _check_net(net, name)
    for name, value in model.get_params(deep=True).items():
        if name.rsplit("__", 1)[-1].startswith("early_stopping_round") and value:
            raise ValueError(
                f"model: {name}={value!r} asks for validation data (eval_set), which do not exist "
                "while retraining: every retraining learns from all rows of its subset. Replace "
                f"it by a fixed number of trees, for instance model.set_params({name}=None, "
                "n_estimators=100)."
            )


def _nets(model: Any) -> list[tuple[str, NeuralNet]]:
    """Skorch nets that an estimator may train, each with the prefix of its parameters."""
    if isinstance(model, NeuralNet):
        return [("", model)]
    parts = model.get_params(deep=True) if hasattr(model, "get_params") else {}
    nets = [(f"{n}__", part) for n, part in parts.items() if isinstance(part, NeuralNet)]
    return [(prefix, net) for prefix, net in nets if f"{prefix}max_epochs" in parts]  # not frozen


def _check_net(net: NeuralNet, prefix: str) -> None:
    trained = getattr(net, "module_", None)
    if trained is not None and net.module is trained:
        raise UnsupportedModelError(
            "model: the module was given to the net as an instance, which fit trained in place. A "
            "clone would start from the trained weights, so the retrained models would not be "
            "independent. Give the class (module=Net, module__width=32), or pass "
            "retrain=function(X_subset, y_subset, seed) -> fitted model."
        )
    callbacks = list(_callbacks(net))
    held_out = {_scored(callback) for _, callback in callbacks} - {None}
    for name, callback in callbacks:
        own = getattr(callback, "monitor", None)
        monitor = vars(net).get(f"callbacks__{name}__monitor", own)
        if not isinstance(monitor, str):
            continue
        if monitor.startswith("valid") or monitor.removesuffix("_best") in held_out:
            epochs = len(getattr(net, "history", None) or [])
            raise ValueError(
                f"model: callback {name!r} monitors {monitor!r}, which does not exist during "
                f"retraining, because every retraining learns from all rows of its subset "
                f"(train_split=None). Replace it by a fixed number of epochs, for instance "
                f"model.set_params({prefix}callbacks=None, {prefix}max_epochs={epochs or 20})."
            )


def _callbacks(net: NeuralNet) -> Iterator[tuple[str, Any]]:
    """Callbacks that a net was given, with their names; a class stands for its defaults."""
    for item in net.callbacks if isinstance(net.callbacks, (list, tuple)) else ():
        given = item if isinstance(item, tuple) else (None, item)
        try:
            callback = given[1]() if isinstance(given[1], type) else given[1]
        except TypeError:  # its parameters are among those of the net
            continue
        yield given[0] or type(callback).__name__, callback


def _scored(callback: Any) -> str | None:
    """Name of a score that a callback takes of held-out rows, which retraining does not have."""
    if not isinstance(callback, (EpochScoring, BatchScoring)) or callback.on_train:
        return None
    scoring = "score" if callback.scoring is None else callback.scoring
    return callback.name or (scoring if isinstance(scoring, str) else scoring.__name__)


def _records(callback: Any) -> bool:
    """Whether a callback records the training, which must not happen in a retraining.

    It would overwrite the recording of the net's own training.
    """
    last = callback[-1] if isinstance(callback, tuple) else callback
    return isinstance(last, TrajectoryRecorder)


def device_of(estimator: Any) -> Any:
    """Device on which an estimator trains."""
    nets = _nets(estimator)
    return nets[0][1].device or "cpu" if nets else "cpu"


def fresh_copy(estimator: Any, seed: int) -> Any:
    """Unfitted clone that trains on all given rows, with all seeds set.

    Parameters
    ----------
    estimator : estimator
    seed : int
        Value for every ``random_state`` of the estimator and its parts.

    Returns
    -------
    estimator

    Raises
    ------
    ValueError, UnsupportedModelError
        If the estimator holds settings that only fit the training that they were made for.
    """
    _check_settings(estimator)
    copy = clone(estimator)
    changes: dict[str, Any] = {}
    parameters = copy.get_params(deep=True)
    for name, value in parameters.items():
        last = name.rsplit("__", 1)[-1]
        if last in ("random_state", "random_seed"):
            changes[name] = int(seed)
        elif last in ("early_stopping", "warm_start") and _switches(value):
            changes[name] = False
        elif last == "n_iter_no_change" and _holds_rows_out(name, parameters):
            changes[name] = None
    if type(copy).__module__.startswith("catboost."):  # its parameters are those that were given
        changes.setdefault("random_seed", int(seed))
    for prefix, net in _nets(copy):
        changes = {k: v for k, v in changes.items() if not k.startswith(f"{prefix}train_split__")}
        changes |= {f"{prefix}train_split": None, f"{prefix}verbose": 0}
        changes[f"{prefix}warm_start"] = False
        if isinstance(net.callbacks, (list, tuple)):
            changes[f"{prefix}callbacks"] = [c for c in net.callbacks if not _records(c)]
    return copy.set_params(**changes)


def _switches(value: Any) -> bool:
    """Whether a parameter is on, off or "auto", not a number or an object."""
    return isinstance(value, (bool, np.bool_)) or (isinstance(value, str) and value == "auto")


def _holds_rows_out(name: str, parameters: Mapping[str, Any]) -> bool:
    """Whether ``n_iter_no_change`` alone switches early stopping on, as in gradient boosting."""
    prefix = name.removesuffix("n_iter_no_change")
    alone = f"{prefix}early_stopping" not in parameters
    return alone and f"{prefix}validation_fraction" in parameters


def match_net_dtype(data: Any, estimator: Any) -> Any:
    """Cast floating arrays to the dtype of a fitted skorch net, as its Task does.

    So a net fitted on float32 arrays can be retrained on the float64 array that they came from.
    Anything other than arrays, tensors and dicts or tuples of them is unchanged, as is the data of
    other estimators.

    Examples
    --------
    >>> import numpy as np
    >>> match_net_dtype(np.zeros(2), "no net").dtype
    dtype('float64')
    """
    dtype = _net_dtype(estimator)
    return data if dtype is None else _cast(data, dtype)


def _net_dtype(estimator: Any) -> torch.dtype | None:
    if not isinstance(estimator, NeuralNet) or not hasattr(estimator, "module_"):
        return None
    floating = (p.dtype for p in estimator.module_.parameters() if p.is_floating_point())
    return next(floating, None)


def _cast(data: Any, dtype: torch.dtype) -> Any:
    if isinstance(data, Mapping):
        return {key: _cast(value, dtype) for key, value in data.items()}
    if isinstance(data, tuple):
        return tuple(_cast(part, dtype) for part in data)
    if isinstance(data, torch.Tensor) and data.is_floating_point():
        return data.to(dtype)
    if isinstance(data, np.ndarray) and np.issubdtype(data.dtype, np.floating):
        cast = torch.as_tensor(data).to(dtype)
        return cast if dtype == torch.bfloat16 else cast.numpy()  # numpy does not have bfloat16
    return data


def weighted_fit(model: Any, X: Any, y: Any, sample_weight: np.ndarray | None) -> Any:
    """Fit an estimator, with weights of the examples if there are any.

    A Pipeline passes them to its last step, or uses scikit-learn's metadata routing if that is
    enabled. A net gets them as an entry of its dict of inputs, where they already are.

    Parameters
    ----------
    model : unfitted estimator
    X, y : array-like
    sample_weight : ndarray of shape (n,) or None

    Returns
    -------
    fitted estimator

    Raises
    ------
    ValueError
        If the estimator does not accept weights.
    """
    if sample_weight is None:
        return model.fit(X, y)
    prefix, last = "", model
    while isinstance(last, Pipeline):
        prefix, last = f"{prefix}{last.steps[-1][0]}__", last.steps[-1][1]
    if isinstance(last, NeuralNet) and isinstance(X, Mapping):
        return model.fit(X, y)
    if not has_fit_parameter(last, "sample_weight"):
        raise ValueError(
            f"sample_weight: {type(last).__name__}.fit does not accept it. Accepted are "
            f"estimators whose fit has this argument, and nets whose X is a dict that contains "
            f"the weights."
        )
    prefix = "" if get_config()["enable_metadata_routing"] else prefix
    return model.fit(X, y, **{f"{prefix}sample_weight": sample_weight})
