"""Callbacks of the Trainer of the transformers library; the library itself is not imported."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from influencekit.data._ragged import draws_random_numbers
from influencekit.exceptions import TrajectoryError
from influencekit.models.adapters._transformers import trained_module
from influencekit.training._step_checkpoints import State, StepCheckpoints, check_n
from influencekit.training.trajectory._recorder import TellingSampler, whole_dataset
from influencekit.training.trajectory._recording import Recording
from influencekit.training.trajectory._replay import drops_out
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.utils.validation import present

__all__ = ["TrainerCheckpoints", "TrainerRecorder", "trainer_callbacks"]


class _TrainerCallback:
    """What the Trainer asks of a callback: every event that is not written here does nothing."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _nothing(*_: Any, **__: Any) -> None:
    """Leave the Trainer's control as it is."""


class TrainerCheckpoints(_TrainerCallback):
    """Callback of a Trainer that keeps weights along its training, for averages along the run.

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
        self._stop()
        kept, module = StepCheckpoints(self.n, _trainable_state), trained_module(model)
        kept.expect(state.max_steps - state.global_step if state.max_steps > 0 else None)
        inner = getattr(optimizer, "optimizer", optimizer)
        self._hook = inner.register_step_pre_hook(lambda *_: kept.before_step(module))
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
    Rows are those of the Trainer's ``train_dataset``. Recorded are schedules, parameter groups,
    clipping, gradient accumulation, and dropout where a step is one batch.  The callback does not
    change the training, bit for bit.  What cannot be replayed is refused before the first step.

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
        self._queue: deque[np.ndarray] = deque()
        self._loader, self._done = loader, 0
        self._sampler = loader.batch_sampler
        every = self.every or max(1, math.ceil(math.sqrt(max(state.max_steps, 1))))
        n_rows = len(whole_dataset(loader.dataset))
        inner = getattr(optimizer, "optimizer", optimizer)
        self._recording = Recording(module, inner, every, self.folder, n_rows, "mean")
        telling = TellingSampler(self._sampler, self._queue, loader.dataset)
        object.__setattr__(loader, "batch_sampler", telling)  # DataLoader guards the name

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Begin to count the batches of an epoch."""
        self._done = 0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Say which rows the step learns from: all batches whose gradients it adds."""
        n = min(self._accumulated, len(self._loader) - self._done)
        if len(self._queue) < n:
            raise TrajectoryError(
                "trajectory: a training batch came from somewhere else than the Trainer's own "
                "loader. Record this training with record_trajectory."
            )
        self._done += n
        rows = np.concatenate([self._queue.popleft() for _ in range(n)])
        present(self._recording, "recording").announce(rows, self._max_norm)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Finish the recording."""
        recording = vars(self).get("_recording")
        self._stop()
        if recording is not None and recording.n_steps:
            self.trajectory_: Trajectory = recording.finish()

    def _stop(self) -> None:
        """Leave the Trainer as it was."""
        recording = vars(self).pop("_recording", None)
        if recording is not None:
            recording.stop()
            object.__setattr__(self._loader, "batch_sampler", self._sampler)


def refuse_unrecorded(args: Any, state: Any, module: nn.Module, loader: Any) -> None:
    """Refuse a training whose steps could not be repeated from its rows.

    Raises
    ------
    TrajectoryError
    """
    said = "TrainerRecorder: "
    instead = " Record weights alone: TrainerCheckpoints(n=8), for RunAverage."
    if state.global_step:
        raise TrajectoryError(
            f"{said}the training goes on from step {state.global_step}; accepted is one that is "
            f"recorded from its start.{instead}"
        )
    for name in ("bf16", "fp16", "label_smoothing_factor", "neftune_noise_alpha"):
        if getattr(args, name, None):
            raise TrajectoryError(
                f"{said}{name}={getattr(args, name)!r} changes the loss of a step, which is "
                f"replayed without it; accepted is a training without it.{instead}"
            )
    if args.gradient_accumulation_steps > 1 and drops_out(module):
        raise TrajectoryError(
            f"{said}got gradient_accumulation_steps={args.gradient_accumulation_steps} with "
            f"dropout; accepted is one batch a step, or no dropout.{instead}"
        )
    batches = getattr(loader, "batch_sampler", None)
    if batches is None or not hasattr(loader, "dataset") or not hasattr(loader.dataset, "__len__"):
        raise TrajectoryError(
            f"{said}got a {type(loader).__name__} without a batch sampler; accepted is a training "
            f"on a map-style Dataset.{instead}"
        )
    some = range(min(len(loader.dataset), 16))
    items = [loader.dataset[i] for i in some]
    if loader.collate_fn and draws_random_numbers(loader.collate_fn, items, "data_collator"):
        raise TrajectoryError(
            f"{said}the data_collator draws random numbers (masked tokens), so a batch cannot be "
            f"made again; accepted is one that gives the same batch each time.{instead}"
        )


def trainer_callbacks(model: Any) -> list[Any]:
    """The package's callbacks of a Trainer; none for any other model.

    Parameters
    ----------
    model : object

    Returns
    -------
    list
    """
    found = getattr(getattr(model, "callback_handler", None), "callbacks", [])
    return [one for one in found if isinstance(one, _TrainerCallback)]
