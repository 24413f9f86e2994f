"""A recorded run repeated without sets of rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from influencekit.data._examples import make_examples
from influencekit.models._task import as_task
from influencekit.training._cache import OutputCache
from influencekit.training._diverged import check_on_nan, warn_kept
from influencekit.training.leave_one_out._function import (
    DTYPES,
    _check_arguments,
    _key,
    _replay,
    _why_in_turn,
)
from influencekit.training.leave_one_out._reruns import EVALUATION_ROWS, Reruns, Tables
from influencekit.training.stack._tasks import Evaluation
from influencekit.training.subsets._subset_outputs import SubsetOutputs, check_masks
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.utils._long_work import progress
from influencekit.utils._torch import with_gradients

__all__ = ["rerun_without"]


@with_gradients
def rerun_without(
    model: Any,
    X: Any,
    y: Any,
    X_query: Any,
    y_query: Any = None,
    *,
    masks: Any,
    trajectory: Trajectory | str | os.PathLike | None = None,
    removal: str = "renormalize",
    output: str | Callable = "neg_loss",
    dtype: str = "float64",
    chunk_size: int = 64,
    on_nan: str = "raise",
    cache_dir: str | os.PathLike | None = None,
    verbose: int = 0,
) -> SubsetOutputs:
    """Repeat a recorded training run without sets of rows.

    Initial weights, order of batches, learning rates, clipping and dropout noise stay as recorded;
    the rows are removed from every batch that contains them. This is the ground truth of
    :class:`~influencekit.SGDInfluence` and :class:`~influencekit.AdamWInfluence`, as in MAGIC [1]_
    and metagradients [2]_: *this* run without these rows. In contrast,
    :func:`~influencekit.retrain_on_subsets` trains a new run.

    Parameters
    ----------
    model : fitted skorch net, Pipeline or Task
        Anything that :func:`~influencekit.as_task` accepts, at the end of its recorded run.
    X, y : array-like of shape (n_train, ...) and (n_train,)
        As they were given to ``fit``.
    X_query, y_query : array-like of shape (n_query, ...) and (n_query,)
        Queries at which the reruns are evaluated. Without ``y_query``, at the model's own
        predictions.
    masks : bool array-like of shape (n_masks, n_train)
        True for the rows that each rerun keeps.
    trajectory : Trajectory or path-like, default=None
        None uses the one in the net's ``TrajectoryRecorder``.
    removal : {"renormalize", "fixed"}, default="renormalize"
        "renormalize" takes the mean over the remaining rows of the batch, as a real deletion does;
        "fixed" keeps the denominator. A step without remaining rows has gradient 0.
    output : str or callable, default="neg_loss"
        Scalar that is evaluated, higher for a better model.
    dtype : {"float64", "float32"}, default="float64"
        dtype of the reruns.
    chunk_size : int, default=64
        Number of reruns that are trained together.
    on_nan : {"raise", "keep"}, default="raise"
        What to do if a rerun diverges: stop with an error that names the masks, or set these
        outputs to NaN, with a warning.
    cache_dir : path-like, default=None
        Folder in which finished chunks are stored and reused by a later call. Reuse needs the same
        ``chunk_size``.
    verbose : int, default=0

    Returns
    -------
    SubsetOutputs
        One repeat for each mask, with seed 0, because a rerun does not draw random numbers. Every
        metric and search for retrained outputs accepts it.

    Raises
    ------
    TrajectoryError
        If there is no recording, or if it does not belong to the model and the data.
    ValueError
        If an argument is out of range, or reruns give outputs that are not finite.

    Notes
    -----
    Cost: a training run for each mask, as a stack.  Memory: parameters, optimizer state, gradient
    and activations of ``chunk_size`` models.

    References
    ----------
    .. [1] A. Ilyas, L. Engstrom. MAGIC: near-optimal data attribution for deep learning. 2025,
       arXiv 2504.16430.
    .. [2] L. Engstrom, A. Ilyas, B. Chen, A. Feldmann, W. Moses, A. Madry. Optimizing ML training
       with metagradient descent. 2025, arXiv 2503.13751.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from influencekit import as_task
    >>> from influencekit.training import record_trajectory, rerun_without
    >>> X, y = torch.randn(12, 2), torch.arange(12) % 2
    >>> module, loss = torch.nn.Linear(2, 2), torch.nn.CrossEntropyLoss()
    >>> optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    >>> with record_trajectory(module, optimizer, n_rows=12) as recorder:
    ...     for rows in torch.arange(12).split(4):
    ...         recorder.rows(rows)
    ...         optimizer.zero_grad()
    ...         loss(module(X[rows]), y[rows]).backward()
    ...         _ = optimizer.step()
    >>> masks = np.arange(12) % np.array([[2], [3]]) > 0
    >>> task = as_task(module, loss)
    >>> rerun_without(task, X, y, X[:5], y[:5], masks=masks, trajectory=recorder.trajectory_)
    SubsetOutputs(n_subsets=2, n_repeats=1, n_train=12, n_query=5, output='neg_loss')
    """
    _check_arguments(removal, dtype, chunk_size)
    check_on_nan(on_nan)
    task = as_task(model)
    train = make_examples(task, X, y)
    kept = check_masks(np.asarray(masks), len(train))
    queries = make_examples(task, X_query, y_query, require_y=False, name="X_query")
    replay = _replay(task, train, trajectory, DTYPES[dtype])
    reason = _why_in_turn(task, train)
    evaluation = Evaluation(task, queries, output, reason is None, EVALUATION_ROWS)
    reruns = Reruns(replay, removal, together=reason is None)
    cache = None
    if cache_dir is not None:
        cache = OutputCache(cache_dir, _key(reruns, evaluation, output), "it is trained again")
    tables = Tables(reruns, evaluation, cache, on_nan)
    starts = list(range(0, len(kept), chunk_size))
    bar = progress(starts, "reruns", verbose, unit="chunk")
    outputs = np.concatenate([tables.keeping(kept[i : i + chunk_size], i) for i in bar])
    name = output if isinstance(output, str) else getattr(output, "__name__", repr(output))
    found = SubsetOutputs(kept, outputs[:, None], np.zeros((len(kept), 1)), name)
    bad = [f"mask {i}" for i in np.flatnonzero(found.diverged.any(axis=1))]
    warn_kept(bad, len(kept), "reruns")
    return found
