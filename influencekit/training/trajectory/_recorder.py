"""Recording the training of skorch nets and of plain torch loops."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import numpy as np
from sklearn.pipeline import Pipeline
from skorch import NeuralNet
from skorch.callbacks import Callback, GradientNormClipping
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Subset

from influencekit.data._ragged import same_batches
from influencekit.exceptions import TrajectoryError
from influencekit.training.trajectory._recording import Recording
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.utils._random import seeds_set
from influencekit.utils._suggest import check_choice
from influencekit.utils.validation import present

__all__ = [
    "PlainRecorder",
    "TellingSampler",
    "TrajectoryRecorder",
    "record_trajectory",
    "recorded_trajectory",
    "refuse_random_items",
    "whole_dataset",
]


class TrajectoryRecorder(Callback):
    """Callback of a skorch net that records its training.

    Parameters
    ----------
    every : int, default=None
        Steps between snapshots of parameters and optimizer state; None is the root of the
        expected number of steps.
    folder : path-like, default=None
        Where snapshots are written, without pickle. An earlier recording there is replaced when
        this one is complete. None keeps them in memory.

    Attributes
    ----------
    trajectory_ : Trajectory
        Trajectory of the latest ``fit`` or ``partial_fit``.

    Notes
    -----
    Rows are those of the ``X`` given to ``fit``, through a ``train_split`` too.  Recorded are
    learning-rate schedules, parameter groups, skorch's ``GradientNormClipping`` and dropout.
    The callback does not change the training, bit for bit.
    Memory: parameters and optimizer state, two or three numbers a parameter, for each snapshot.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skorch import NeuralNetRegressor
    >>> from torch import nn
    >>> from influencekit.training import TrajectoryRecorder
    >>> X = np.ones((8, 1), dtype=np.float32)
    >>> net = NeuralNetRegressor(nn.Linear, module__in_features=1, module__out_features=1,
    ...     optimizer=torch.optim.AdamW, batch_size=4, max_epochs=2, train_split=None, verbose=0,
    ...     callbacks=[("recorder", TrajectoryRecorder())]).fit(X, X)
    >>> dict(net.callbacks_)["recorder"].trajectory_
    Trajectory(optimizer='AdamW', n_steps=4, n_rows=8, snapshots=3)
    """

    def __init__(self, every: int | None = None, folder: str | os.PathLike | None = None):
        self.every = every
        self.folder = folder

    def _get_param_names(self) -> list[str]:
        return ["every", "folder"]  # not all attributes, as skorch has it

    def initialize(self) -> Self:
        self._recording: Recording | None = None
        self._queue: deque[np.ndarray] = deque()
        return self

    def on_train_begin(self, net: NeuralNet, **_: Any) -> None:
        self._release(net)
        self._queue.clear()
        self.max_norm_ = _clipping(net)
        if isinstance(self.every, bool) or (self.every is not None and self.every < 1):
            raise ValueError(f"every: got {self.every!r}; accepted is an integer >= 1 or None.")
        net.get_iterator = partial(own_batches, type(net).get_iterator, net, self._telling)

    def on_batch_begin(self, _net: NeuralNet, training: bool | None = None, **_: Any) -> None:
        if training:
            if not self._queue:
                raise TrajectoryError(
                    "trajectory: a training batch came from somewhere else than the net's "
                    "iterator. Record this net with record_trajectory."
                )
            recording = present(self._recording, "recording")
            recording.announce(self._queue.popleft(), self.max_norm_)

    def on_train_end(self, net: NeuralNet, **_: Any) -> None:
        recording = self._recording
        self._release(net)
        if recording is not None and recording.n_steps:
            self.trajectory_ = recording.finish()

    def _release(self, net: NeuralNet) -> None:
        """Leave the net as it was."""
        vars(net).pop("get_iterator", None)
        if self._recording is not None:
            self._recording.stop()
            self._recording = None

    def _telling(self, net: NeuralNet, dataset: Any, loader: Any) -> TellingSampler:
        """What tells the batches of an epoch that begins."""
        if not isinstance(loader, DataLoader) or loader.batch_sampler is None:
            raise TrajectoryError(
                f"iterator_train: got {type(loader).__name__} without a batch sampler; accepted is "
                "a torch DataLoader that makes the batches. Record this net with "
                "record_trajectory."
            )
        refuse_random_items(dataset)
        n_rows = len(whole_dataset(dataset))
        every = self.every or max(1, math.ceil(math.sqrt(len(loader) * net.max_epochs)))
        reduction = getattr(net.criterion_, "reduction", "mean")
        self._recording = Recording(
            net.module_, net.optimizer_, every, self.folder, n_rows, reduction
        )
        return TellingSampler(loader.batch_sampler, self._queue, dataset)

    def __getstate__(self) -> dict:
        return {k: v for k, v in vars(self).items() if k not in ("_recording", "_queue")} | {
            "_recording": None,
            "_queue": deque(),
        }


def own_batches(
    plain: Callable, net: NeuralNet, sampler_of: Callable, dataset: Any, training: bool = False
) -> Any:
    """A net's iterator, with a batch sampler of one's own around that of its training."""
    loader = plain(net, dataset, training=training)
    if training:
        sampler = sampler_of(net, dataset, loader)
        object.__setattr__(loader, "batch_sampler", sampler)  # DataLoader guards the name
    return loader


class TellingSampler:
    """A batch sampler that says what it gives, in rows of the whole data."""

    def __init__(self, sampler: Any, queue: deque, dataset: Any):
        self.sampler, self.queue, self.dataset = sampler, queue, dataset

    def __iter__(self) -> Iterator[list[int]]:
        self.queue.clear()
        for positions in self.sampler:
            self.queue.append(_rows(self.dataset, np.asarray(positions, dtype=np.int64)))
            yield positions

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.sampler, name)


def refuse_random_items(dataset: Any) -> None:
    """Refuse a training on a Dataset whose items change each time they are read.

    Raises
    ------
    TrajectoryError
    """

    def first(seed: int) -> Any:
        with seeds_set(seed):
            return dataset[0]

    if len(dataset) and not same_batches(first(0), first(1)):
        raise TrajectoryError(
            f"trajectory: the items of the training {type(whole_dataset(dataset)).__name__} change "
            "each time they are read (random augmentation), so a step cannot be replayed; "
            "accepted is a Dataset that gives the same items. Read them once into a list before "
            "training."
        )


def whole_dataset(dataset: Any) -> Any:
    """The dataset that a (nested) subset is taken of."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def _rows(dataset: Any, positions: np.ndarray) -> np.ndarray:
    """Rows of the whole data at positions of a (nested) subset."""
    while isinstance(dataset, Subset):
        positions = np.asarray(dataset.indices, dtype=np.int64)[positions]
        dataset = dataset.dataset
    return positions


def _clipping(net: NeuralNet) -> float | None:
    """Norm to which the net's callbacks clip."""
    found = [c for _, c in net.callbacks_ if isinstance(c, GradientNormClipping)]
    if not found:
        return None
    if len(found) > 1 or float(found[0].gradient_clip_norm_type) != 2.0:
        raise TrajectoryError(
            "callbacks: accepted is one GradientNormClipping with norm type 2; got "
            f"{len(found)} with norm type {found[0].gradient_clip_norm_type}."
        )
    return found[0].gradient_clip_value


class PlainRecorder:
    """Result of :func:`record_trajectory`.

    Attributes
    ----------
    trajectory_ : Trajectory
        After the block.
    """

    trajectory_: Trajectory

    def __init__(self, recording: Recording, max_norm: float | None):
        self._recording, self._max_norm = recording, max_norm

    def rows(self, indices: Any) -> None:
        """Say which rows of X the next forward pass sees.

        Call it before the forward pass.  Several calls before one step of the optimizer are
        one batch, whose loss is the mean over all of their rows.

        Parameters
        ----------
        indices : array-like of int
        """
        self._recording.announce(indices, self._max_norm)


@contextmanager
def record_trajectory(
    module: nn.Module,
    optimizer: Optimizer,
    n_rows: int,
    *,
    every: int = 10,
    folder: str | os.PathLike | None = None,
    max_norm: float | None = None,
    reduction: str = "mean",
) -> Iterator[PlainRecorder]:
    """Record a plain torch training loop.

    Parameters
    ----------
    module : torch.nn.Module
    optimizer : torch.optim.Optimizer
        SGD, Adam, AdamW, Adadelta, Adagrad, Adamax, NAdam, RAdam or RMSprop, over the module's
        trainable parameters.
    n_rows : int
        Rows of the training data, to which the announced rows refer.
    every : int, default=10
        Steps between snapshots.
    folder : path-like, default=None
        Where snapshots are written, without pickle; None keeps them in memory.
    max_norm : float, default=None
        Norm to which the loop clips gradients with ``clip_grad_norm_``.
    reduction : {"mean", "sum"}, default="mean"
        Whether a step minimizes the mean or the sum of its rows' losses.

    Yields
    ------
    PlainRecorder
        Its ``trajectory_`` is available after the block.

    Raises
    ------
    TrajectoryError
        If a step came without rows, or the optimizer is not among those accepted.
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import torch
    >>> from influencekit.training import record_trajectory
    >>> X, module = torch.ones(6, 2), torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    >>> with record_trajectory(module, optimizer, n_rows=6) as recorder:
    ...     for rows in ([0, 1, 2], [3, 4, 5]):
    ...         recorder.rows(rows)
    ...         optimizer.zero_grad()
    ...         module(X[rows]).square().mean().backward()
    ...         _ = optimizer.step()
    >>> recorder.trajectory_
    Trajectory(optimizer='SGD', n_steps=2, n_rows=6, snapshots=2)
    """
    if every < 1 or n_rows < 1:
        raise ValueError(f"every, n_rows: got {every} and {n_rows}; accepted are integers >= 1.")
    check_choice("reduction", reduction, ("mean", "sum"))
    recording = Recording(module, optimizer, every, folder, n_rows, reduction)
    recorder = PlainRecorder(recording, max_norm)
    try:
        yield recorder
    finally:
        recording.stop()
    recorder.trajectory_ = recording.finish()


def recorded_trajectory(model: Any) -> Trajectory | None:
    """The trajectory that a fitted net, or the net of a Pipeline or search, recorded.

    Parameters
    ----------
    model : object

    Returns
    -------
    Trajectory or None
    """
    model = getattr(model, "best_estimator_", model)
    if type(model).__name__ == "FrozenEstimator":
        model = model.estimator
    if isinstance(model, Pipeline):
        return recorded_trajectory(model.steps[-1][1])
    if isinstance(model, NeuralNet):
        for _, callback in getattr(model, "callbacks_", []):
            if isinstance(callback, TrajectoryRecorder):
                return getattr(callback, "trajectory_", None)
    return None
