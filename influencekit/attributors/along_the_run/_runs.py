"""The model at the end of a training run with its checkpoints, from any form of input."""

from __future__ import annotations

from typing import Any

import torch

from influencekit.exceptions import InfluenceKitWarning, UnsupportedModelError, warn_user
from influencekit.models._checkpoints import load_checkpoints
from influencekit.models._run_task import RunTask, run_task
from influencekit.models._task import Task, TaskList, as_task, is_model_list
from influencekit.training._kept_run import net_inside, states_of, states_within
from influencekit.training._recorded_rerun import rerun_with_checkpoints
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.utils.validation import present

__all__ = ["read_runs"]


def read_runs(model: Any, X: Any, y: Any, *, given: Any, n: int, rerun_seed: int | None) -> Any:
    """The runs that ``fit`` was given.

    Parameters
    ----------
    model : model, Task or Trajectory, list of models of one run, or list of runs
    X, y : array-like
    given : object
        Checkpoints given with the model; None uses those that the model kept.
    n : int
        Number of checkpoints of a run.
    rerun_seed : int or None
        Seed for another training if no checkpoints were kept; None does not train.

    Returns
    -------
    RunTask, or TaskList of RunTask for several runs
    """
    if isinstance(model, Trajectory):
        raise UnsupportedModelError(
            "model: a Trajectory does not contain the model. Give the fitted model to fit, and "
            "the recording "
            "as RunAverage(checkpoints=trajectory)."
        )
    runs = _several(model)
    if runs is None:
        return _one_run(model, X, y, given, n, rerun_seed)
    if given is not None:
        raise UnsupportedModelError(
            f"checkpoints: given for one run, but fit got {len(runs)} runs. Leave it out, and give "
            "each run as a list of its models."
        )
    return TaskList.of(_one_run(run, X, y, None, n, rerun_seed) for run in runs)


def _several(model: Any) -> list[Any] | None:
    """The runs, if a list has several; None if it is one run."""
    if not isinstance(model, (list, tuple)) or not model:
        return None
    several = [_is_run(item) for item in model]
    if all(several):
        return list(model)
    if any(several):
        raise UnsupportedModelError(
            f"model: item {several.index(True)} of the list is a run, item "
            f"{several.index(False)} a single model. Accepted are the models of one run, or a list "
            "of such lists, one for each run."
        )
    return None


def _is_run(item: Any) -> bool:
    if isinstance(item, Task):
        return isinstance(item, RunTask)
    return is_model_list(item) or states_within(item, 1) is not None


def _one_run(model: Any, X: Any, y: Any, given: Any, n: int, seed: int | None) -> RunTask:
    if is_model_list(model):
        if given is not None:
            raise UnsupportedModelError(
                "checkpoints: given together with a list of models. Give the model at the end of "
                "the run "
                "to fit, or leave checkpoints out."
            )
        tasks = TaskList.of(model)
        return run_task(tasks[-1], tasks)
    end = as_task(model)
    if given is not None:
        return run_task(end, _with_states(end, states_of(given, n)))
    if isinstance(end, RunTask):
        return end
    kept = states_within(model.estimator if isinstance(model, Task) else model, n)
    if kept is not None and _is_end_of(end, model):
        return run_task(end, _with_states(end, kept))
    if seed is not None:
        trained = model.estimator if isinstance(model, Task) else model
        again = rerun_with_checkpoints(trained, X, y, n, seed)
        if isinstance(again[0], dict):
            return run_task(end, _with_states(end, again))
        return run_task(end, [as_task(one) for one in again])
    _warn_without(end)
    return run_task(end, [end])


def _with_states(end: Task, states: list[Any]) -> TaskList:
    """Checkpoints from their weights; buffers and frozen weights may be left out of them."""
    own = end.module.state_dict()
    buffers = {name: own[name] for name, _ in end.module.named_buffers() if name in own}
    full = [{**buffers, **state} if isinstance(state, dict) else state for state in states]
    return load_checkpoints(end, full)


def _is_end_of(end: Task, model: Any) -> bool:
    """Whether a Task's weights are those of the net that it was made of."""
    if not isinstance(model, Task):
        return True
    module = present(net_inside(model.estimator), "net of the model").module_
    own, trained = end.module.state_dict(), getattr(module, "_orig_mod", module).state_dict()
    return own.keys() == trained.keys() and all(
        torch.equal(value, trained[name]) for name, value in own.items()
    )


def _warn_without(end: Task) -> None:
    """Warn of an average over one point, except for a linear model, which has only its optimum."""
    if _is_linear(end.module):
        return
    warn_user(
        f"{end.name} did not keep checkpoints of its training, so RunAverage scores only with the "
        f"final model. Train with callbacks=[KeepCheckpoints(n=8)] (skorch) or inside "
        "record_checkpoints (a plain loop), give a list of models of the run, or train again "
        "with retrain=True.",
        InfluenceKitWarning,
    )


def _is_linear(module: torch.nn.Module) -> bool:
    kinds = {type(part) for part in module.modules() if not list(part.children())}
    return kinds <= {torch.nn.Linear, torch.nn.Identity, torch.nn.Flatten} and (
        sum(isinstance(part, torch.nn.Linear) for part in module.modules()) == 1
    )
