"""Removing examples from a recorded run with the optimizer's own response exact."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from influencekit.training.trajectory._replay import State, clip_factor
from influencekit.training.trajectory._step_batch import renormalized
from influencekit.training.trajectory._step_loss import StepLoss
from influencekit.training.trajectory._sweep import Sweep
from influencekit.training.trajectory.rules._rule import Slots

__all__ = ["FiniteRemoval"]


class FiniteRemoval:
    """What outputs at the end of a run lose without each of some examples.

    The optimizer runs a second time over the recorded gradients, without the example's part in
    them: its moments m' and v' differ from the recorded ones, and so does each later step, by a
    known displacement δ_k.  Each is carried to the end by the adjoint a of a backward sweep::

        score = -Σ_k <a_{k+1}, δ_k>

    The finite change of gradient, clipping and moments is exact; how later gradients answer to
    the moved parameters is first order, as in the sweep.

    Parameters
    ----------
    sweep : Sweep
        With no horizon.
    removed : float, default=1.0
        Share of the examples' weight that is taken away, in (0, 1].  Scores are divided by it:
        toward 0 they are the derivative.

    Notes
    -----
    Memory: ``n_steps p`` numbers a query, and some ``(4 + 2 slots) p`` an example.
    """

    def __init__(self, sweep: Sweep, removed: float = 1.0):
        self.sweep, self.removed = sweep, removed

    def __call__(
        self, gradients: Callable[[Tensor], Tensor], rows: Tensor, at_once: int
    ) -> tuple[Tensor, Tensor]:
        """Scores of examples.

        Parameters
        ----------
        gradients : callable
            ``gradients(theta) -> Tensor (n_queries, p)`` of the outputs.
        rows : Tensor of shape (n_rows,)
            Positions among the training examples.
        at_once : int
            Examples at a time.

        Returns
        -------
        derivative, finite : Tensor of shape (n_queries, n_rows)
        """
        adjoints: list[Tensor] = []  # of the parameters after each step, the last step first
        derivative = torch.zeros(0)
        for step in self.sweep(gradients, adjoints):
            if not len(derivative):
                derivative = step.values.new_zeros(len(step.values), self.sweep.replay.n_train)
            derivative.index_add_(1, step.rows, step.values)
        adjoints.reverse()
        first = self._first_uses(rows)
        order = torch.argsort(first, stable=True)
        finite = torch.zeros_like(derivative[:, : len(rows)])
        for chunk in order.split(at_once):
            finite[:, chunk] = self._chunk(rows[chunk], first[chunk], adjoints)
        return derivative[:, rows], finite / self.removed

    def _first_uses(self, rows: Tensor) -> Tensor:
        """Step that first learned from each row; n_steps if none did."""
        replay = self.sweep.replay
        first = torch.full((replay.n_train,), replay.n_steps, device=rows.device)
        for step in reversed(range(replay.n_steps)):
            first[replay.batch_rows(step).to(rows.device)] = step
        return first[rows]

    def _chunk(self, rows: Tensor, first: Tensor, adjoints: list[Tensor]) -> Tensor:
        """Scores (n_queries, n_rows) of rows in the order of their first use."""
        replay = self.sweep.replay
        scores = adjoints[0].new_zeros(len(adjoints[0]), len(rows))
        slots: Slots = {}
        for start, end in replay.trajectory.segments():
            if not bool((first < end).any()):
                continue
            for step, state in zip(range(start, end), replay.states(start, end), strict=True):
                n = int((first <= step).sum())  # a row that was not used yet has moved nothing
                if not n:
                    continue
                recorded = {name: state.slots[name] for name in self.sweep.rule.slots}
                slots = _joined(slots, recorded, n)
                moved, slots = self._moved(step, state, slots, rows[:n])
                # -<∂f/∂θ after the step, displacement by the missing row>
                scores[:, :n] -= adjoints[step] @ moved.T
        return scores

    def _moved(self, step: int, state: State, slots: Slots, rows: Tensor) -> tuple[Tensor, Slots]:
        """Displacements (n_rows, p) of a step without each row, and the optimizer's new state."""
        replay, rule = self.sweep.replay, self.sweep.rule
        options, count = self.sweep.options(step), state.n_steps + 1
        own, without = self._gradients(step, state.theta, rows)
        own, without = (g * clip_factor(g, replay.max_norm(step)) for g in (own, without))
        with torch.no_grad():
            base, _ = rule.displacement(state.theta, state.slots, own, options, count)
            moved, slots = rule.displacement(state.theta, slots, without, options, count)
        return moved - base, slots

    def _gradients(self, step: int, theta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient (p,) of a step, and (n_rows, p) without each row."""
        batch = self.sweep.replay.batch(step)
        loss = StepLoss(self.sweep.replay, theta, batch, "none")
        without = loss.gradient.repeat(len(rows), 1)
        shares = batch.shares * (batch.rows.to(rows.device) == rows[:, None])
        used = shares.sum(1) > 0
        if bool(used.any()):
            gone = self.removed * shares[used]
            if self.sweep.renormalize and batch.means is not None:
                kept = 1 - self.removed * (shares[used] > 0).to(shares.dtype)
                without[used] = loss.of_rows(renormalized(batch, kept))
                return loss.gradient, without
            # ∇L - removed c_j ∇loss_j, over 1 - removed p_j if the shares are renormalized
            without[used] -= loss.of_rows(gone)
            if self.sweep.renormalize:
                held = batch.denominators * (shares[used] > 0)
                kept = 1 - self.removed * held.sum(1, keepdim=True)
                alone = kept < 1e-12  # nothing remains of the batch: gradient 0
                kept = torch.where(alone, torch.ones_like(kept), kept)
                without[used] = torch.where(alone, 0.0, without[used] / kept)
        return loss.gradient, without


def _joined(slots: Slots, recorded: Slots, n: int) -> Slots:
    """The state for n rows: new rows start from the recorded one."""
    found = {}
    for name, values in recorded.items():
        known = slots.get(name, values.new_zeros(0, len(values)))
        found[name] = torch.cat([known, values.expand(n - len(known), -1)])
    return found
