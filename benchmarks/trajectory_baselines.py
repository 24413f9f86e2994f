"""What bench_trajectory.py compares: methods that look at a recorded run, right and wrong ones."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from influencekit import AdamWInfluence, SGDInfluence
from influencekit.attributors.along_the_run._fitted_trajectory import FittedTrajectory
from influencekit.exceptions import InfluenceKitWarning
from influencekit.training.trajectory._optimizers import AdamRule


@dataclass(frozen=True)
class MistakenRule(AdamRule):
    """AdamW's step as if its rate had been another, or its decay.

    Parameters
    ----------
    lr : float or None
    weight_decay : float or None
    """

    lr: float | None = None
    weight_decay: float | None = None

    def pull(self, adjoint, theta, before, after, gradient, options, count):
        """Adjoint of the mistaken step."""
        named = {"lr": self.lr, "weight_decay": self.weight_decay}
        options = {**options, **{name: v for name, v in named.items() if v is not None}}
        return super().pull(adjoint, theta, before, after, gradient, options, count)


class MistakenInfluence(AdamWInfluence):
    """AdamWInfluence that is wrong about the run: "schedule" or "weight_decay"."""

    mistake = "schedule"

    def _rule(self, trajectory):
        rule = super()._rule(trajectory)
        switches = {"decoupled": rule.decoupled, "amsgrad": rule.amsgrad}
        if self.mistake == "schedule":
            return MistakenRule(**switches, lr=float(trajectory.options["lr"].mean()))
        return MistakenRule(**switches, weight_decay=0.0)


class MistakenDecay(MistakenInfluence):
    """Takes the run for one without weight decay."""

    mistake = "weight_decay"


class LESSType(AdamWInfluence):
    """Cosine of the query's gradient with the Adam update that an example alone would make.

    ``sum_t eta_t cos(grad f(theta_t), Gamma_t(i))`` with ``Gamma = mhat / (sqrt(vhat) + eps)``
    after the moments before the step are fed the example's own gradient.
    """

    def _fit(self, task, train):
        run = super()._fit(task, train)
        return LESSScores(self, run.train, run.replay, run.sweep.rule)


class LESSScores(FittedTrajectory):
    def scores(self, queries):
        replay, rule = self.replay, self.replay.rule
        scores = torch.zeros(len(queries), replay.n_train, dtype=torch.float64)
        gradients = self._gradients(queries, self.output)
        for start, end in replay.trajectory.segments():
            states = replay.states(start, end)
            for step in range(start, end):
                state, batch = states[step - start], replay.batch(step)
                own = _row_gradients(replay, state.theta, batch)
                options = dict(replay.options(step))
                lr, options["weight_decay"] = options["lr"], 0.0
                slots = {k: v.expand_as(own) for k, v in state.slots.items()}
                moved, _ = rule.step(torch.zeros_like(own), slots, own, options, state.n_steps + 1)
                cosine = _unit(gradients(state.theta)) @ _unit(moved).T
                # f falls with the loss, and moved is against the gradient: the same sign
                scores.index_add_(1, batch.rows, (lr * cosine).double())
        return scores.numpy()


def _row_gradients(replay, theta: Tensor, batch) -> Tensor:
    """Gradients (batch, p) of each row's loss."""
    theta = theta.detach().requires_grad_(True)
    losses = replay.model.losses(theta, batch.inputs, batch.targets)
    each = torch.eye(len(losses), dtype=losses.dtype)
    return torch.autograd.grad(losses, theta, each, is_grads_batched=True)[0]


def _unit(rows: Tensor) -> Tensor:
    norms = rows.norm(dim=1, keepdim=True)
    return rows / torch.where(norms > 0, norms, torch.ones_like(norms))


def methods(trajectory, scheduled: bool) -> dict:
    """Attributors by name; those that are wrong about the run where it can be told."""
    own = {"trajectory": trajectory}
    in_run = {"horizon": 0, "curvature": "none", "removal": "fixed"}
    found = {
        "AdamW, hessian": AdamWInfluence(**own),
        "AdamW, hessian, fixed share": AdamWInfluence(**own, removal="fixed"),
        "AdamW, ggn": AdamWInfluence(**own, curvature="ggn"),
        "AdamW, fisher": AdamWInfluence(**own, curvature="fisher"),
        "AdamW, none": AdamWInfluence(**own, curvature="none"),
        "SGD-influence": SGDInfluence(**own),
        "DVEmb-type": SGDInfluence(**own, curvature="fisher", removal="fixed"),
        "TracIn": SGDInfluence(**own, **in_run),
        "LESS-type": LESSType(**own),
    }
    if scheduled:
        found["AdamW, constant rate assumed"] = MistakenInfluence(**own)
        found["AdamW, no decay assumed"] = MistakenDecay(**own)
    return found


def scores(run, scheduled: bool) -> dict[str, np.ndarray]:
    """Scores (n_test, n_left_out) of every method."""
    found = {}
    for name, attributor in methods(run.trajectory, scheduled).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InfluenceKitWarning)
            fitted = attributor.fit(run.task, run.X, run.y)
            found[name] = fitted.score(run.X_test, run.y_test)[:, run.left_out]
    found["AdamW, hessian, finite removal"] = finite_push(run)
    return found


def finite_push(run) -> np.ndarray:
    """Scores (n_test, n_left_out) of ``removal_order="finite"``, of the left-out examples alone."""
    influence = AdamWInfluence(run.trajectory).fit(run.task, run.X, run.y)
    proxy = influence.taylor_error_proxy(run.X_test, run.y_test, run.left_out, kind="finite")
    return proxy.scores + proxy.proxy
