"""How far and how a fitted model is trained further: numbers that others can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from numbers import Integral
from typing import Any

from influencekit.models._task import Task
from influencekit.training.further._optimizer import fitted_net
from influencekit.training.stack._step import OptimizerSpec

__all__ = ["ADJUSTMENTS", "REMOVALS", "ResolvedTraining", "make_config"]

REMOVALS = ("paired", "drop", "subtract")
ADJUSTMENTS = ("full", "center")

#: Rows of a batch where nothing says otherwise.
DEFAULT_BATCH_SIZE = 128


@dataclass(frozen=True)
class ResolvedTraining:
    """Numbers of a :class:`Training` of one model, with every default filled in.

    A :class:`Training` leaves to the model what it does not say, and its epochs have as many
    steps as there are rows for.

    Attributes
    ----------
    optimizer : str
        Name of the torch.optim class.
    lr : float
        Learning rate (of the first parameter group).
    momentum : float
        Momentum of SGD and RMSprop; 0 for the others.
    weight_decay : float
        Weight decay of the optimizer itself, without the penalty of the model's objective.
    batch_size : int
    n_rows : int
        Training rows that the model learned from.
    steps_per_epoch : int
        Steps per epoch of the full-data run.
    unit : {"epochs", "steps"}
        What ``amounts`` count.
    amounts : tuple of int
        Horizons in that unit, ascending.
    removal : {"paired", "drop", "subtract"}
    max_grad_norm : float or None
    """

    optimizer: str
    lr: float
    momentum: float
    weight_decay: float
    batch_size: int
    n_rows: int
    steps_per_epoch: int
    unit: str
    amounts: tuple[int, ...]
    removal: str = "paired"
    max_grad_norm: float | None = None

    @property
    def horizons(self) -> tuple[int, ...]:
        """Horizons in steps of the full-data run."""
        return self.steps_of(self.n_rows)

    @property
    def n_steps(self) -> int:
        """Steps of the full-data run until the last horizon."""
        return self.horizons[-1]

    def steps_of(self, n_rows: int) -> tuple[int, ...]:
        """Horizons in steps of a run over ``n_rows`` rows, whose epochs may be shorter.

        Parameters
        ----------
        n_rows : int

        Returns
        -------
        tuple of int
        """
        each = ceil(n_rows / self.batch_size) if self.unit == "epochs" else 1
        return tuple(each * amount for amount in self.amounts)


def make_config(
    task: Task,
    n_rows: int,
    spec: OptimizerSpec,
    *,
    epochs: int | None,
    n_steps: int | None,
    horizons: Sequence[int] | None,
    batch_size: int | None,
    removal: str,
    max_grad_norm: float | None,
) -> ResolvedTraining:
    """Fill in what the user left open.

    Raises
    ------
    ValueError
        If epochs, steps and horizons contradict each other.
    """
    if epochs is not None and n_steps is not None:
        raise ValueError(
            f"n_steps: got {n_steps} together with epochs={epochs}; give one of them. Horizons "
            f"are counted in epochs, or in steps if n_steps is given."
        )
    unit = "epochs" if n_steps is None else "steps"
    length = _batch_size(task, n_rows, batch_size)
    options = spec.groups[0].options
    return ResolvedTraining(
        optimizer=spec.cls.__name__,
        lr=float(options["lr"]),
        momentum=float(options.get("momentum", 0.0)),
        weight_decay=float(options.get("weight_decay", 0.0)),
        batch_size=length,
        n_rows=n_rows,
        steps_per_epoch=ceil(n_rows / length),
        unit=unit,
        amounts=_amounts(epochs if n_steps is None else n_steps, horizons, unit),
        removal=removal,
        max_grad_norm=max_grad_norm,
    )


def _amounts(total: int | None, horizons: Sequence[int] | None, unit: str) -> tuple[int, ...]:
    if horizons is None:
        return (1 if total is None else int(total),)
    values = list(horizons)
    whole = all(isinstance(v, Integral) and not isinstance(v, bool) for v in values)
    if not values or not whole or values[0] < 1 or values != sorted(set(values)):
        raise ValueError(
            f"horizons: got {values!r}; accepted are ascending integers of 1 or more, counted in "
            f"{unit}."
        )
    if total is not None and values[-1] > total:
        name = "epochs" if unit == "epochs" else "n_steps"
        raise ValueError(
            f"horizons: the last one is {values[-1]}, but {name}={total}; accepted are horizons "
            f"up to {name}."
        )
    return tuple(int(v) for v in values)


def _batch_size(task: Task, n_rows: int, batch_size: int | None) -> int:
    if batch_size is None:
        net = fitted_net(task)
        own: Any = DEFAULT_BATCH_SIZE
        if net is not None:
            own = getattr(net, "iterator_train__batch_size", net.batch_size)
        batch_size = n_rows if own == -1 else int(own)
    return min(int(batch_size), n_rows)
