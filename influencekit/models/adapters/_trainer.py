"""The Trainer of the transformers library as a Task; the library itself is not imported."""

from __future__ import annotations

from abc import ABC
from dataclasses import replace
from typing import Any

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._optimizers import weight_decay_penalty
from influencekit.models._task import Task, as_task
from influencekit.models.adapters._collate import PadItems
from influencekit.models.adapters._transformers import trained_module

__all__ = ["TransformersTrainer", "trainer_task"]


class TransformersTrainer(ABC):  # noqa: B024  its subclasses are told by name
    """Any class that is, or derives from, ``transformers.Trainer``."""

    @classmethod
    def __subclasshook__(cls, kind: type) -> bool:
        return any(_is_trainer(base) for base in kind.__mro__)


def _is_trainer(kind: type) -> bool:
    return kind.__name__ == "Trainer" and kind.__module__.startswith("transformers.")


@as_task.register(TransformersTrainer)
def trainer_task(model: Any, loss: Any = None) -> Task:
    """Task of a Trainer: its model, with its collator and its optimizer's weight decay.

    Parameters
    ----------
    model : transformers.Trainer
        Data reach an attributor as they reached the Trainer:
        ``fit(trainer, trainer.train_dataset)``.
    loss : callable or OutputLoss, default=None
        Loss of the logits, if the Trainer computes its own.

    Returns
    -------
    Task
        Weight decay of an optimizer that adds it to the gradient is the penalty; that of AdamW, the
        library's default, is not a term of an objective and is left out.

    Raises
    ------
    UnsupportedModelError
        If the Trainer has a loss of its own, and none is given.
    """
    trainer = model
    if loss is None:
        _refuse_own_loss(trainer)
    net = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    task = as_task(net) if loss is None else as_task(net, loss)
    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    penalty = {} if optimizer is None else weight_decay_penalty(optimizer, trained_module(net))
    penalty = {name: strength for name, strength in penalty.items() if name in task.parameters}
    collate_fn = trainer.data_collator
    if isinstance(task.collate_fn, PadItems):
        every = not trainer.args.remove_unused_columns
        collate_fn = task.collate_fn.around(collate_fn, all_columns=every)
    return replace(task, penalty=penalty, collate_fn=collate_fn)


def _refuse_own_loss(trainer: Any) -> None:
    """Refuse a Trainer whose objective is not the loss of its model."""
    kind: Any = next(base for base in type(trainer).__mro__ if _is_trainer(base))
    own = "compute_loss"
    if trainer.compute_loss_func is not None:
        own = "compute_loss_func"
    elif getattr(trainer, "label_smoother", None) is not None:
        own = "label_smoothing_factor"
    elif type(trainer).compute_loss is kind.compute_loss:
        return
    raise UnsupportedModelError(
        f"model: this {type(trainer).__name__} has a loss of its own ({own}), which is not known. "
        "Give the loss of the logits: as_task(trainer, loss=...). Accepted without one is a "
        "Trainer that minimizes the loss of its model."
    )
