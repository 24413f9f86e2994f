"""First and second derivative of a whole run by the weight of one example, forwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.func import grad, jvp, vmap

from influencekit.training.trajectory._replay import Replay, clip_factor, random_state
from influencekit.training.trajectory._step_batch import StepBatch, renormalized
from influencekit.training.trajectory.rules._rule import Slots
from influencekit.utils._torch import simple_kernels

__all__ = ["Jets"]

Motion = dict[str, tuple[Tensor, Tensor]]  # first and second derivative of theta and the slots


class Jets:
    """How a run moves with the weights of some examples, to second order.

    Parameters
    ----------
    replay : Replay
    removal : {"renormalize", "fixed"}
    """

    def __init__(self, replay: Replay, removal: str):
        self.replay = replay
        self.renormalize = removal == "renormalize" and replay.trajectory.reduction == "mean"

    def end(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Final parameters, and their derivatives by the weight of each row.

        Parameters
        ----------
        rows : Tensor of shape (n_rows,)
            Positions among the training examples.

        Returns
        -------
        theta : Tensor of shape (p,)
        first, second : Tensor of shape (n_rows, p)
        """
        replay = self.replay
        n, p = len(rows), replay.model.size
        state = replay.snapshot(0)
        still = state.theta.new_zeros(n, p)
        motion: Motion = dict.fromkeys(("theta", *replay.rule.slots), (still, still))
        for start, end in replay.trajectory.segments():
            for step, state in zip(range(start, end), replay.states(start, end), strict=True):
                batch = replay.batch(step)
                chosen = (batch.rows == rows[:, None]).to(state.theta.dtype)
                if step == 0 and not bool(chosen.any()):
                    continue
                motion = self._step(step, state, batch, chosen, motion)
        return replay.snapshot(replay.n_steps).theta, *motion["theta"]

    def _step(
        self, step: int, state: Any, batch: StepBatch, chosen: Tensor, motion: Motion
    ) -> Motion:
        """Take the motion of all examples through one step."""
        names = list(motion)
        base = {"theta": state.theta, **state.slots}

        def one(chosen: Tensor, *motions: Tensor) -> tuple[Tensor, ...]:
            pairs = dict(zip(names, zip(motions[::2], motions[1::2], strict=True), strict=True))

            def moved(at: Tensor) -> tuple[Tensor, ...]:
                here = {k: base[k] + at * a + 0.5 * at**2 * b for k, (a, b) in pairs.items()}
                theta, slots = self._advance(step, here, batch, 1 + at * chosen, state.n_steps)
                return tuple({"theta": theta, **slots}[name] for name in names)

            first, second = derivatives(moved, state.theta)
            return tuple(t for pair in zip(first, second, strict=True) for t in pair)

        flat = [t for pair in motion.values() for t in pair]
        # levels of forward-mode derivatives are the process's: threads take turns
        with random_state(batch.random_state), simple_kernels():
            found = vmap(one, randomness="same")(chosen, *flat)
        return {n: (found[2 * i].detach(), found[2 * i + 1].detach()) for i, n in enumerate(names)}

    def _advance(
        self, step: int, here: Slots, batch: StepBatch, weights: Tensor, taken: int
    ) -> tuple[Tensor, Slots]:
        replay = self.replay
        # c_j (1 + t) of the chosen rows
        shares = renormalized(batch, weights) if self.renormalize else batch.shares * weights

        def loss(theta: Tensor) -> Tensor:
            return (shares * replay.model.losses(theta, batch.inputs, batch.targets)).sum()

        gradient = grad(loss)(here["theta"])
        gradient = gradient * clip_factor(gradient, replay.max_norm(step))
        slots = {name: value for name, value in here.items() if name != "theta"}
        return replay.rule.step(here["theta"], slots, gradient, replay.options(step), taken + 1)

    def of_outputs(
        self, rows: Tensor, outputs: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Derivatives of numbers at the end by the weight of each row.

        Parameters
        ----------
        rows : Tensor of shape (n_rows,)
        outputs : callable
            ``outputs(theta) -> Tensor (n_outputs,)``.

        Returns
        -------
        first, second : Tensor of shape (n_rows, n_outputs)
        """
        theta, first, second = self.end(rows)

        def one(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
            def moved(at: Tensor) -> Tensor:
                return outputs(theta + at * first + 0.5 * at**2 * second)

            return derivatives(moved, theta)

        with simple_kernels():
            found = vmap(one)(first, second)
        return found[0].detach(), found[1].detach()


def derivatives(function: Callable[[Tensor], Any], like: Tensor) -> Any:
    """First and second derivative of a function of one number at 0."""
    zero, one = like.new_zeros(()), like.new_ones(())

    def slope(at: Tensor) -> Any:
        return jvp(function, (at,), (one,))[1]

    return jvp(slope, (zero,), (one,))
