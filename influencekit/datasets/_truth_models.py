"""Models of a ground truth, from its recipe and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from influencekit.datasets._truth_language import is_language, losses, new_llama, with_trained
from influencekit.datasets._truth_nets import CNN, MLP, WordNet
from influencekit.utils._archives import DamagedFile

__all__ = ["is_net", "new_model", "predictions_of", "with_weights"]

#: Kind of a recipe's model: class, and the parameters that it may set.
ESTIMATORS = {
    "logistic": (LogisticRegression, {"C", "max_iter", "tol"}),
    "ridge": (Ridge, {"alpha"}),
    "boosting": (HistGradientBoostingClassifier,
                 {"max_iter", "max_leaf_nodes", "learning_rate", "random_state"}),
    "boosting-regressor": (HistGradientBoostingRegressor,
                           {"max_iter", "max_leaf_nodes", "learning_rate", "random_state"}),
}  # fmt: skip
MODULES: dict[str, tuple[type, set[str]]] = {
    "mlp": (MLP, {"sizes"}),
    "cnn": (CNN, {"shape", "n_classes", "width"}),
    "words": (WordNet, {"n_words", "width", "n_classes"}),
}
OPTIMIZERS = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
TRAINING = {"lr", "max_epochs", "batch_size", "optimizer__momentum", "optimizer__weight_decay"}
#: What a linear model learned.
LEARNED = ("coef_", "intercept_", "classes_")
LARGEST_SIZE, LARGEST_NET = 10_000, 10_000_000


def is_net(recipe: dict) -> bool:
    """Whether a recipe's model is a net."""
    return recipe.get("kind") in MODULES


def new_model(recipe: dict, home: Path | None = None) -> Any:
    """The unfitted estimator of a recipe; a language model is read from a data folder.

    Raises
    ------
    DamagedFile
        If the recipe names a kind or a parameter that no ground truth has.
    """
    if is_language(recipe) and home is not None:
        return new_llama(recipe, home)
    options = {key: value for key, value in recipe.items() if key != "kind"}
    kind = recipe.get("kind")
    if kind in ESTIMATORS:
        made, allowed = ESTIMATORS[kind]
        _check_options(options, allowed)
        return made(**options)
    if kind not in MODULES:
        raise DamagedFile(f"its recipe has a model of kind {kind!r}, which no ground truth has")
    module, parts = MODULES[kind]
    classes, optimizer = options.pop("classes", None), options.pop("optimizer", None)
    _check_options(options, parts | TRAINING)
    if optimizer not in OPTIMIZERS or not isinstance(classes, int | None):
        raise DamagedFile(f"its recipe has optimizer {optimizer!r} and classes {classes!r}")
    _check_net(module, {k: v for k, v in options.items() if k in parts})
    options = {f"module__{k}" if k in parts else k: v for k, v in options.items()}
    shared = {"optimizer": OPTIMIZERS[optimizer], "train_split": None, "verbose": 0,
              "iterator_train__shuffle": True, **options}  # fmt: skip
    if classes is None:
        return NeuralNetRegressor(module, criterion=nn.MSELoss, **shared)
    own = {"classes": list(range(classes)), "criterion": nn.CrossEntropyLoss}
    return NeuralNetClassifier(module, **own, **shared)


def _check_options(options: dict, allowed: set[str]) -> None:
    for key, value in options.items():
        numbers = value if isinstance(value, list) else [value]
        sound = all(
            isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= LARGEST_SIZE
            for v in numbers
        )
        if key not in allowed or not numbers or not sound:
            raise DamagedFile(f"its recipe sets {key}={str(value)[:40]!r} of a model")


def _check_net(module: type, parts: dict) -> None:
    """Look at a net without memory for its weights."""
    try:
        with torch.device("meta"):
            size = sum(p.numel() for p in module(**parts).parameters())
    except (TypeError, ValueError, RuntimeError) as error:
        raise DamagedFile(f"its recipe describes no net ({error})") from error
    if size > LARGEST_NET:
        raise DamagedFile(f"its recipe has a net of {size:,} parameters")


def with_weights(model: Any, weights: dict[str, NDArray], X: Any, y: Any) -> Any:
    """A new model with the weights of a fitted one; trees, which have none, are trained again.

    Raises
    ------
    DamagedFile
        If the weights are not those of this model.
    """
    if isinstance(model, NeuralNetClassifier | NeuralNetRegressor):
        with torch.random.fork_rng(devices=[]):
            model.initialize()
        state = {key: torch.as_tensor(value) for key, value in weights.items()}
        try:
            model.module_.load_state_dict(state)
        except RuntimeError as error:
            raise DamagedFile(f"its weights are not those of its model: {error}") from error
        model.module_.eval()
        return model
    if isinstance(model, nn.Module):
        return with_trained(model, weights)
    if isinstance(model, LogisticRegression | Ridge):
        return _linear(model, weights, X.shape[1], y)
    return model.fit(X, y)


def _linear(model: Any, weights: dict[str, NDArray], n_features: int, y: NDArray) -> Any:
    names = LEARNED if isinstance(model, LogisticRegression) else LEARNED[:2]
    if set(weights) != set(names) or weights["coef_"].shape[-1] != n_features:
        raise DamagedFile(f"its weights are {sorted(weights)}, a linear model has {names}")
    for name in names:
        setattr(model, name, weights[name])
    if isinstance(model, LogisticRegression):
        model.classes_ = model.classes_.astype(y.dtype)
        model.n_iter_ = np.ones(1, dtype=np.int32)
    elif model.intercept_.ndim == 0:
        model.intercept_ = float(model.intercept_)
    model.n_features_in_ = n_features
    return model


def predictions_of(model: Any, X: Any) -> NDArray:
    """Probabilities (n, n_classes); predictions, or a language model's losses (n, 1)."""
    if isinstance(model, nn.Module):
        return losses(model, X)[:, None]
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(X), dtype=np.float64)
    return np.asarray(model.predict(X), dtype=np.float64).reshape(len(X), 1)
