"""The scalar of the model that a score explains: a function of outputs and targets."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from influencekit.models._task import Task

__all__ = ["OUTPUTS", "OutputFunction", "output_name", "predicted_targets", "resolve_output"]

#: ``(outputs, targets) -> (n,)``, higher where the model does better
OutputFunction = Callable[[Tensor, Tensor], Tensor]

#: what an attributor's ``output`` may be, by name
OUTPUTS = ("auto", "neg_loss", "margin", "logit", "prediction")


def resolve_output(task: Task, output: str | OutputFunction, has_targets: bool) -> OutputFunction:
    """Function (outputs, targets) -> (n,) whose value is higher when the model does better.

    Parameters
    ----------
    task : Task
    output : {"auto", "neg_loss", "margin", "logit", "prediction"} or callable
        "auto" is the negative loss, or the prediction of a regressor without targets.
    has_targets : bool
        Whether y was given.  Without it the model's own prediction is the target, at which
        the loss gradient of a regressor is zero.

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        If the output does not exist for this kind of model.
    """
    if callable(output):
        return output
    output = output_name(task, output, has_targets)
    if output == "neg_loss":
        if not has_targets and task.kind != "classification":
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
    raise ValueError(f"output: got {output!r}; accepted are {list(OUTPUTS)} or a callable.")


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
        return "neg_loss" if has_targets or task.kind == "classification" else "prediction"
    return output


def _prediction(task: Task) -> OutputFunction:
    if task.kind == "classification":
        raise ValueError(
            "output='prediction' is for regressors; a classifier has 'neg_loss', 'margin' or "
            "'logit'."
        )

    def prediction(outputs: Tensor, targets: Tensor | None) -> Tensor:
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
    if task.kind != "classification":
        raise ValueError(
            f"output={output!r} is for classifiers, but {task.name} is of kind {task.kind!r}; "
            "use 'neg_loss', 'prediction' or a callable."
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
