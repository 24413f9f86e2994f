"""The scalar output that a score explains: a function of outputs and targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.models._estimator_outputs import label_probability
from influencekit.models._task import Task
from influencekit.models.losses._binary import BinaryCrossEntropy
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.models.losses._custom import CustomLoss
from influencekit.models.losses._separate import check_separate
from influencekit.utils._suggest import did_you_mean
from influencekit.utils._torch import callers_device

__all__ = [
    "OUTPUTS",
    "CheckedOutput",
    "ClassProbability",
    "OutputFunction",
    "for_task",
    "one_number_each",
    "output_name",
    "predicted_targets",
    "resolve_output",
]

#: ``(outputs, targets) -> (n,)``, higher if the model does better
OutputFunction = Callable[[Tensor, Tensor], Tensor]

#: Names accepted for an attributor's ``output``.
OUTPUTS = ("auto", "neg_loss", "margin", "logit", "prediction")


def one_number_each(values: Any, n: int, name: str = "output") -> Tensor:
    """Check that a function of outputs and targets returned one number for each example.

    Parameters
    ----------
    values : object
        The returned object.
    n : int
        Number of examples.
    name : str, default="output"
        The parameter that holds the function.

    Returns
    -------
    Tensor of shape (n,)

    Raises
    ------
    ValueError
        If it is not such a Tensor.
    """
    if isinstance(values, Tensor) and values.shape == (n,):
        return values
    got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
    raise ValueError(
        f"{name}: the function returned {got} for {n} examples; accepted is a Tensor with one "
        f"number for each example, shape ({n},). Use losses with reduction='none', and only torch "
        f"operations."
    )


@dataclass(frozen=True)
class CheckedOutput:
    """A user's output function, with checks of its results.

    Parameters
    ----------
    function : callable
    finite : bool, default=False
        Whether NaN and infinity are refused.
    """

    function: OutputFunction
    finite: bool = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What the function returns."""
        values = one_number_each(self._evaluate(outputs, targets), len(outputs))
        check_separate(self._evaluate, outputs, targets, values, "output")
        if self.finite and not bool(torch.isfinite(values).all()):
            raise ValueError(
                "output: the function returned NaN or infinity; accepted are finite numbers. "
                "Check it for a logarithm or root of a negative number, or a division by 0."
            )
        return values

    def _evaluate(self, outputs: Tensor, targets: Tensor) -> Tensor:
        try:
            with callers_device():
                return self.function(outputs, targets)
        except (AttributeError, KeyError, IndexError, NameError) as error:
            raise ValueError(
                f"output: the function raises {type(error).__name__}: {error}. Accepted is a "
                "function of (outputs, targets); its own error is shown above."
            ) from error


@dataclass(frozen=True)
class _OfSeveral:
    """A user's function, which gets outputs and targets as the model's own loss does.

    Parameters
    ----------
    function : callable
    loss : CustomLoss
        It knows how several outputs, or several targets, stand in one tensor.
    """

    function: Callable[[Any, Any], Tensor]
    loss: CustomLoss

    def __call__(self, outputs: Tensor, targets: Any) -> Tensor:
        targets = self.loss.targets_of(targets, outputs.dtype)
        return self.function(self.loss.outputs_of(outputs), targets)


@dataclass(frozen=True)
class ClassProbability:
    """Probability of one class, as returned by the model's ``predict_proba``.

    Parameters
    ----------
    position : int, default=1
        Column of ``predict_proba``.
    argument : str, default="model"
        Name of the argument for errors.
    probabilities : callable, default=None
        ``outputs -> (n, n_classes)``.  None reads outputs as logits; a single column is the logit
        of the second class.
    label : label, default=None
        Label of the class, for models without gradients.
    """

    position: int = 1
    argument: str = "model"
    probabilities: Callable[[Tensor], Tensor] | None = None
    label: Any = None

    def of_model(self, model: Any, X: Any, y: Any) -> np.ndarray:
        """Probability of the labeled class by an estimator's own ``predict_proba``, (n,)."""
        return label_probability(model, X, np.full(np.shape(y), self.label))

    def for_task(self, task: Task) -> ClassProbability:
        """The probability by a model's own rule.

        Parameters
        ----------
        task : Task

        Returns
        -------
        ClassProbability

        Raises
        ------
        ValueError
            If the model has no class probabilities.
        """
        try:
            task.loss.predict_proba(torch.zeros(1, 2))
        except TypeError as error:
            raise ValueError(
                f"{self.argument}: class probabilities are needed, but {task.name} does not "
                f"define them "
                f"(problem_type {task.problem_type!r}, loss {type(task.loss).__name__}). Accepted "
                "are classifiers with predict_proba, and nets trained with a classification "
                "criterion, such as nn.CrossEntropyLoss()."
            ) from error
        if "CalibratedClassifierCV(" in task.name:
            warn_user(
                f"{self.argument}: probabilities are those of the classifiers inside {task.name}, "
                "without the calibration, so they are not those of its predict_proba. To measure "
                "with it, retrain: influencekit.applications.group_counterfactual.",
                InfluenceKitWarning,
            )
        return ClassProbability(self.position, self.argument, task.loss.predict_proba)

    def __call__(self, outputs: Tensor, targets: Tensor | None = None) -> Tensor:  # noqa: ARG002  the form of an output function
        """Probability of every example, (n,)."""
        rule = self.probabilities
        if rule is None:
            rule = (
                BinaryCrossEntropy() if outputs.shape[-1] == 1 else CrossEntropy()
            ).predict_proba
        found = rule(outputs)
        if self.position >= found.shape[-1]:
            raise ValueError(
                f"positive: got {self.position}, but the model has {found.shape[-1]} classes; "
                f"accepted is the position of a class among them, its column of predict_proba, "
                f"from 0 to {found.shape[-1] - 1}."
            )
        return found[..., self.position]


def for_task(function: Callable, task: Task) -> Callable:
    """A function of outputs, bound to a task.

    Parameters
    ----------
    function : callable
        It may have a method ``for_task(task)``, which returns the function to use. Of several
        outputs it gets what the model's loss gets, unless it says by an attribute ``packed`` that
        it takes the one tensor in which they stand.
    task : Task

    Returns
    -------
    callable
    """
    if hasattr(function, "for_task"):
        return function.for_task(task)
    if getattr(function, "packed", False) or not isinstance(task.loss, CustomLoss):
        return function
    return _OfSeveral(function, task.loss)


def resolve_output(
    task: Task, output: str | OutputFunction, has_targets: bool, *, finite: bool = False
) -> OutputFunction:
    """Function (outputs, targets) -> (n,) with higher values if the model does better.

    Parameters
    ----------
    task : Task
    output : {"auto", "neg_loss", "margin", "logit", "prediction"} or callable
        "auto" is the negative loss, or the prediction of a regressor without targets.
    has_targets : bool
        Whether y was given. Otherwise the model's own prediction is the target, where the loss
        gradient of a regressor is zero.
    finite : bool, default=False
        Whether NaN and infinity from a callable are refused. That it returns one number for each
        example is always checked.

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        If the output does not exist for this kind of model.
    """
    if callable(output):
        return CheckedOutput(for_task(output, task), finite)
    output = output_name(task, output, has_targets)
    if output == "neg_loss":
        if not has_targets and task.problem_type != "classification":
            raise ValueError(
                "output='neg_loss' needs y: without y, the model's own prediction is the target, "
                "and the gradient of a regression loss there is zero. "
                "Pass y, or use output='prediction'."
            )
        return lambda outputs, targets: -task.loss.explained(outputs, targets)
    if output == "prediction":
        return _prediction(task)
    if output in ("margin", "logit"):
        return _class_output(task, output)
    raise ValueError(
        f"output: got {output!r}; accepted are {list(OUTPUTS)} or a callable."
        f"{did_you_mean(output, OUTPUTS)}"
    )


def output_name(task: Task, output: str | OutputFunction, has_targets: bool) -> str:
    """Name of an output, with "auto" resolved; a callable's own name.

    Parameters
    ----------
    task : Task
    output : str or callable
    has_targets : bool
        Whether y was given.

    Returns
    -------
    str
    """
    if callable(output):
        return getattr(output, "__name__", repr(output))
    if output == "auto":
        return "neg_loss" if has_targets or task.problem_type == "classification" else "prediction"
    return output


def _prediction(task: Task) -> OutputFunction:
    if task.problem_type == "classification":
        raise ValueError(
            "output='prediction': only regressors have one; a classifier has 'neg_loss', 'margin' "
            "or 'logit'."
        )

    def prediction(outputs: Tensor, targets: Tensor | None) -> Tensor:  # noqa: ARG001  the form of an output function
        flat = task.loss.prediction(outputs).flatten(1)
        if flat.shape[1] != 1:
            raise ValueError(
                f"output='prediction': this is one number for each example, but {task.name} has "
                f"{flat.shape[1]} outputs. Pass a callable, for instance "
                "output=lambda outputs, targets: outputs[:, 0]."
            )
        return flat[:, 0]

    return prediction


def _class_output(task: Task, output: str) -> OutputFunction:
    if task.problem_type != "classification":
        raise ValueError(
            f"output={output!r}: this is for classifiers, but {task.name} has problem_type "
            f"{task.problem_type!r}; use 'neg_loss', 'prediction' or a callable."
        )

    def margin(outputs: Tensor, targets: Tensor) -> Tensor:
        return task.loss.margin(outputs, task.loss.positions(targets))

    def logit(outputs: Tensor, targets: Tensor) -> Tensor:
        return task.loss.logit(outputs, task.loss.positions(targets))

    return margin if output == "margin" else logit


def predicted_targets(task: Task, outputs: Tensor) -> Tensor:
    """The model's own prediction, encoded as targets.

    Parameters
    ----------
    task : Task
    outputs : Tensor of shape (n, ..., n_outputs)

    Returns
    -------
    Tensor
        The prediction in the form that the task's loss takes.
    """
    targets = task.loss.predicted_targets(outputs)
    return targets.to(outputs) if targets.is_floating_point() else targets
