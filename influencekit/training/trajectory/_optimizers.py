"""One step of an optimizer, forwards and backwards, coordinate by coordinate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["AdamRule", "Adjoint", "Options", "Rule", "SGDRule", "Slots"]

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


@dataclass(frozen=True)
class SGDRule(Rule):
    """``torch.optim.SGD``: momentum, dampening, Nesterov's form, coupled weight decay.

    Parameters
    ----------
    momentum, nesterov : bool
        Whether there is a buffer, and whether the step looks ahead.
    """

    momentum: bool = False
    nesterov: bool = False

    coupled = True

    @property
    def slots(self) -> tuple[str, ...]:
        return ("momentum_buffer",) if self.momentum else ()

    options = ("lr", "weight_decay", "momentum", "dampening")

    def step(
        self, theta: Tensor, slots: Slots, gradient: Tensor, options: Options, count: int
    ) -> tuple[Tensor, Slots]:
        # d = g + decay θ
        direction = gradient + options["weight_decay"] * theta
        if not self.momentum:
            return theta - options["lr"] * direction, {}
        buffer = direction
        if count > 1:
            kept = options["momentum"] * slots["momentum_buffer"]
            # m = momentum m + (1 - dampening) d
            buffer = kept + (1 - options["dampening"]) * direction
        # d + momentum m, or m; θ - lr of it
        direction = direction + options["momentum"] * buffer if self.nesterov else buffer
        return theta - options["lr"] * direction, {"momentum_buffer": buffer}

    def pull(
        self,
        adjoint: Adjoint,
        _theta: Tensor,
        _before: Slots,
        _after: Slots,
        _gradient: Tensor,
        options: Options,
        count: int,
    ) -> tuple[Tensor, Adjoint]:
        # ∂f/∂(direction) = -lr ∂f/∂θ'
        u = -options["lr"] * adjoint["theta"]
        if self.momentum:
            moved, buffer = u, adjoint["momentum_buffer"]
            # ∂f/∂m' gains what the direction takes of m'
            buffer += options["momentum"] * moved if self.nesterov else moved
            # ∂f/∂d through m' = momentum m + (1 - dampening) d, and directly with Nesterov
            u = buffer * (1.0 if count == 1 else 1 - options["dampening"])
            u = u + moved if self.nesterov else u
            # ∂f/∂m = momentum ∂f/∂m'
            buffer *= options["momentum"]
        if _is_set(options["weight_decay"]):
            # ∂f/∂θ through d = g + decay θ
            adjoint["theta"] += options["weight_decay"] * u
        return u, adjoint


@dataclass(frozen=True)
class AdamRule(Rule):
    """``torch.optim.Adam`` and ``AdamW``, with or without AMSGrad.

    Parameters
    ----------
    decoupled : bool
        AdamW's weight decay, which does not pass through the moments.
    amsgrad : bool
    """

    decoupled: bool = True
    amsgrad: bool = False

    @property
    def coupled(self) -> bool:
        return not self.decoupled

    @property
    def slots(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq") + (("max_exp_avg_sq",) if self.amsgrad else ())

    options = ("lr", "weight_decay", "beta1", "beta2", "eps")

    def step(
        self, theta: Tensor, slots: Slots, gradient: Tensor, options: Options, count: int
    ) -> tuple[Tensor, Slots]:
        decay = options["weight_decay"]
        if self.decoupled:
            theta = theta * (1 - options["lr"] * decay)
        else:
            gradient = gradient + decay * theta
        old = slots["exp_avg"]
        # m + (1 - β₁) (g - m), and β₂ v + (1 - β₂) g²
        new = {
            "exp_avg": old + (1 - options["beta1"]) * (gradient - old),
            "exp_avg_sq": options["beta2"] * slots["exp_avg_sq"]
            + (1 - options["beta2"]) * gradient * gradient,
        }
        second = new["exp_avg_sq"]
        if self.amsgrad:
            second = new["max_exp_avg_sq"] = torch.maximum(slots["max_exp_avg_sq"], second)
        first_share, second_share = self._shares(options, count)
        # √(v / (1 - β₂ᵗ)) + ε
        length = _root(second) / second_share**0.5 + options["eps"]
        # θ - lr m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε)
        return theta - (options["lr"] / first_share) * (new["exp_avg"] / length), new

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
        beta1, beta2, lr = options["beta1"], options["beta2"], options["lr"]
        decay = options["weight_decay"]
        first_share, second_share = self._shares(options, count)
        second = after["max_exp_avg_sq"] if self.amsgrad else after["exp_avg_sq"]
        root = _root(second / second_share)
        length = root + options["eps"]
        moved, first, square = (adjoint[k] for k in ("theta", "exp_avg", "exp_avg_sq"))
        # ∂θ'/∂m' = -lr / ((1 - β₁ᵗ) (√v̂ + ε)), with v̂ = v' / (1 - β₂ᵗ)
        by_first = -lr / (first_share * length)
        # ∂θ'/∂v' = lr m' / (1 - β₁ᵗ) / (2 (1 - β₂ᵗ) √v̂ (√v̂ + ε)²)
        by_second = lr * after["exp_avg"] / first_share / (2 * second_share * length**2)
        by_second = torch.where(root > 0, by_second / torch.where(root > 0, root, 1.0), 0.0)
        # ∂f/∂m' and ∂f/∂v' gain ∂f/∂θ' times these
        first.addcmul_(moved, by_first)
        if self.amsgrad:
            largest = adjoint["max_exp_avg_sq"].addcmul_(moved, by_second)
            risen = (after["exp_avg_sq"] > before["max_exp_avg_sq"]).to(largest)
            square.addcmul_(largest, risen)
            largest *= 1 - risen
        else:
            square.addcmul_(moved, by_second)
        if not self.decoupled:
            gradient = gradient + decay * theta
        # ∂f/∂g = (1 - β₁) ∂f/∂m' + 2 (1 - β₂) g ∂f/∂v'
        u = (first * (1 - beta1)).addcmul_(square, 2 * (1 - beta2) * gradient)
        # ∂f/∂m = β₁ ∂f/∂m', ∂f/∂v = β₂ ∂f/∂v'
        first *= beta1
        square *= beta2
        if _is_set(decay):
            # ∂f/∂θ through θ (1 - lr decay), or through g + decay θ
            moved += -lr * decay * moved if self.decoupled else decay * u
        return u, adjoint

    def steady(self, slots: Slots) -> Tensor | None:
        second = slots["max_exp_avg_sq" if self.amsgrad else "exp_avg_sq"]
        return second > 1e-4 * second.mean()

    @staticmethod
    def _shares(options: Options, count: int) -> tuple[Any, Any]:
        """What the moments have of their final size after ``count`` steps."""
        return 1 - options["beta1"] ** count, 1 - options["beta2"] ** count


def _is_set(value: Any) -> bool:
    return isinstance(value, Tensor) or value != 0


def _root(values: Tensor) -> Tensor:
    """Square root whose derivative at 0 is 0, not infinite."""
    positive = values > 0
    return torch.where(positive, torch.where(positive, values, 1.0).sqrt(), 0.0)
