"""Trajectory-specific leave-one-out: the same run repeated without one example."""

from __future__ import annotations

import os
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from influencekit.data._examples import Examples, make_examples
from influencekit.exceptions import InfluenceKitWarning, TrajectoryError, warn_user
from influencekit.models._task import Task, as_task
from influencekit.training._behavior import task_behavior
from influencekit.training._cache import OutputCache
from influencekit.training._diverged import check_on_nan, warn_kept
from influencekit.training._fingerprint import fingerprint
from influencekit.training.leave_one_out._reruns import EVALUATION_ROWS, Reruns, Tables
from influencekit.training.leave_one_out._result import TrajectoryLeaveOneOut
from influencekit.training.stack._tasks import Evaluation
from influencekit.training.stack._trial import N_ROWS, why_runs_differ
from influencekit.training.trajectory._recorder import recorded_trajectory
from influencekit.training.trajectory._replay import Replay
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.utils._suggest import check_choice
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import present

__all__ = ["trajectory_leave_one_out"]

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@with_gradients
def trajectory_leave_one_out(
    model: Any,
    X: Any,
    y: Any,
    X_query: Any,
    y_query: Any = None,
    *,
    left_out: Any = None,
    trajectory: Trajectory | str | os.PathLike | None = None,
    removal: str = "renormalize",
    output: str | Callable = "neg_loss",
    dtype: str = "float64",
    chunk_size: int = 64,
    on_nan: str = "raise",
    cache_dir: str | os.PathLike | None = None,
    verbose: int = 0,
) -> TrajectoryLeaveOneOut:
    """Repeat a recorded training run without each of some examples.

    Initial weights, order of batches, learning rates, clipping and dropout noise stay as recorded;
    the example is removed from every batch that contains it. This is what :class:`SGDInfluence` and
    :class:`AdamWInfluence` predict to first order.

    Parameters
    ----------
    model : fitted skorch net, Pipeline or Task
        Anything that :func:`~influencekit.as_task` accepts, at the end of its recorded run.
    X, y : array-like of shape (n_train, ...) and (n_train,)
        As they were given to ``fit``.
    X_query, y_query : array-like of shape (n_test, ...) and (n_test,)
        Test examples. Without ``y_query``, the model's own predictions are explained.
    left_out : array-like of int, default=None
        Rows of X to leave out, one in each rerun; None is all rows that the run learned from.
    trajectory : Trajectory or path-like, default=None
        None uses the one in the net's ``TrajectoryRecorder``.
    removal : {"renormalize", "fixed"}, default="renormalize"
        "renormalize" takes the mean over the remaining rows of the batch, as a real deletion does;
        "fixed" keeps the denominator. A step without remaining rows has gradient 0.
    output : str or callable, default="neg_loss"
        Scalar that is compared, higher for a better model.
    dtype : {"float64", "float32"}, default="float64"
        dtype of the reruns, including the reference.
    chunk_size : int, default=64
        Number of reruns that are trained together.
    on_nan : {"raise", "keep"}, default="raise"
        What to do if a rerun diverges, so that its outputs are NaN or infinite. "raise" stops with
        an error that names the rows left out, and does not write that chunk to ``cache_dir``.
        "keep" sets these outputs to NaN, with a warning.
    cache_dir : path-like, default=None
        Folder in which finished chunks are stored and reused by a later call, so that a killed
        process loses at most the current chunk. Reuse needs the same ``chunk_size``.
    verbose : int, default=0

    Returns
    -------
    TrajectoryLeaveOneOut
        Positive ``scores`` mark proponents; their unit is that of the output.

    Raises
    ------
    TrajectoryError
        If there is no recording, or it does not belong to the model and the data.
    ValueError
        If an argument is out of range, or reruns give outputs that are not finite.

    Warns
    -----
    InfluenceKitWarning
        If runs must be trained one after the other, or outputs are not finite and
        ``on_nan="keep"``.

    Notes
    -----
    Cost: one training run for each example. They run as a stack, which takes much less time than
    separate runs.  Memory: parameters, optimizer state, gradient and activations of ``chunk_size``
    models.

    ``unresolved`` of the result is the share of changes within rounding noise. That noise is
    measured with 4 more reference runs, in which every parameter is moved up or down by its last
    digit after each step.
    """
    _check_arguments(removal, dtype, chunk_size)
    check_on_nan(on_nan)
    task = as_task(model)
    train = make_examples(task, X, y)
    queries = make_examples(task, X_query, y_query, require_y=False, name="X_query")
    replay = _replay(task, train, trajectory, DTYPES[dtype])
    rows = _rows(left_out, replay.trajectory, len(train))
    reason = _why_in_turn(task, train)
    evaluation = Evaluation(task, queries, output, reason is None, EVALUATION_ROWS)
    reruns = Reruns(replay, removal, together=reason is None)
    cache = None
    if cache_dir is not None:
        cache = OutputCache(cache_dir, _key(reruns, evaluation, output), "it is trained again")
    tables = Tables(reruns, evaluation, cache, on_nan)
    chunks = [rows[i : i + chunk_size] for i in range(0, len(rows), chunk_size)]
    full = tables.full()
    outputs = np.concatenate(tables.without_each(chunks, verbose))
    reference = full[0]
    names = ["with all rows", *(f"without row {row}" for row in rows)]
    bad = np.isnan(np.concatenate([full[:1], outputs])).any(axis=1)
    warn_kept([names[i] for i in np.flatnonzero(bad)], len(names), "reruns")
    floor = np.finfo(float).eps * np.maximum(np.abs(reference), 1.0)
    noise = np.maximum(np.abs(full[1:] - reference).max(axis=0), floor)
    return TrajectoryLeaveOneOut(outputs, reference, rows, len(train), noise)


def _check_arguments(removal: str, dtype: str, chunk_size: int) -> None:
    check_choice("removal", removal, ("renormalize", "fixed"))
    check_choice("dtype", dtype, sorted(DTYPES))
    whole = isinstance(chunk_size, Integral) and not isinstance(chunk_size, bool)
    if not whole or chunk_size < 1:
        raise ValueError(f"chunk_size: got {chunk_size!r}; accepted is an integer >= 1.")


def _replay(task: Task, train: Examples, trajectory: Any, dtype: torch.dtype) -> Replay:
    """The run with its model and data, after a check that they belong together."""
    if isinstance(trajectory, (str, os.PathLike)):
        trajectory = Trajectory.load(trajectory)
    if trajectory is None:
        trajectory = recorded_trajectory(task.estimator)
    if trajectory is None:
        raise TrajectoryError(
            f"model: this {task.name} does not have a recording of its training. Train the skorch "
            f"net "
            "with callbacks=[TrajectoryRecorder()], or a torch module inside "
            "record_trajectory(...) as recorder, and give trajectory=recorder.trajectory_."
        )
    own = Replay(task, trajectory, train, np.arange(len(train)))
    own.check_end()
    own.verify(*trajectory.segments()[0])
    return Replay(task, trajectory, train, np.arange(len(train)), dtype=dtype)


def _rows(left_out: Any, trajectory: Trajectory, n_train: int) -> NDArray:
    """Rows that are left out."""
    if left_out is None:
        return np.unique(np.concatenate(trajectory.batches))
    rows = np.asarray(left_out)
    if rows.ndim != 1 or not len(rows) or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(
            f"left_out: got shape {rows.shape} of {rows.dtype}; accepted is a list of at least "
            f"one integer, rows of X."
        )
    if rows.min() < 0 or rows.max() >= n_train:
        raise ValueError(
            f"left_out: got rows from {rows.min()} to {rows.max()}; accepted are those from 0 to "
            f"{n_train - 1}."
        )
    return rows.astype(np.int64)


def _why_in_turn(task: Task, train: Examples) -> str | None:
    few = next(train.batches(N_ROWS))
    reason = why_runs_differ(task, few.inputs, present(few.targets, "training targets"))
    if reason is not None:
        warn_user(
            f"Reruns are trained one after the other, which takes many times as long: {reason}.",
            InfluenceKitWarning,
        )
    return reason


def _key(reruns: Reruns, evaluation: Evaluation, output: Any) -> str:
    """Fingerprint of everything except the rows that are left out."""
    replay, task = reruns.replay, reruns.replay.model.task
    run, start = replay.trajectory, replay.snapshot(0)
    objective = [
        (type(part), vars(part)) for part in (task.loss, task.link) if hasattr(part, "__dict__")
    ]
    return fingerprint(
        "influencekit-trajectory-leave-one-out-3",
        (torch.__version__, reruns.stack.together, str(replay.model.dtype), reruns.renormalize),
        (task.module, objective, output, run.reduction),
        task_behavior(task, replay.inputs, replay.targets),
        (start.theta, start.slots, start.n_steps),
        (run.optimizer, run.groups, run.options, run.switches, run.max_norm),
        (run.batches, run.random_states),
        (replay.inputs, replay.targets, replay.weights),
        [(batch.inputs, batch.targets) for batch in evaluation.batches],
    )
