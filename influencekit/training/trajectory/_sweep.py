"""From the outputs of a trained model back through its training: one sweep for all examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from influencekit.training.trajectory._kinks import SMOOTHING
from influencekit.training.trajectory._replay import Replay, State
from influencekit.training.trajectory._step_batch import StepBatch
from influencekit.training.trajectory._step_loss import StepLoss, factor_of, through_clipping
from influencekit.training.trajectory.rules._rule import Adjoint, Rule

__all__ = ["Fronts", "StepInfluence", "StepScores", "Sweep"]


class StepInfluence(NamedTuple):
    """Influence of one step's rows: ``rows`` (batch,) and ``values`` (n_queries, batch)."""

    step: int
    rows: Tensor
    values: Tensor


class StepScores(NamedTuple):
    """Scores of every occurrence of a training example.

    Parameters
    ----------
    steps : ndarray of shape (n_occurrences,)
    rows : ndarray of shape (n_occurrences,)
        Rows of X_train.
    scores : ndarray of shape (n_test, n_occurrences)
    """

    steps: np.ndarray
    rows: np.ndarray
    scores: np.ndarray


class Sweep:
    """Backward sweeps through a replayed run.

    For an output f of the parameters that a run ends with, and the weights w of its examples in
    the losses of their batches, a sweep gives ``df / dw_j`` for every example j of every step.

    Parameters
    ----------
    replay : Replay
    rule : Rule, default=None
        The optimizer's step that is differentiated; None is the run's own.
    curvature : {"hessian", "smoothed_hessian", "ggn", "fisher", "none"}, default="hessian"
        How the gradient of a step changes with the parameters.
    removal : {"renormalize", "fixed"}, default="renormalize"
        Whether a batch's mean is over what remains, or keeps its denominator.
    horizon : int or None, default=None
        Steps that an example's effect is followed for, counted from its own; None is to the
        end.  0 reads the output at the parameters before the step.
    smoothing : float
        Width of "smoothed_hessian", in standard deviations of a unit over the batch.

    Notes
    -----
    One replay of the run, and one double backward of each step for each query.  A horizon of
    K > 1 carries K outputs at a time, those of the K next steps.
    Memory: a segment of the run, ``(1 + slots) p`` numbers a step, and as much for each query.
    """

    def __init__(
        self,
        replay: Replay,
        rule: Rule | None = None,
        curvature: str = "hessian",
        removal: str = "renormalize",
        horizon: int | None = None,
        smoothing: float = SMOOTHING,
    ):
        self.replay = replay
        self.rule = replay.rule if rule is None else rule
        self.curvature, self.horizon, self.smoothing = curvature, horizon, smoothing
        self.renormalize = removal == "renormalize" and replay.trajectory.reduction == "mean"

    def __call__(
        self, gradients: Callable[[Tensor], Tensor], adjoints: list[Tensor] | None = None
    ) -> Iterator[StepInfluence]:
        """Sweep once.

        Parameters
        ----------
        gradients : callable
            ``gradients(theta) -> Tensor (n_queries, p)`` of the outputs at parameters (p,).
        adjoints : list, default=None
            Gets the adjoint (n_queries, p) of the parameters after each step, the last one first.

        Yields
        ------
        StepInfluence
            Influence of each step, the last one first.
        """
        fronts = Fronts(self.rule, self.horizon, self.replay.n_steps)
        for step, loss, before, after in self.steps():
            fronts.open(step, before.theta, after.theta, gradients)
            if adjoints is not None:
                adjoints.append(fronts.adjoint()["theta"].clone())
            adjoint, influence = self.back(step, loss, before, after, fronts.adjoint())
            yield influence._replace(values=fronts.own(influence.values))
            fronts.move(adjoint)

    def steps(self) -> Iterator[tuple[int, Any, State, State]]:
        """Each step, its loss, and the states before and after it, the last step first."""
        replay = self.replay
        for start, end in reversed(replay.trajectory.segments()):
            states, after = replay.states(start, end), None
            for step in range(end - 1, start - 1, -1):
                before = states.pop()
                loss = self.loss(before.theta, replay.batch(step))
                if after is None:
                    own = replay.own_loss  # the gradient of a loss that rounds
                    taken = replay.gradient(before.theta, step) if own else loss.gradient
                    after = replay.advance(before, step, taken)
                    replay.check_arrival(after, start, end)
                yield step, loss, before, after
                after = before

    def loss(self, theta: Tensor, batch: StepBatch) -> Any:
        """Loss of a step around its parameters (p,)."""
        return StepLoss(self.replay, theta, batch, self.curvature, smoothing=self.smoothing)

    def back(
        self, step: int, loss: StepLoss, before: State, after: State, adjoint: Adjoint
    ) -> tuple[Adjoint, StepInfluence]:
        """Take an adjoint, which is overwritten, back through one step.

        Parameters
        ----------
        step : int
        loss : StepLoss
            Loss of the step, at the parameters before it.
        before, after : State
        adjoint : dict of str to Tensor of shape (n_queries, p)

        Returns
        -------
        adjoint : dict
        influence : StepInfluence
        """
        replay, batch = self.replay, loss.batch
        max_norm = replay.max_norm(step)
        gradient = loss.gradient * factor_of(loss.norm, max_norm)
        u, adjoint = self.rule.pull(
            adjoint,
            before.theta,
            before.slots,
            after.slots,
            gradient,
            self.options_at(step, loss),
            after.n_steps,
        )
        u = through_clipping(u, loss.gradient, max_norm, loss.norm)
        smoothed = self.curvature == "smoothed_hessian"
        # <∇loss_j, u> with the share c_j, and the curvature times u
        inner, curved = loss.products(u, self.rule.steady(after.slots) if smoothed else None)
        if self.renormalize:
            inner = inner - self.of_means(loss, u, inner) * batch.denominators
        # ∂f/∂θ gains H u, from the gradient that the step took at θ
        adjoint["theta"] += curved
        return adjoint, self.influence(step, loss, before, u, inner)

    def of_means(self, loss: Any, u: Tensor, inner: Tensor) -> Tensor:
        """Inner products (n_queries, batch or 1) of u with the gradient of each row's mean."""
        # c_j <∇loss_j, u> - p_j <∇L, u>: the other rows of the mean L take over the share
        if loss.batch.means is None:
            return loss.along(u)[:, None]
        return loss.batch.over_means(inner)

    def influence(
        self,
        step: int,
        loss: StepLoss,
        before: State,  # noqa: ARG002  who scores other rows takes them
        u: Tensor,  # noqa: ARG002
        inner: Tensor,
    ) -> StepInfluence:
        """Influence of a step's rows, from the adjoint u of its gradient."""
        return StepInfluence(step, loss.batch.rows, inner)

    def options_at(self, step: int, loss: Any) -> Any:  # noqa: ARG002  masked sweeps take it
        """Numbers of the optimizer at the coordinates of a step's loss."""
        return self.options(step)

    def options(self, step: int) -> Any:
        """Numbers of the optimizer at a step, those that the run does not know being 0."""
        known = dict(self.replay.options(step))
        return {name: known.get(name, 0.0) for name in self.rule.options}


class Fronts:
    """Adjoints on their way back, each started at the parameters of another step.

    Parameters
    ----------
    rule : Rule
    horizon : int or None
    n_steps : int
    """

    def __init__(self, rule: Rule, horizon: int | None, n_steps: int):
        self.rule, self.n_steps = rule, n_steps
        self.horizon = n_steps if horizon is None else horizon
        self._fronts: list[tuple[int, Adjoint]] = []  # (where it started, adjoint), oldest first

    def open(self, step: int, theta: Tensor, after: Tensor, gradients: Callable) -> None:
        """Start the front that this step needs, and drop those that no step needs any more."""
        if self.horizon == 0:
            self._fronts = [(step, self.rule.start(gradients(theta)))]
            return
        last = min(step + self.horizon, self.n_steps)
        self._fronts = [front for front in self._fronts if front[0] <= last]
        if step + 1 == self.n_steps or step + 1 >= self.horizon:
            self._fronts.append((step + 1, self.rule.start(gradients(after))))

    def adjoint(self) -> Adjoint:
        """All fronts, one below the other."""
        if len(self._fronts) == 1:
            return self._fronts[0][1]
        names = self._fronts[0][1].keys()
        return {name: torch.cat([front[name] for _, front in self._fronts]) for name in names}

    def own(self, values: Tensor) -> Tensor:
        """Of values of all fronts those of the oldest, which is the present step's."""
        return values[: len(values) // len(self._fronts)]

    def move(self, adjoint: Adjoint) -> None:
        """Take the fronts' adjoints before the step."""
        n = len(self._fronts)
        parts = {name: values.chunk(n) for name, values in adjoint.items()}
        self._fronts = [
            (start, {name: parts[name][i] for name in parts})
            for i, (start, _) in enumerate(self._fronts)
        ]
