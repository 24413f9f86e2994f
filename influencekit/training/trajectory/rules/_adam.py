"""One step of Adam, forwards and backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from influencekit.training.trajectory.rules._rule import Adjoint, Options, Rule, Slots, is_set, root

__all__ = ["AdamRule"]


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
        length = root(second) / second_share**0.5 + options["eps"]
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
        size = root(second / second_share)
        length = size + options["eps"]
        moved, first, square = (adjoint[k] for k in ("theta", "exp_avg", "exp_avg_sq"))
        # ∂θ'/∂m' = -lr / ((1 - β₁ᵗ) (√v̂ + ε)), with v̂ = v' / (1 - β₂ᵗ)
        by_first = -lr / (first_share * length)
        # ∂θ'/∂v' = lr m' / (1 - β₁ᵗ) / (2 (1 - β₂ᵗ) √v̂ (√v̂ + ε)²)
        by_second = lr * after["exp_avg"] / first_share / (2 * second_share * length**2)
        by_second = torch.where(size > 0, by_second / torch.where(size > 0, size, 1.0), 0.0)
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
        if is_set(decay):
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
