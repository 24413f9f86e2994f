"""Callbacks of the Trainers of transformers and of Lightning; neither library is imported."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from influencekit.exceptions import TrajectoryError
from influencekit.models.adapters._trainer import is_lightning_trainer
from influencekit.models.adapters._transformers import trained_module
from influencekit.training._step_checkpoints import State, StepCheckpoints, check_n
from influencekit.training._trainer_loss import LossWatch
from influencekit.training._unrecorded import (
    begin_again,
    lightning_steps,
    refuse_unrecorded,
    refuse_unrecorded_lightning,
)
from influencekit.training.trajectory._own_loss import watch_own_loss
from influencekit.training.trajectory._recorder import TellingSampler, whole_dataset
from influencekit.training.trajectory._recording import Recording
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.utils.validation import present

__all__ = ["TrainerCheckpoints", "TrainerRecorder", "trainer_callbacks"]


class _TrainerCallback:
    """What Trainers ask of a callback: every event that is not written here does nothing.

    The transformers library's begins with ``on_train_begin``, Lightning's with ``on_train_start``.
    """

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("on_") or name in ("setup", "teardown", "load_state_dict"):
            return _nothing
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def state_key(self) -> str:
        """Name of the callback in Lightning's checkpoints."""
        return type(self).__name__

    _legacy_state_key = state_key

    def state_dict(self) -> dict:
        """Nothing of it goes into Lightning's checkpoints."""
        return {}


def _nothing(*_: Any, **__: Any) -> None:
    """Leave the Trainer's control as it is."""


class TrainerCheckpoints(_TrainerCallback):
    """Callback of a Trainer that keeps weights along its training, for averages along the run.

    For the Trainer of the transformers library and for Lightning's.

    Parameters
    ----------
    n : int, default=8
        Checkpoints to keep: those before the steps nearest to ``(k + ½) / n`` of the run.

    Attributes
    ----------
    checkpoints_ : dict of int to dict
        Trainable weights (those of an adapter only) and buffers by step.
    n_steps_ : int

    See Also
    --------
    KeepCheckpoints : The same for a skorch net.

    Notes
    -----
    Any optimizer, schedule, clipping, gradient accumulation and precision.  Memory: a copy of the
    trainable weights on the CPU for each checkpoint.  :class:`~influencekit.RunAverage` finds the
    callback in the Trainer that it is fitted on.

    Examples
    --------
    >>> from influencekit.training import TrainerCheckpoints
    >>> callback = TrainerCheckpoints(n=8)  # Trainer(..., callbacks=[callback])
    """

    def __init__(self, n: int = 8):
        check_n(n)
        self.n = n

    def on_train_begin(
        self, _args: Any, state: Any, _control: Any, *, model: Any, optimizer: Any, **_: Any
    ) -> None:
        """Begin to listen to the optimizer."""
        n_steps = state.max_steps - state.global_step if state.max_steps > 0 else None
        self._listen(trained_module(model), getattr(optimizer, "optimizer", optimizer), n_steps)

    def on_train_start(self, trainer: Any, module: nn.Module) -> None:
        """Begin to listen to the optimizer, or the first one, of a Lightning Trainer."""
        self._listen(module, trainer.optimizers[0], lightning_steps(trainer))

    def _listen(self, module: nn.Module, optimizer: Optimizer, n_steps: int | None) -> None:
        self._stop()
        kept = StepCheckpoints(self.n, _trainable_state)
        kept.expect(n_steps)
        self._hook = optimizer.register_step_pre_hook(lambda *_: kept.before_step(module))
        self._kept = kept

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Keep the chosen checkpoints."""
        kept = vars(self).get("_kept")
        self._stop()
        if kept is not None and kept.n_steps:
            self.checkpoints_, self.n_steps_ = kept.finish(), kept.n_steps

    def _stop(self) -> None:
        hook = vars(self).pop("_hook", None)
        if hook is not None:
            hook.remove()
        vars(self).pop("_kept", None)


def _trainable_state(module: nn.Module) -> State:
    """Trainable parameters and buffers, on the CPU."""
    named: list[tuple[str, Tensor]] = [
        (n, p) for n, p in module.named_parameters() if p.requires_grad
    ]
    named += [(n, b) for n, b in module.named_buffers() if n in module.state_dict()]
    return {name: value.detach().cpu().clone() for name, value in named}


class TrainerRecorder(_TrainerCallback):
    """Callback of a Trainer that records its training, step by step.

    For the Trainer of the transformers library and for Lightning's.

    Parameters
    ----------
    every : int, default=None
        Steps between snapshots of parameters and optimizer state; None is the root of the number
        of steps.
    folder : path-like, default=None
        Where snapshots are written, without pickle. An earlier recording there is replaced when
        this one is complete. None keeps them in memory.

    Attributes
    ----------
    trajectory_ : Trajectory
        For ``SGDInfluence(trajectory=...)``, ``AdamWInfluence(trajectory=...)``, and as checkpoints
        of :class:`~influencekit.RunAverage`.

    See Also
    --------
    TrajectoryRecorder : The same for a skorch net.
    TrainerCheckpoints : Weights alone, for a training that cannot be replayed.

    Notes
    -----
    Rows are those of the Trainer's ``train_dataset``, or of the dataset of Lightning's training
    loader. Recorded are schedules, parameter groups, clipping, gradient accumulation (not
    Lightning's), and dropout where a step is one batch.  The callback does not change the training,
    bit for bit.  What cannot be replayed is refused before the first step.

    Examples
    --------
    >>> from influencekit.training import TrainerRecorder
    >>> recorder = TrainerRecorder()  # Trainer(..., callbacks=[recorder])
    """

    def __init__(self, every: int | None = None, folder: str | os.PathLike | None = None):
        if isinstance(every, bool) or (every is not None and every < 1):
            raise ValueError(f"every: got {every!r}; accepted is an integer >= 1 or None.")
        self.every, self.folder = every, folder

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        _control: Any,
        *,
        model: Any,
        optimizer: Any,
        train_dataloader: Any,
        **_: Any,
    ) -> None:
        """Refuse what cannot be replayed, and begin to listen."""
        self._stop()
        module = trained_module(model)
        # accelerate's loader iterates over the one that it holds
        loader = getattr(train_dataloader, "base_dataloader", train_dataloader)
        refuse_unrecorded(args, state, module, loader)
        self._max_norm = args.max_grad_norm if args.max_grad_norm else None
        self._accumulated = args.gradient_accumulation_steps
        inner = getattr(optimizer, "optimizer", optimizer)
        self._listen(module, inner, loader, state.max_steps)
        switches = self._recording.switches
        if args.bf16:
            switches.update(own_loss=True, half=True)
        self._watches = [
            watch_own_loss(model, lambda: switches.update(own_loss=True)),
            LossWatch(model, self._recording),
        ]

    def on_train_start(self, trainer: Any, module: nn.Module) -> None:
        """Refuse what cannot be replayed of a Lightning Trainer, and begin to listen."""
        self._stop()
        loader = trainer.train_dataloader
        refuse_unrecorded_lightning(trainer, module, loader)
        self._max_norm = trainer.gradient_clip_val or None
        self._listen(module, trainer.optimizers[0], loader, lightning_steps(trainer))
        begin_again(trainer, loader)

    def _listen(
        self, module: nn.Module, optimizer: Optimizer, loader: Any, n_steps: int | None
    ) -> None:
        """Record the optimizer's steps and the rows that the loader gives."""
        self._queue: deque[np.ndarray] = deque()
        self._loader, self._done = loader, 0
        self._sampler = loader.batch_sampler
        every = self.every or max(1, math.ceil(math.sqrt(max(n_steps or 100, 1))))
        n_rows = len(whole_dataset(loader.dataset))
        self._recording = Recording(module, optimizer, every, self.folder, n_rows, "mean")
        telling = TellingSampler(self._sampler, self._queue, loader.dataset)
        object.__setattr__(loader, "batch_sampler", telling)  # DataLoader guards the name

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Begin to count the batches of an epoch."""
        self._done = 0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Say which rows the step learns from: all batches whose gradients it adds."""
        n = min(self._accumulated, len(self._loader) - self._done)
        self._done += n
        self._announce(n)

    def on_train_batch_start(self, *_: Any, **__: Any) -> None:
        """Say which rows a step of a Lightning Trainer learns from."""
        self._announce(1)

    def _announce(self, n_batches: int) -> None:
        if len(self._queue) < n_batches:
            raise TrajectoryError(
                "trajectory: a training batch came from somewhere else than the Trainer's own "
                "loader. Record this training with record_trajectory."
            )
        batches = [self._queue.popleft() for _ in range(n_batches)]
        means = np.repeat(np.arange(n_batches), [len(rows) for rows in batches])
        recording = present(self._recording, "recording")
        recording.announce(np.concatenate(batches), self._max_norm, means)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Finish the recording."""
        recording = vars(self).get("_recording")
        self._stop()
        if recording is not None and recording.n_steps:
            self.trajectory_: Trajectory = recording.finish()

    def _stop(self) -> None:
        """Leave the Trainer as it was."""
        recording = vars(self).pop("_recording", None)
        for watch in vars(self).pop("_watches", []):
            watch.remove()
        if recording is not None:
            recording.stop()
            object.__setattr__(self._loader, "batch_sampler", self._sampler)


def trainer_callbacks(model: Any) -> list[Any]:
    """The package's callbacks of a Trainer; none for any other model.

    Parameters
    ----------
    model : object

    Returns
    -------
    list
    """
    holder = model if is_lightning_trainer(model) else getattr(model, "callback_handler", None)
    found = getattr(holder, "callbacks", [])
    return [one for one in found if isinstance(one, _TrainerCallback)]
