"""Trainings of Trainers whose steps could not be repeated: refused before the first one."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from influencekit.data._ragged import draws_random_numbers
from influencekit.exceptions import TrajectoryError
from influencekit.training._randomness import untouched
from influencekit.training.trajectory._recorder import refuse_random_items
from influencekit.training.trajectory._replay import drops_out

__all__ = [
    "INSTEAD",
    "begin_again",
    "lightning_steps",
    "refuse_unrecorded",
    "refuse_unrecorded_lightning",
]

SAID = "TrainerRecorder: "
INSTEAD = " Record weights alone: TrainerCheckpoints(n=8), for RunAverage."


def refuse_unrecorded(args: Any, state: Any, module: nn.Module, loader: Any) -> None:
    """Refuse a training whose steps could not be repeated from its rows.

    Raises
    ------
    TrajectoryError
    """
    if state.global_step:
        raise TrajectoryError(
            f"{SAID}the training goes on from step {state.global_step}; accepted is one that is "
            f"recorded from its start.{INSTEAD}"
        )
    for name in ("fp16", "label_smoothing_factor", "neftune_noise_alpha"):
        if getattr(args, name, None):
            raise TrajectoryError(
                f"{SAID}{name}={getattr(args, name)!r} changes the loss of a step, which is "
                f"replayed without it; accepted is a training without it.{INSTEAD}"
            )
    if getattr(args, "load_best_model_at_end", False):
        raise TrajectoryError(
            f"{SAID}load_best_model_at_end=True ends with the weights of an earlier step; accepted "
            f"is a training that keeps its last weights.{INSTEAD}"
        )
    if args.gradient_accumulation_steps > 1 and drops_out(module):
        raise TrajectoryError(
            f"{SAID}got gradient_accumulation_steps={args.gradient_accumulation_steps} with "
            f"dropout; accepted is one batch a step, or no dropout.{INSTEAD}"
        )
    refuse_loader(loader)


def refuse_unrecorded_lightning(trainer: Any, module: Any, loader: Any) -> None:
    """The same for a Trainer of Lightning.

    Raises
    ------
    TrajectoryError
    """
    if trainer.global_step:
        raise TrajectoryError(
            f"{SAID}the training goes on from step {trainer.global_step}; accepted is one that is "
            f"recorded from its start.{INSTEAD}"
        )
    for what, found, accepted in (
        ("precision", trainer.precision, ("32-true", "64-true")),
        ("accumulate_grad_batches", trainer.accumulate_grad_batches, (1,)),
        ("gradient_clip_algorithm", trainer.gradient_clip_algorithm, (None, "norm")),
        ("automatic_optimization", module.automatic_optimization, (True,)),
        ("number of optimizers", len(trainer.optimizers), (1,)),
        ("num_workers of the training loader", getattr(loader, "num_workers", 0), (0,)),
    ):
        if found not in accepted:
            words = " or ".join(map(repr, accepted))
            raise TrajectoryError(f"{SAID}{what}: got {found!r}; accepted is {words}.{INSTEAD}")
    refuse_loader(loader)


def lightning_steps(trainer: Any) -> int | None:
    """Steps that a Lightning Trainer will still take; None if unknown."""
    total = trainer.estimated_stepping_batches
    return None if math.isinf(total) else int(total) - trainer.global_step


def begin_again(trainer: Any, loader: Any) -> None:
    """Let a Lightning Trainer's first epoch, which it opens before any callback, begin again.

    Nothing was read from it; what opening draws at random is drawn as if once.
    """
    own = loader.generator
    state = None if own is None else own.get_state()
    with untouched():
        iter(trainer.fit_loop._data_fetcher)  # noqa: SLF001  Lightning has no other name
    if own is not None:
        own.set_state(state)


def refuse_loader(loader: Any) -> None:
    """Refuse a loader whose batches could not be made again.

    Raises
    ------
    TrajectoryError
    """
    read = getattr(loader, "batch_sampler", None) is not None
    if not read or not hasattr(getattr(loader, "dataset", None), "__len__"):
        raise TrajectoryError(
            f"{SAID}got a {type(loader).__name__} without a batch sampler; accepted is a training "
            f"on a map-style Dataset.{INSTEAD}"
        )
    refuse_random_items(loader.dataset)
    some = range(min(len(loader.dataset), 16))
    items = [loader.dataset[i] for i in some]
    if loader.collate_fn and draws_random_numbers(loader.collate_fn, items, "data_collator"):
        raise TrajectoryError(
            f"{SAID}the data_collator draws random numbers (masked tokens), so a batch cannot be "
            f"made again; accepted is one that gives the same batch each time.{INSTEAD}"
        )
