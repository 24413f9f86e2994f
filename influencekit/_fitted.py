"""What an attributor learns from a model, how it asks for gradients, and shared checks."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Self, TypeVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from influencekit.data._examples import Examples
from influencekit.exceptions import (
    HeldOutRowsWarning,
    LambdaPathWarning,
    UnsupportedModelError,
    warn_user,
)
from influencekit.gradients._cotangents import loss_cotangent, output_cotangent
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients
from influencekit.models._outputs import OUTPUTS, predicted_targets, resolve_output
from influencekit.models._task import Task
from influencekit.models.adapters.meta._calibrated import FoldRows
from influencekit.models.losses._base import class_positions
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import Interval, StrOptions, present, validate_parameters

__all__ = [
    "GRADIENT_CONSTRAINTS",
    "LAYERS",
    "DampedFitted",
    "DampedMixin",
    "Fitted",
    "check_fitted",
    "check_returned",
    "check_scores",
    "gradient_engine",
    "learned_rows",
    "of_models",
    "query_gradients",
    "reject_data_as_model",
    "training_gradients",
    "training_weights",
]


class Fitted(ABC):
    """What was learned from one model and the examples that it learned from.

    ``BaseAttributor._fit`` returns it, and the attributor keeps a list of them, one for each
    model.  A fitted object is never changed: its methods return changed copies.

    Authors write ``__init__``, which keeps what was learned, ``scores(queries)``, and
    ``self_scores()`` where the method defines it.  If scores explain an output, keep it only in the
    attribute ``output`` and read it there in every call of ``scores``: ``explaining`` returns a
    copy that explains another output.

    Attributes
    ----------
    output : str or callable, or None
        The explained output; None for methods that do not explain an output.
    """

    #: The explained output, for methods that explain one.
    output: Any = None

    @abstractmethod
    def scores(self, queries: Examples) -> np.ndarray:
        """Scores (n_queries, n_train) of the training examples, float64.

        Parameters
        ----------
        queries : Examples
            Without targets the model's own predictions are explained.

        Returns
        -------
        ndarray of shape (n_queries, n_train)
        """

    def self_scores(self) -> np.ndarray:
        """Score (n_train,) of every training example on its own loss.

        Raises
        ------
        NotImplementedError
            If the method does not define self-influence.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define self-influence.")

    def explaining(self, output: Any) -> Self:
        """Explain another output with what was learned.

        Parameters
        ----------
        output : str or callable

        Returns
        -------
        Fitted
        """
        return self._with(output=output)

    def _with(self, **changes: Any) -> Self:
        """Copy with other attributes; what was learned is shared."""
        changed = copy.copy(self)
        vars(changed).update(changes)
        return changed


class DampedFitted(Fitted):
    """What was learned by a method with a damping λ.

    Authors write what :class:`Fitted` asks for, and ``path(queries)`` where the curvature has
    eigenvalues.  Only ``scores`` and ``self_scores`` may depend on λ. They read it from the
    attribute ``damping`` in every call: ``at`` returns a copy with another damping.

    Attributes
    ----------
    damping : float
        λ in use.  Set by ``at``, which ``_fit`` calls last: ``return fitted.at(self.damping)``.
    eigenvalues : ndarray or None
        Eigenvalues of the curvature without damping, if it has them.
    least_damping : float
        Smallest λ above 0 at which rounding errors stay small; 0 if any λ works.
    """

    least_damping: float = 0.0
    damping: float
    eigenvalues: np.ndarray | None = None

    def at(self, damping: float) -> Self:
        """Score with another damping.

        Parameters
        ----------
        damping : float

        Returns
        -------
        DampedFitted
        """
        return self._with(damping=damping)

    def path(self, queries: Examples) -> Any:
        """Scores, surrogate indicator and subset sums of queries at any damping.

        Parameters
        ----------
        queries : Examples

        Returns
        -------
        DampingPath

        Raises
        ------
        NotImplementedError
            If the curvature has no eigenvalues.
        """
        raise NotImplementedError(f"{type(self).__name__} has no damping path.")


F = TypeVar("F", bound=DampedFitted)


class DampedMixin:
    """``set_damping`` and what several models share, for attributors with a ``damping``.

    Authors write ``_named_damping(name, fitted)``, and end ``_fit`` with
    ``return self._at(fitted, self.damping)``.
    """

    damping: Any
    fitted_: Sequence[DampedFitted]

    def _named_damping(self, name: str, fitted: Any) -> float:
        """λ of one model for a damping given by name, such as "auto"."""
        raise NotImplementedError(
            f"damping: got {name!r}, but {type(self).__name__} has no named dampings. Give a "
            f"number, or write _named_damping(name, fitted)."
        )

    def _at(self, fitted: F, damping: float | str) -> F:
        """What was learned from one model, with a damping given as a number or by name."""
        if isinstance(damping, str):
            return fitted.at(float(self._named_damping(damping, fitted)))
        _warn_below(fitted.least_damping, float(damping))
        return fitted.at(float(damping))

    @property
    def damping_(self) -> Any:
        """λ in use: a float, or an ndarray with one for each of several models."""
        return of_models([fitted.damping for fitted in self.fitted_])

    @property
    def eigenvalues_(self) -> np.ndarray:
        """Eigenvalues of the curvature without damping, of all models together."""
        found = [fitted.eigenvalues for fitted in self.fitted_]
        known = [values for values in found if values is not None]
        if len(known) < len(found):
            raise AttributeError("eigenvalues_: the curvature does not have eigenvalues.")
        return known[0] if len(known) == 1 else np.sort(np.concatenate(known))

    @with_gradients
    def set_damping(self, damping: float | str) -> Self:
        """Change the damping of a fitted attributor; nothing else of the fit depends on it.

        Parameters
        ----------
        damping : float or str
            A number, or a name that the parameter ``damping`` accepts.

        Returns
        -------
        self : object
        """
        check_is_fitted(self, "fitted_")
        before, self.damping = self.damping, damping
        try:
            validate_parameters(self)
        except ValueError:
            self.damping = before
            raise
        self.fitted_ = [self._at(fitted, damping) for fitted in self.fitted_]
        return self


def _warn_below(floor: float, damping: float) -> None:
    """Warn of a damping so small that rounding errors dominate the scores."""
    if 0 < damping < floor:
        warn_user(
            f"damping={damping:.2g} is below {floor:.2g}, where rounding errors in the "
            f"curvature's eigenvalues may dominate the scores. Give 0, which leaves out "
            f"directions without curvature, or at least {floor:.2g}.",
            LambdaPathWarning,
        )


def of_models(values: list) -> Any:
    """The value of one model, or an array with one value for each model."""
    return values[0] if len(values) == 1 else np.array(values)


# -- checks -----------------------------------------------------------------------------------


def reject_data_as_model(attributor: Any, model: Any, X: Any) -> None:
    """Refuse data where the model belongs: an attributor used as a step of a Pipeline."""
    if isinstance(model, (list, tuple)):
        models = [isinstance(one, Task) or hasattr(one, "fit") for one in model]
        if any(models):
            at = models.index(False)
            raise UnsupportedModelError(
                f"model: item {at} of the list is {type(model[at]).__name__}; accepted are fitted "
                "models of one kind."
            )
    looks_like_data = isinstance(model, (np.ndarray, torch.Tensor, list, tuple)) or (
        hasattr(model, "iloc") or hasattr(model, "tocsr")
    )
    if looks_like_data or X is None:
        name = type(attributor).__name__
        raise UnsupportedModelError(
            f"model: got {'an empty ' if _is_empty(model) else ''}{type(model).__name__}. "
            f"{name}.fit takes the fitted model first, "
            f"then its training data: {name}().fit(model, X_train, y_train). An attributor cannot "
            f"be a step of a Pipeline: fit the pipeline and give it as the model. GridSearchCV "
            f"cannot search it either: use SurrogateLambdaSearchCV or LDSSearch."
        )


def _is_empty(model: Any) -> bool:
    return isinstance(model, (list, tuple)) and not model


def check_fitted(attributor: Any, fitted: Any) -> None:
    """Refuse an invalid return value of an author's ``_fit``."""
    if not isinstance(fitted, Fitted):
        raise TypeError(
            f"{type(attributor).__name__}._fit returned a {type(fitted).__name__}; it must return "
            "a Fitted: an object of a class that inherits from influencekit.base.Fitted and has "
            "a method scores(queries)."
        )


def check_returned(fitted: Any, scores: np.ndarray, shape: tuple[int, int]) -> None:
    """Refuse an invalid return value of an author's ``scores``."""
    if not isinstance(scores, np.ndarray) or scores.shape != shape:
        raise ValueError(
            f"{type(fitted).__name__}.scores returned a {type(scores).__name__} of shape "
            f"{tuple(np.shape(scores))}; it must return an ndarray (n_queries, n_train) = {shape}."
        )


def check_scores(scores: np.ndarray) -> None:
    """Refuse to return NaN, which sorts and sums silently."""
    n_bad = scores.size - int(np.isfinite(scores).sum())
    if n_bad:
        raise ValueError(
            f"{n_bad:,} of {scores.size:,} scores are NaN or infinite: the gradient of the output "
            "or of a training loss is not finite there. Check output= (a root or logarithm at 0), "
            "the loss and the scale of X, or convert the model to torch.float64."
        )


def learned_rows(task: Task, train: Examples) -> np.ndarray:
    """Positions of the rows that the model was trained on; warn about the others.

    Nothing is said of a classifier of one fold, as others of its ensemble learned from the rest.
    """
    rows = np.arange(len(train))
    if task.training_rows is None:
        return rows
    targets = present(train.targets, "training targets")
    targets = class_positions(targets) if task.problem_type == "classification" else targets
    learned = np.flatnonzero(task.training_rows(rows[:, None], targets.cpu().numpy()))
    if len(learned) < len(train) and not isinstance(task.training_rows, FoldRows):
        warn_user(
            f"{task.name} was trained on {len(learned):,} of the {len(train):,} rows given as "
            "training data; it held the others out (skorch's train_split, scikit-learn's "
            "early_stopping). They score 0. To train on all rows, refit the model with "
            "train_split=None or early_stopping=False.",
            HeldOutRowsWarning,
        )
    return learned


#: Constraints of the constructor parameters shared by all gradient attributors.
GRADIENT_CONSTRAINTS: dict[str, list] = {
    "output": [StrOptions(set(OUTPUTS)), callable],
    "batch_size": [Interval(Integral, 1, None, closed="left"), None],
    "max_memory": [Interval(Integral, 1, None, closed="left"), str, None],
    "verbose": ["verbose"],
}


#: Constraints of ``layers``, for attributors that can leave parameters out.
LAYERS: list = [str, list, tuple, None]


def gradient_engine(attributor: Any, task: Task) -> GradientEngine:
    """Engine with an attributor's batch size, memory limit and progress bar."""
    return GradientEngine(
        task,
        batch_size=attributor.batch_size,
        max_memory=attributor.max_memory,
        verbose=attributor.verbose,
    )


def training_gradients(
    engine: GradientEngine,
    train: Examples,
    shares: Tensor | None = None,
    ahead: bool = False,
) -> Gradients:
    """Gradients of the training examples' losses, the first batch perhaps computed ahead."""
    return Gradients(engine, train, loss_cotangent(engine.task), shares=shares, ahead=ahead)


def query_gradients(
    engine: GradientEngine, output: Any, queries: Examples, ahead: bool = False
) -> Gradients:
    """Gradients of the explained output ``f``, which is higher for a better model.

    ``ahead`` computes their first batch immediately, for passes that take them as they are.
    Queries without targets use the model's prediction as target.
    """
    task, has_targets = engine.task, queries.targets is not None
    function = resolve_output(task, output, has_targets, finite=True)

    def of_prediction(outputs: Tensor, _: Any) -> Tensor:
        return function(outputs, predicted_targets(task, outputs.detach()))

    explained = function if has_targets else of_prediction
    return Gradients(engine, queries, output_cotangent(explained), ahead=ahead)


def training_weights(task: Task, train: Examples) -> Tensor:
    """Weight ``w_j`` of every training example in the objective, float64, (n_train,)."""
    weights = task.example_weights(present(train.targets, "training targets"), train.weights)
    if weights is None:
        return torch.ones(len(train), dtype=torch.float64, device=task.device)
    return weights.to(torch.float64)
