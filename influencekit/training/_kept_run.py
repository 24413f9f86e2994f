"""Checkpoints of a run, from any source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from sklearn.pipeline import Pipeline
from skorch import NeuralNet

from influencekit.training._checkpoints import KeepCheckpoints
from influencekit.training._step_checkpoints import (
    CheckpointRecorder,
    State,
    even_steps,
    nearest_steps,
)
from influencekit.training._trainer_callbacks import (
    TrainerCheckpoints,
    TrainerRecorder,
    trainer_callbacks,
)
from influencekit.training.trajectory._recorder import PlainRecorder, TrajectoryRecorder
from influencekit.training.trajectory._trajectory import Trajectory

__all__ = [
    "SOURCES",
    "even_positions",
    "net_inside",
    "states_of",
    "states_within",
]

#: Accepted sources of the checkpoints of a run, other than a list of state dicts.
SOURCES = (
    Trajectory,
    PlainRecorder,
    TrajectoryRecorder,
    TrainerRecorder,
    KeepCheckpoints,
    CheckpointRecorder,
    TrainerCheckpoints,
    Mapping,
    str,
    os.PathLike,
)


def even_positions(n_items: int, n: int) -> list[int]:
    """Positions of at most n of a run's checkpoints: all, or n evenly spaced."""
    return list(range(n_items)) if n_items <= n else even_steps(n_items, n)


def states_of(source: Any, n: int) -> list[Any]:
    """At most n state dicts of a run.

    Parameters
    ----------
    source : Trajectory, recorder or callback, mapping, list or path-like
        A mapping has state dicts by step or epoch. A list has state dicts, or paths of files with
        one. A path is a folder written by a trajectory recorder.
    n : int

    Returns
    -------
    list of state dict or path
        State dicts in the order of training. Those of a trajectory contain only the trained
        parameters.

    Raises
    ------
    ValueError
        If there is none.
    """
    if isinstance(source, (PlainRecorder, TrajectoryRecorder, TrainerRecorder)):
        source = source.trajectory_
    if isinstance(source, (str, os.PathLike)):
        source = Trajectory.load(Path(source))
    if isinstance(source, Trajectory):
        return _of_trajectory(source, n)
    if isinstance(source, KeepCheckpoints):
        by_epoch = source.n is None
        return _of_epochs(source.checkpoints_, n) if by_epoch else _evenly(source.checkpoints_, n)
    if isinstance(source, (CheckpointRecorder, TrainerCheckpoints)):
        source = source.checkpoints_
    return _evenly(source, n)


def states_within(model: Any, n: int) -> list[State] | None:
    """At most n state dicts kept by a Trainer, a fitted net, or the net in a Pipeline or search.

    Parameters
    ----------
    model : object
    n : int

    Returns
    -------
    list of state dict or None
        None if none were kept.
    """
    callbacks = [own for _, own in getattr(net_inside(model), "callbacks_", [])]
    callbacks += trainer_callbacks(model)
    for kinds, name in (
        ((KeepCheckpoints, TrainerCheckpoints), "checkpoints_"),
        ((TrajectoryRecorder, TrainerRecorder), "trajectory_"),
    ):
        for callback in callbacks:
            if isinstance(callback, kinds) and getattr(callback, name, None):
                return states_of(callback, n)
    return None


def net_inside(model: Any) -> NeuralNet | None:
    """The skorch net inside a Pipeline, search or FrozenEstimator, if there is one."""
    model = getattr(model, "best_estimator_", model)
    if type(model).__name__ == "FrozenEstimator":
        model = model.estimator
    if isinstance(model, Pipeline):
        return net_inside(model.steps[-1][1])
    return model if isinstance(model, NeuralNet) else None


def _of_trajectory(trajectory: Trajectory, n: int) -> list[State]:
    """Snapshots nearest to the requested steps, without the end of the run."""
    before_end = [step for step in trajectory.snapshots if step < trajectory.n_steps]
    steps = nearest_steps(before_end, even_steps(trajectory.n_steps, n))
    return [_theta(trajectory, step) for step in steps]


def _theta(trajectory: Trajectory, step: int) -> dict[str, torch.Tensor]:
    return trajectory.snapshots[step].tensors["theta"]


def _of_epochs(kept: Mapping[int, State], n: int) -> list[State]:
    """Epochs nearest to the requested ones, without the last, whose end is the model itself."""
    epochs = [epoch for epoch in kept if epoch < max(kept)] or list(kept)
    return [kept[epoch] for epoch in nearest_steps(epochs, even_steps(max(kept), n))]


def _evenly(source: Iterable[Any], n: int) -> list[Any]:
    states = list(source.values()) if isinstance(source, Mapping) else list(source)
    if not states:
        raise ValueError(
            "checkpoints: got an empty collection; accepted is at least one state dict or file."
        )
    return [states[i] for i in even_positions(len(states), n)]
