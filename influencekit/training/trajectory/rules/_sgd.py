"""One step of SGD, forwards and backwards."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from influencekit.training.trajectory.rules._rule import Adjoint, Options, Rule, Slots, is_set

__all__ = ["SGDRule"]


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
        if is_set(options["weight_decay"]):
            # ∂f/∂θ through d = g + decay θ
            adjoint["theta"] += options["weight_decay"] * u
        return u, adjoint
