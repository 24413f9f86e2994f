"""All that benchmarks/ uses of the package beyond its public names, in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from influencekit import AdamWInfluence, TreeInfluence
from influencekit.applications import LookAheadSelector
from influencekit.applications._fitting import fit_on, fold_list
from influencekit.applications._label_probabilities import (
    confidently_contradicted,
    count_of_wrong,
    cross_entropy,
    kept_rows,
    normalized_margin,
)
from influencekit.applications._values import group_means
from influencekit.attributors.trees._objectives import base_score
from influencekit.attributors.trees._replay import Replay
from influencekit.attributors.trees._rows import leaves_of
from influencekit.curvature._operators import CurvatureOperator
from influencekit.damping._indicators import grad_dot_cosine
from influencekit.data._examples import make_examples
from influencekit.training.trajectory._sweep import Sweep
from influencekit.training.trajectory.rules._adam import AdamRule

__all__ = [
    "ConstantRateAssumed",
    "CurvatureOperator",
    "NoDecayAssumed",
    "RandomSelector",
    "adjoint_growth",
    "confidently_contradicted",
    "count_of_wrong",
    "cross_entropy",
    "fit_on",
    "fold_list",
    "grad_dot_cosine",
    "group_means",
    "kept_rows",
    "normalized_margin",
    "refitted_leaves",
]


@dataclass(frozen=True)
class MistakenRule(AdamRule):
    """AdamW's step as if its rate had been another, or its decay."""

    lr: float | None = None
    weight_decay: float | None = None

    def pull(self, adjoint, theta, before, after, gradient, options, count):
        """Adjoint of the mistaken step."""
        named = {"lr": self.lr, "weight_decay": self.weight_decay}
        options = {**options, **{name: v for name, v in named.items() if v is not None}}
        return super().pull(adjoint, theta, before, after, gradient, options, count)


class ConstantRateAssumed(AdamWInfluence):
    """Takes the run for one at a constant rate."""

    def _rule(self, trajectory):
        rule = super()._rule(trajectory)
        switches = {"decoupled": rule.decoupled, "amsgrad": rule.amsgrad}
        return MistakenRule(**switches, **self._mistake(trajectory))

    def _mistake(self, trajectory):
        return {"lr": float(trajectory.options["lr"].mean())}


class NoDecayAssumed(ConstantRateAssumed):
    """Takes the run for one without weight decay."""

    def _mistake(self, trajectory):
        return {"weight_decay": 0.0}


class RandomSelector(LookAheadSelector):
    """Keeps rows at random."""

    def _look(self, window, step, n_scored, horizon):
        batches = window.replay.trajectory.batches[step : step + n_scored]
        return [np.random.rand(len(rows)) for rows in batches]  # noqa: NPY002


def refitted_leaves(model, X, y, Q, u, masks) -> np.ndarray:
    """Negative losses (n_masks, n_query) of the fitted trees, leaf values refitted on subsets."""
    influence = TreeInfluence("leaf").fit(model, X, y)
    whole, task = influence.fitted_[0].replay, influence.task_
    queries = influence._queries(Q, u)
    found, leaves = [], leaves_of(queries)
    for mask in masks * 1.0:
        start = base_score(whole.base_rule, mask, whole.targets)
        trees = replace(whole.trees, base=start)
        done = Replay(trees, whole.leaves, whole.targets, mask, mask)
        scores = np.tile(start, (len(u), 1))
        for tree, step in enumerate(done.steps):
            scores[:, done.trees.outputs[tree]] += done.trees.rate * step[leaves[tree]]
        found.append(-task.loss(torch.as_tensor(scores), queries.targets).numpy())
    return np.stack(found)


def adjoint_growth(influence, run) -> float:
    """Norm of the exact adjoint before the first step over that at the end, median over queries."""
    fitted = influence.fitted_[0]
    queries = run.task, run.X_test, run.y_test
    adjoints: list[torch.Tensor] = []
    gradients = fitted._gradients(make_examples(*queries), fitted.output)  # noqa: SLF001  the sweep's own
    for _ in Sweep(fitted.replay)(gradients, adjoints):
        pass
    norms = [adjoints[i].norm(dim=1) for i in (-1, 0)]
    return float((norms[0] / norms[1]).median())
