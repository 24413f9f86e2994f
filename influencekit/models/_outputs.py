"""The scalar of the model that a score explains: a function of outputs and targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from influencekit.models._task import Task
from influencekit.models.losses._binary import BinaryCrossEntropy
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.utils._suggest import did_you_mean

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

#: ``(outputs, targets) -> (n,)``, higher where the model does better
OutputFunction = Callable[[Tensor, Tensor], Tensor]

#: what an attributor's ``output`` may be, by name
OUTPUTS = ("auto", "neg_loss", "margin", "logit", "prediction")


def one_number_each(values: Any, n: int, name: str = "output") -> Tensor:
    """What a function of outputs and targets returned, checked to be one number an example.

    Parameters
    ----------
    values : object
        What it returned.
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
        If it is anything else.
    """
    if isinstance(values, Tensor) and values.shape == (n,):
        return values
    got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
    raise ValueError(
        f"{name}: the function returned {got} for {n} examples; accepted is a Tensor with one "
        f"number an example, shape ({n},). Take losses with reduction='none', and stay in torch."
    )


@dataclass(frozen=True)
class CheckedOutput:
    """A user's output function, whose results are looked at.

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
        values = one_number_each(self.function(outputs, targets), len(outputs))
        if self.finite and not bool(torch.isfinite(values).all()):
            raise ValueError(
                "output: the function returned NaN or infinity; accepted are finite numbers. "
                "Look for a logarithm or a root of a negative number, or a division by 0."
            )
        return values


@dataclass(frozen=True)
class ClassProbability:
    """Probability of one class, as the model's ``predict_proba`` gives it.

    Parameters
    ----------
    position : int, default=1
        Column of ``predict_proba``.
    argument : str, default="model"
        What a refusal names.
    probabilities : callable, default=None
        ``outputs -> (n, n_classes)``.  None reads outputs as logits, one column as those of the
        second class.
    """

    position: int = 1
    argument: str = "model"
    probabilities: Callable[[Tensor], Tensor] | None = None

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
                f"{self.argument}: class probabilities are needed, but {task.name} gives none "
                f"(problem_type {task.problem_type!r}, loss {type(task.loss).__name__}). Accepted "
                "are classifiers with predict_proba, and nets trained with a criterion of "
                "classes, such as nn.CrossEntropyLoss()."
            ) from error
        return ClassProbability(self.position, self.argument, task.loss.predict_proba)

    def __call__(self, outputs: Tensor, targets: Tensor | None = None) -> Tensor:  # noqa: ARG002  the form of an output function
        """Probability of every example, (n,)."""
        if self.probabilities is not None:
            return self.probabilities(outputs)[..., self.position]
        loss = BinaryCrossEntropy() if outputs.shape[-1] == 1 else CrossEntropy()
        return loss.predict_proba(outputs)[..., self.position]


def for_task(function: Callable, task: Task) -> Callable:
    """A function of outputs, told the model whose outputs they are if it asks for that.

    Parameters
    ----------
    function : callable
        It asks by a method ``for_task(task)`` that gives the function to use.
    task : Task

    Returns
    -------
    callable
    """
    return function.for_task(task) if hasattr(function, "for_task") else function


def resolve_output(
    task: Task, output: str | OutputFunction, has_targets: bool, *, finite: bool = False
) -> OutputFunction:
    """Function (outputs, targets) -> (n,) whose value is higher when the model does better.

    Parameters
    ----------
    task : Task
    output : {"auto", "neg_loss", "margin", "logit", "prediction"} or callable
        "auto" is the negative loss, or the prediction of a regressor without targets.
    has_targets : bool
        Whether y was given.  Without it the model's own prediction is the target, at which
        the loss gradient of a regressor is zero.
    finite : bool, default=False
        Whether NaN and infinity from a callable are refused.  That it gives one number an
        example is looked at in any case.

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
                "output='neg_loss' needs y: without it the model's own prediction is the target, "
                "and the gradient of a regression loss there is zero. "
                "Pass y, or use output='prediction'."
            )
        return lambda outputs, targets: -task.loss(outputs, targets)
    if output == "prediction":
        return _prediction(task)
    if output in ("margin", "logit"):
        return _class_output(task, output)
    raise ValueError(
        f"output: got {output!r}; accepted are {list(OUTPUTS)} or a callable."
        f"{did_you_mean(output, OUTPUTS)}"
    )


def output_name(task: Task, output: str | OutputFunction, has_targets: bool) -> str:
    """Name of an output, with what "auto" stands for; a callable's own name.

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
            "output='prediction' is for regressors; a classifier has 'neg_loss', 'margin' or "
            "'logit'."
        )

    def prediction(outputs: Tensor, targets: Tensor | None) -> Tensor:  # noqa: ARG001  the form of an output function
        flat = task.loss.prediction(outputs).flatten(1)
        if flat.shape[1] != 1:
            raise ValueError(
                f"output='prediction' explains one number an example, but {task.name} has "
                f"{flat.shape[1]} outputs. Pass a callable, for instance "
                "output=lambda outputs, targets: outputs[:, 0]."
            )
        return flat[:, 0]

    return prediction


def _class_output(task: Task, output: str) -> OutputFunction:
    if task.problem_type != "classification":
        raise ValueError(
            f"output={output!r} is for classifiers, but {task.name} has problem_type "
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
        As the task's loss takes it.
    """
    targets = task.loss.predicted_targets(outputs)
    return targets.to(outputs) if targets.is_floating_point() else targets
