"""One step of an optimizer, forwards and backwards, coordinate by coordinate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["Adjoint", "Options", "Rule", "Slots", "is_set", "root"]

Slots = dict[str, Tensor]  # state of the optimizer, each (..., p)
Adjoint = dict[str, Tensor]  # derivatives by theta and by the slots, each (n_queries, p)
Options = Mapping[str, Any]  # a number, or one for each coordinate


class Rule(ABC):
    """An optimizer that treats every coordinate by itself."""

    @property
    @abstractmethod
    def slots(self) -> tuple[str, ...]:
        """Names of the optimizer's state in torch."""

    @property
    @abstractmethod
    def options(self) -> tuple[str, ...]:
        """Names of the options that a step reads."""

    @abstractmethod
    def step(
        self, theta: Tensor, slots: Slots, gradient: Tensor, options: Options, count: int
    ) -> tuple[Tensor, Slots]:
        """Take the step number ``count`` (from 1), as torch's optimizer does.

        All tensors may have leading axes, and derivatives may be taken through it.
        """

    def displacement(
        self, theta: Tensor, slots: Slots, gradient: Tensor, options: Options, count: int
    ) -> tuple[Tensor, Slots]:
        """Move of the parameters in a step except for decoupled decay, and the state after it.

        Without the parameters themselves, beside which small moves would lose digits.
        """
        if self.coupled:
            gradient = gradient + options["weight_decay"] * theta
        return self.step(torch.zeros_like(gradient), slots, gradient, options, count)

    @property
    @abstractmethod
    def coupled(self) -> bool:
        """Whether weight decay is part of the gradient."""

    @abstractmethod
    def pull(
        self,
        adjoint: Adjoint,
        theta: Tensor,
        before: Slots,
        after: Slots,
        gradient: Tensor,
        options: Options,
        count: int,
    ) -> tuple[Tensor, Adjoint]:
        """Adjoint of the gradient that the step consumed, and of the state before the step.

        The part that reaches theta through the gradient is left to the caller.

        Parameters
        ----------
        adjoint : dict of str to Tensor of shape (n_queries, p)
            Adjoint of the state after the step.  Its tensors are overwritten: there may be many
            queries, and going through memory is what costs.
        theta : Tensor of shape (p,)
            Before the step.
        before, after : dict of str to Tensor of shape (p,)
        gradient : Tensor of shape (p,)
            As the optimizer got it, after clipping.
        options : mapping
        count : int

        Returns
        -------
        u : Tensor of shape (n_queries, p)
        adjoint : dict
        """

    def steady(self, slots: Slots) -> Tensor | None:  # noqa: ARG002  other rules take it
        """Coordinates (p,) whose step has a derivative that a changed gradient follows.

        None is all.  Adam divides by √v: where no gradient has been, or hardly any, the derivative
        is that of steps far smaller than any change of the gradient.
        """
        return None

    def start(self, gradients: Tensor) -> Adjoint:
        """Adjoint of the last state, from gradients (n_queries, p) at the last parameters."""
        return {"theta": gradients} | {name: torch.zeros_like(gradients) for name in self.slots}


def is_set(value: Any) -> bool:
    """Whether a number of the optimizer changes its step."""
    return isinstance(value, Tensor) or value != 0


def root(values: Tensor) -> Tensor:
    """Square root whose derivative at 0 is 0, not infinite."""
    positive = values > 0
    return torch.where(positive, torch.where(positive, values, 1.0).sqrt(), 0.0)
