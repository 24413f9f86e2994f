"""What an attributor checks of the model and of its own scores."""

from __future__ import annotations

import numpy as np
import torch

from influencekit._fitted import Fitted
from influencekit.data import Examples
from influencekit.exceptions import HeldOutRowsWarning, UnsupportedModelError, warn_user
from influencekit.models import Task, class_positions

__all__ = [
    "check_fitted",
    "check_returned",
    "check_scores",
    "check_weights",
    "learned_rows",
    "reject_data_as_model",
]


def reject_data_as_model(attributor, model, X) -> None:
    """Refuse data where the model belongs: an attributor used as a step of a Pipeline."""
    looks_like_data = isinstance(model, (np.ndarray, torch.Tensor, list, tuple)) or (
        hasattr(model, "iloc") or hasattr(model, "tocsr")
    )
    if looks_like_data or X is None:
        name = type(attributor).__name__
        raise UnsupportedModelError(
            f"model: got {type(model).__name__}. {name}.fit takes the fitted model first, "
            f"then its training data: {name}().fit(model, X_train, y_train). An attributor "
            "cannot be a step of a Pipeline: fit the pipeline and give it as the model. Nor can "
            "GridSearchCV search it: use SurrogateLambdaSearchCV or LDSSearch."
        )


def check_weights(task: Task) -> None:
    """Refuse a model whose training diverged."""
    for name, parameter in task.parameters.items():
        if not bool(torch.isfinite(parameter).all()):
            raise UnsupportedModelError(
                f"model: the parameter {name!r} of {task.name} holds NaN or infinity, so its "
                "training diverged. Give a model that trained well, for instance with a smaller "
                "learning rate."
            )


def check_fitted(attributor, fitted) -> None:
    """Refuse what an author's ``_fit`` may not return."""
    if not isinstance(fitted, Fitted):
        raise TypeError(
            f"{type(attributor).__name__}._fit returned a {type(fitted).__name__}; it must return "
            "a Fitted: an object of a class that inherits from influencekit.base.Fitted and has "
            "a method scores(queries)."
        )


def check_returned(fitted, scores: np.ndarray, shape: tuple[int, int]) -> None:
    """Refuse what an author's ``scores`` may not return."""
    if not isinstance(scores, np.ndarray) or scores.shape != shape:
        raise ValueError(
            f"{type(fitted).__name__}.scores returned a {type(scores).__name__} of shape "
            f"{tuple(np.shape(scores))}; it must return an ndarray (n_queries, n_train) = {shape}."
        )


def check_scores(scores: np.ndarray) -> None:
    """Refuse to hand out NaN: it sorts and sums without a word."""
    n_bad = scores.size - int(np.isfinite(scores).sum())
    if n_bad:
        raise ValueError(
            f"{n_bad:,} of {scores.size:,} scores are NaN or infinite: the gradient of the output "
            "or of a training loss is not finite there. Look at output= (a root or logarithm "
            "at 0), the loss and the scale of X, or turn the model to torch.float64."
        )


def learned_rows(task: Task, train: Examples) -> np.ndarray:
    """Positions of the rows that the model was trained on; warn about the others."""
    rows = np.arange(len(train))
    if task.training_rows is None:
        return rows
    targets = train.targets if task.kind != "classification" else class_positions(train.targets)
    learned = np.flatnonzero(task.training_rows(rows[:, None], targets.cpu().numpy()))
    if len(learned) < len(train):
        warn_user(
            f"{task.name} was trained on {len(learned):,} of the {len(train):,} rows given as "
            "training data; it held the others out (skorch's train_split, scikit-learn's "
            "early_stopping). They score 0. To train on all rows, refit the model with "
            "train_split=None or early_stopping=False.",
            HeldOutRowsWarning,
        )
    return learned
