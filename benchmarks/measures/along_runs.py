"""Methods that look at a recorded run, right and wrong ones, and how they are judged."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.measures.private import ConstantRateAssumed, NoDecayAssumed
from influencekit import AdamWInfluence, SGDInfluence
from influencekit.data import make_examples
from influencekit.training import trajectory_leave_one_out


def less_type(run) -> np.ndarray:
    """Cosine of the query's gradient with the Adam update that an example alone would make.

    ``sum_t eta_t cos(grad f(theta_t), Gamma_t(i))`` with ``Gamma = mhat / (sqrt(vhat) + eps)``
    after the moments before the step are fed the example's own gradient.
    """
    attributor = AdamWInfluence(run.trajectory).fit(run.task, run.X, run.y)
    (fitted,) = attributor.fitted_
    replay, queries = fitted.replay, make_examples(run.task, run.X_test, run.y_test)
    asked = next(queries.batches(len(queries)))
    scores = torch.zeros(len(queries), replay.n_train, dtype=torch.float64)
    for start, end in replay.trajectory.segments():
        states = replay.states(start, end)
        for step in range(start, end):
            state, batch = states[step - start], replay.batch(step)
            own = _row_gradients(replay, state.theta, batch)
            options = {**replay.options(step), "weight_decay": 0.0}
            slots = {k: v.expand_as(own) for k, v in state.slots.items()}
            zero, count = torch.zeros_like(own), state.n_steps + 1
            moved, _ = replay.rule.step(zero, slots, own, options, count)
            # f is minus the loss, and moved is against the gradient: the same sign
            cosine = _unit(-_row_gradients(replay, state.theta, asked)) @ _unit(moved).T
            scores.index_add_(1, batch.rows, (options["lr"] * cosine).double())
    return scores.numpy()


def _row_gradients(replay, theta, batch):
    """Gradients (batch, p) of each row's loss."""
    theta = theta.detach().requires_grad_(True)
    losses = replay.model.losses(theta, batch.inputs, batch.targets)
    each = torch.eye(len(losses), dtype=losses.dtype)
    return torch.autograd.grad(losses, theta, each, is_grads_batched=True)[0]


def _unit(rows):
    norms = rows.norm(dim=1, keepdim=True)
    return rows / torch.where(norms > 0, norms, torch.ones_like(norms))


def methods(trajectory, scheduled: bool) -> dict:
    """Attributors by name; those that are wrong about the run where it can be told."""
    own, in_run = {"trajectory": trajectory}, {"horizon": 0, "curvature": "none"}
    found = {
        "AdamW, hessian": AdamWInfluence(**own),
        "AdamW, hessian, fixed share": AdamWInfluence(**own, removal="fixed"),
        "AdamW, ggn": AdamWInfluence(**own, curvature="ggn"),
        "AdamW, fisher": AdamWInfluence(**own, curvature="fisher"),
        "AdamW, none": AdamWInfluence(**own, curvature="none"),
        "SGD-influence": SGDInfluence(**own),
        "DVEmb-type": SGDInfluence(**own, curvature="fisher", removal="fixed"),
        "TracIn": SGDInfluence(**own, **in_run, removal="fixed"),
    }
    if scheduled:
        found["AdamW, constant rate assumed"] = ConstantRateAssumed(**own)
        found["AdamW, no decay assumed"] = NoDecayAssumed(**own)
    return found


def scores(run, scheduled: bool, wanted: list[str] | None = None) -> dict[str, np.ndarray]:
    """Scores (n_test, n_left_out) of every method."""
    found = {}
    for name, attributor in methods(run.trajectory, scheduled).items():
        if wanted is None or name in wanted:
            fitted = attributor.fit(run.task, run.X, run.y)
            found[name] = fitted.score(run.X_test, run.y_test)[:, run.left_out]
    if wanted is None or "LESS-type" in wanted:
        found["LESS-type"] = less_type(run)[:, run.left_out]
    if wanted is None or "AdamW, hessian, finite" in wanted:
        found["AdamW, hessian, finite"] = finite(run)[0]
    return found


def finite(run) -> tuple[np.ndarray, object]:
    """Scores of the finite removal, of the left-out examples alone, and their proxy."""
    influence = AdamWInfluence(run.trajectory).fit(run.task, run.X, run.y)
    found = influence.taylor_error_proxy(run.X_test, run.y_test, run.left_out, estimate="finite")
    return found.scores + found.proxy, found


def kinks(run):
    """The error proxy of kinks."""
    influence = AdamWInfluence(run.trajectory).fit(run.task, run.X, run.y)
    return influence.taylor_error_proxy(run.X_test, run.y_test, run.left_out, estimate="kinks")


def reruns(run):
    """The same run without each of the left-out examples."""
    return trajectory_leave_one_out(
        run.task, *run.data, left_out=run.left_out, trajectory=run.trajectory
    )


def correlation(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean over test examples of Spearman's correlation over the left-out ones."""
    each = [spearmanr(a, b).statistic for a, b in zip(scores, truth, strict=True)]
    return float(np.nanmean(each))


def error(scores: np.ndarray, truth: np.ndarray) -> float:
    """Of the scores' size."""
    return float(np.linalg.norm(scores - truth) / np.linalg.norm(truth))


def median_error(scores: np.ndarray, truth: np.ndarray) -> float:
    """Median over examples of the relative error."""
    error, size = (np.linalg.norm(a, axis=0) for a in (scores - truth, truth))
    return float(np.median(error / size))


def by_kinks(ratio: np.ndarray, finite: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """What the kinks' ratio tells of the error, and both halves of the examples."""
    if not ratio.any():
        return {}
    wrong = np.linalg.norm(finite - truth, axis=0) / np.linalg.norm(truth, axis=0)
    half = ratio <= np.median(ratio)
    return {
        "kinks rank": float(spearmanr(ratio, wrong).statistic),
        "lower half spearman": correlation(finite[:, half], truth[:, half]),
        "lower half error": float(np.median(wrong[half])),
        "upper half error": float(np.median(wrong[~half])),
    }
