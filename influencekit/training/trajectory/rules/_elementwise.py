"""Steps of torch's other elementwise optimizers: written forwards, taken back by autograd."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from influencekit.training.trajectory.rules._rule import (
    Adjoint,
    Options,
    Rule,
    Slots,
    is_set,
    root,
)

__all__ = ["ELEMENTWISE", "ElementwiseRule"]


@dataclass(frozen=True)
class ElementwiseRule(Rule):
    """An optimizer whose step is a formula of each coordinate.

    Children write the step alone.  Taken back it is multiplied by its own derivative: of every
    coordinate by itself, so that one backward pass a tensor of the new state is enough.

    Parameters
    ----------
    switches : frozenset of str
        What the optimizer does, where it is not a number.
    """

    switches: frozenset[str] = frozenset()

    #: Switches that torch's parameter groups have.
    switch_names: ClassVar[tuple[str, ...]] = ()
    #: Options other than the rate and the decay; the same in all groups.
    numbers: ClassVar[tuple[str, ...]] = ()

    @property
    def options(self) -> tuple[str, ...]:
        return ("lr", "weight_decay", *self.numbers)

    @property
    def coupled(self) -> bool:
        return "decoupled_weight_decay" not in self.switches

    def step(
        self, theta: Tensor, slots: Slots, gradient: Tensor, options: Options, count: int
    ) -> tuple[Tensor, Slots]:
        decay = options["weight_decay"]
        if is_set(decay) and self.coupled:
            gradient = gradient + decay * theta
        elif is_set(decay):
            theta = theta * (1 - options["lr"] * decay)
        move, after = self.move(slots, gradient, options, count)
        return theta - options["lr"] * move, after

    @abstractmethod
    def move(
        self, slots: Slots, gradient: Tensor, options: Options, count: int
    ) -> tuple[Tensor, Slots]:
        """Move of the parameters for a rate of 1, and the state after it."""

    def pull(
        self,
        adjoint: Adjoint,
        theta: Tensor,
        before: Slots,
        _after: Slots,
        gradient: Tensor,
        options: Options,
        count: int,
    ) -> tuple[Tensor, Adjoint]:
        names = ("theta", *self.slots)
        given = {"theta": theta} | {name: before[name] for name in self.slots}
        leaves = [given[name].detach().clone().requires_grad_() for name in names]
        drawn = gradient.detach().clone().requires_grad_()
        with torch.enable_grad():
            slots = dict(zip(self.slots, leaves[1:], strict=True))
            moved, slots = self.step(leaves[0], slots, drawn, options, count)
        found = [torch.zeros_like(adjoint["theta"]) for _ in (*names, "gradient")]
        for name, value in {"theta": moved, **slots}.items():
            if not value.requires_grad:
                continue
            # ∂f/∂x gains ∂f/∂x' times ∂x'/∂x, coordinate by coordinate
            slopes = torch.autograd.grad(
                value.sum(), [*leaves, drawn], retain_graph=True, allow_unused=True
            )
            for total, slope in zip(found, slopes, strict=True):
                if slope is not None:
                    total.addcmul_(adjoint[name], slope)
        *state, u = found
        return u, dict(zip(names, state, strict=True))


class RMSpropRule(ElementwiseRule):
    """``torch.optim.RMSprop``, centered or not, with or without momentum."""

    switch_names = ("centered", "momentum")
    numbers = ("alpha", "eps", "momentum")

    @property
    def slots(self) -> tuple[str, ...]:
        more = {"centered": "grad_avg", "momentum": "momentum_buffer"}
        return ("square_avg", *(slot for name, slot in more.items() if name in self.switches))

    def move(
        self, slots: Slots, gradient: Tensor, options: Options, _count: int
    ) -> tuple[Tensor, Slots]:
        alpha = options["alpha"]
        # α v + (1 - α) g²
        new = {"square_avg": alpha * slots["square_avg"] + (1 - alpha) * gradient * gradient}
        spread = new["square_avg"]
        if "centered" in self.switches:
            old = slots["grad_avg"]
            mean = new["grad_avg"] = old + (1 - alpha) * (gradient - old)
            spread = spread - mean * mean
        move = gradient / (root(spread) + options["eps"])
        if "momentum" in self.switches:
            move = options["momentum"] * slots["momentum_buffer"] + move
            new["momentum_buffer"] = move
        return move, new


class AdagradRule(ElementwiseRule):
    """``torch.optim.Adagrad``."""

    numbers = ("lr_decay", "eps")
    slots = ("sum",)

    def move(
        self, slots: Slots, gradient: Tensor, options: Options, count: int
    ) -> tuple[Tensor, Slots]:
        total = slots["sum"] + gradient * gradient
        slower = 1 + (count - 1) * options["lr_decay"]
        return gradient / (root(total) + options["eps"]) / slower, {"sum": total}


class AdadeltaRule(ElementwiseRule):
    """``torch.optim.Adadelta``."""

    numbers = ("rho", "eps")
    slots = ("square_avg", "acc_delta")

    def move(
        self, slots: Slots, gradient: Tensor, options: Options, _count: int
    ) -> tuple[Tensor, Slots]:
        rho, eps = options["rho"], options["eps"]
        square = rho * slots["square_avg"] + (1 - rho) * gradient * gradient
        # √(d + ε) / √(v + ε) g, with the mean square d of moves
        move = ((slots["acc_delta"] + eps) / (square + eps)).sqrt() * gradient
        return move, {
            "square_avg": square,
            "acc_delta": rho * slots["acc_delta"] + (1 - rho) * move * move,
        }


class AdamaxRule(ElementwiseRule):
    """``torch.optim.Adamax``."""

    numbers = ("beta1", "beta2", "eps")
    slots = ("exp_avg", "exp_inf")

    def move(
        self, slots: Slots, gradient: Tensor, options: Options, count: int
    ) -> tuple[Tensor, Slots]:
        first = _mean(slots["exp_avg"], gradient, options["beta1"])
        largest = torch.maximum(
            options["beta2"] * slots["exp_inf"], gradient.abs() + options["eps"]
        )
        share = 1 - options["beta1"] ** count
        return first / largest / share, {"exp_avg": first, "exp_inf": largest}


class NAdamRule(ElementwiseRule):
    """``torch.optim.NAdam``."""

    switch_names = ("decoupled_weight_decay",)
    numbers = ("beta1", "beta2", "eps", "momentum_decay")
    slots = ("exp_avg", "exp_avg_sq")

    def move(
        self, slots: Slots, gradient: Tensor, options: Options, count: int
    ) -> tuple[Tensor, Slots]:
        beta1, beta2 = options["beta1"], options["beta2"]
        new = _moments(slots, gradient, beta1, beta2)
        length = root(new["exp_avg_sq"]) / (1 - beta2**count) ** 0.5 + options["eps"]
        # μ_t = β₁ (1 - ½ 0.96^(t ψ)), and the product of all so far
        rates = [
            beta1 * (1 - 0.5 * 0.96 ** (t * options["momentum_decay"])) for t in range(1, count + 2)
        ]
        product = torch.tensor(rates[:-1], dtype=torch.float64).prod().item()
        now, then = rates[-2:]
        of_gradient = (1 - now) / (1 - product) * gradient
        return (of_gradient + then / (1 - product * then) * new["exp_avg"]) / length, new


class RAdamRule(ElementwiseRule):
    """``torch.optim.RAdam``."""

    switch_names = ("decoupled_weight_decay",)
    numbers = ("beta1", "beta2", "eps")
    slots = ("exp_avg", "exp_avg_sq")

    def move(
        self, slots: Slots, gradient: Tensor, options: Options, count: int
    ) -> tuple[Tensor, Slots]:
        beta1, beta2 = options["beta1"], options["beta2"]
        new = _moments(slots, gradient, beta1, beta2)
        move, share = new["exp_avg"] / (1 - beta1**count), 1 - beta2**count
        # ρ_∞ = 2 / (1 - β₂) - 1, ρ_t = ρ_∞ - 2 t β₂ᵗ / (1 - β₂ᵗ)
        limit = 2 / (1 - beta2) - 1
        length = limit - 2 * count * beta2**count / share
        if length > 5:
            short = (length - 4) * (length - 2) * limit
            rectified = (short / ((limit - 4) * (limit - 2) * length)) ** 0.5
            move = move * (rectified * share**0.5) / (root(new["exp_avg_sq"]) + options["eps"])
        return move, new


def _moments(slots: Slots, gradient: Tensor, beta1: float, beta2: float) -> Slots:
    """Running means of the gradient and of its square."""
    return {
        "exp_avg": _mean(slots["exp_avg"], gradient, beta1),
        "exp_avg_sq": beta2 * slots["exp_avg_sq"] + (1 - beta2) * gradient * gradient,
    }


def _mean(old: Tensor, gradient: Tensor, beta: Any) -> Tensor:
    """Running mean, ``β m + (1 - β) g``."""
    return old + (1 - beta) * (gradient - old)


#: Rules by the name of torch's optimizer.
ELEMENTWISE: dict[str, type[ElementwiseRule]] = {
    "Adadelta": AdadeltaRule,
    "Adagrad": AdagradRule,
    "Adamax": AdamaxRule,
    "NAdam": NAdamRule,
    "RAdam": RAdamRule,
    "RMSprop": RMSpropRule,
}
