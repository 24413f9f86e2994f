"""Trainers of the transformers library and of Lightning as Tasks; neither is imported."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from influencekit.exceptions import InfluenceKitWarning, UnsupportedModelError, warn_user
from influencekit.models._optimizers import weight_decay_penalty
from influencekit.models._task import Task, as_task
from influencekit.models.adapters._collate import PadItems
from influencekit.models.adapters._torch import torch_task
from influencekit.models.adapters._transformers import trained_module

__all__ = [
    "TransformersTrainer",
    "is_lightning_trainer",
    "lightning_task",
    "lightning_trainer_task",
    "trainer_task",
]


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


# ---- Lightning ----------------------------------------------------------------------------------


def _is_lightning(kind: type, name: str) -> bool:
    """Whether a class is one of Lightning's, under either of the library's names."""
    return any(
        base.__name__ == name
        and base.__module__.startswith(("lightning.pytorch.", "pytorch_lightning."))
        for base in kind.__mro__
    )


def is_lightning_trainer(model: Any) -> bool:
    """Whether an object is a Trainer of Lightning."""
    return _is_lightning(type(model), "Trainer")


class LightningTrainer(ABC):  # noqa: B024  its subclasses are told by name
    """Any class that is, or derives from, Lightning's ``Trainer``."""

    @classmethod
    def __subclasshook__(cls, kind: type) -> bool:
        return _is_lightning(kind, "Trainer")


class LightningModule(ABC):  # noqa: B024
    """Any class that is, or derives from, Lightning's ``LightningModule``."""

    @classmethod
    def __subclasshook__(cls, kind: type) -> bool:
        return _is_lightning(kind, "LightningModule")


@as_task.register(LightningTrainer)
def lightning_trainer_task(model: Any, loss: Any = None) -> Task:
    """Task of a Lightning Trainer: the module that it trained, with its optimizers' weight decay.

    Parameters
    ----------
    model : lightning.pytorch.Trainer
        After its ``fit``.
    loss : callable, torch.nn.Module or OutputLoss
        As for a bare module: ``training_step`` does not say what it is a loss of.

    Returns
    -------
    Task

    Raises
    ------
    UnsupportedModelError
        If the Trainer has no module yet.
    TypeError
        If the loss is missing.
    """
    module = getattr(model.strategy, "_lightning_module", None)  # the property raises without one
    if module is None:
        raise UnsupportedModelError(
            f"model: this {type(model).__name__} has trained no module yet; accepted is a Trainer "
            "after its fit."
        )
    return lightning_task(module, loss)


@as_task.register(LightningModule)
def lightning_task(model: Any, loss: Any = None) -> Task:
    """Task of a LightningModule: what its ``forward`` gives, and the decay of its optimizers.

    Parameters
    ----------
    model : lightning.pytorch.LightningModule
        Its ``forward`` gives the outputs.
    loss : callable, torch.nn.Module or OutputLoss
        As for a bare module: ``training_step`` does not say what it is a loss of.

    Returns
    -------
    Task
        The penalty is the weight decay of the Trainer's optimizers where the module has a Trainer,
        else of those that ``configure_optimizers`` gives.

    Raises
    ------
    TypeError
        If the loss is missing.
    """
    task = torch_task(model, loss)
    penalty: dict[str, Tensor] = {}
    for optimizer in _lightning_optimizers(model):
        penalty |= weight_decay_penalty(optimizer, model)
    return replace(task, penalty=penalty)


def _lightning_optimizers(model: Any) -> list[Optimizer]:
    """The optimizers of a module's Trainer, or new ones as it configures them."""
    attached = getattr(model, "_trainer", None)  # the property raises without a Trainer
    if attached is not None and attached.optimizers:
        return list(attached.optimizers)
    try:
        return list(_optimizers_in(model.configure_optimizers()))
    except Exception as error:  # whatever a module's own code asks of its Trainer
        warn_user(
            f"model: configure_optimizers of {type(model).__name__} failed without its Trainer "
            f"({type(error).__name__}: {error}), so its weight decay is not known and left out. "
            "Give the Trainer in place of the module.",
            InfluenceKitWarning,
        )
        return []


def _optimizers_in(configured: Any) -> Iterator[Optimizer]:
    """All optimizers in what ``configure_optimizers`` may give."""
    if isinstance(configured, Optimizer):
        yield configured
    elif isinstance(configured, Mapping):
        yield from _optimizers_in(configured.get("optimizer"))
    elif isinstance(configured, (list, tuple)):
        for part in configured:
            yield from _optimizers_in(part)
