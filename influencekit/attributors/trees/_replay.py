"""Boosting replayed on its training rows, tree by tree, with the structure held fixed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from influencekit.attributors.trees._objectives import (
    Derivatives,
    base_score,
    base_slopes,
    derivatives,
)
from influencekit.exceptions import SampledRowsWarning, UnsupportedModelError, warn_user
from influencekit.models.trees._ensemble import BoostedTrees, offsets

__all__ = ["Replay", "Stage", "replay"]


@dataclass
class Stage:
    """What the trees of one stage were fitted to.

    Attributes
    ----------
    trees : ndarray of int of shape (k,)
        Numbers of the trees; tree i adds to output i.
    weights : ndarray of shape (n,)
        Weight of each row, 0 if the stage did not see it.
    at : Derivatives
        Derivatives at the scores before the stage.
    """

    trees: np.ndarray
    weights: np.ndarray
    at: Derivatives


class Replay:
    """Leaf values of boosted trees, computed again in float64 from rows and weights.

    Parameters
    ----------
    trees : BoostedTrees
    leaves : ndarray of int of shape (n_trees, n)
        Leaf of each training row.
    targets : ndarray of shape (n, k)
    weights, start_weights : ndarray of shape (n,)
        Weights in the trees and in the base score; ``scale_pos_weight`` does not affect the base
        score.
    trusting : bool, default=False
        Use the model's own leaf values, because its rows or their order are not known.

    Attributes
    ----------
    steps : list of ndarray
        Leaf values without the learning rate, for each tree.
    shares : list of ndarray
        ``rate / (H + l2)`` of each leaf; 0 if the leaf value is constant.
    scores : ndarray of shape (n, k)
        Scores after the last tree.
    """

    def __init__(
        self,
        trees: BoostedTrees,
        leaves: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        start_weights: np.ndarray,
        trusting: bool = False,
    ):
        self.trees, self.leaves, self.targets, self.weights = trees, leaves, targets, weights
        self.trusting, n = trusting, len(targets)
        drawn = None if trusting else trees.stage_rows
        self.seen = None if drawn is None else drawn(n)
        found = _base(trees, weights, start_weights, targets)
        self.base, self.base_rule, self.start_weights = found
        self.base_slopes = base_slopes(self.base_rule, self.start_weights, targets)
        self.own = _own_values(trees, self.base)
        self.steps: list[np.ndarray] = []
        self.derived: list[np.ndarray] = []
        self.shares: list[np.ndarray] = []
        self.scores = np.tile(self.base, (n, 1))
        self._run()

    def _run(self) -> None:
        for number in range(int(self.trees.stages[-1]) + 1):
            stage = self._stage(number, self.scores)
            for tree in stage.trees:
                self._fit_leaves(tree, stage)
            self.scores = self.scores + self._added(stage.trees)

    def _stage(self, number: int, before: np.ndarray) -> Stage:
        weights = self.weights if self.seen is None else self.weights * self.seen[number]
        trees = np.flatnonzero(self.trees.stages == number)
        at = derivatives(self.trees.loss, before, self.targets, self.trees.curvature)
        return Stage(trees, weights, at)

    def _fit_leaves(self, tree: int, stage: Stage) -> None:
        """Newton's step of every leaf of a tree."""
        output, size = self.trees.outputs[tree], self.trees.sizes[tree]
        leaf = self.leaves[tree]
        # G = Σ w g and H = Σ w h over the rows of each leaf
        first = np.bincount(leaf, stage.weights * stage.at.first[:, output], size)
        second = np.bincount(leaf, stage.weights * stage.at.second[:, output], size)
        curved = second + self.trees.l2 / (self.trees.sampled if self.trusting else 1.0)
        moves = (curved > 1e-150) & (np.abs(first) > self.trees.l1)
        if size == 1 and not self.trees.stumps_move:
            moves[:] = False
        # -sign(G) max(|G| - l1, 0) / (H + l2)
        shortened = first - np.clip(first, -self.trees.l1, self.trees.l1)
        safe = np.where(moves, curved, 1.0)
        step = np.where(moves, -shortened / safe, 0.0)
        self.derived.append(step)
        self.steps.append(self.own[tree] / self.trees.rate if self.trusting else step)
        self.shares.append(np.where(moves, self.trees.rate / safe, 0.0))

    def _added(self, trees: np.ndarray) -> np.ndarray:
        """What the trees of a stage add to the scores of the training rows, (n, k)."""
        steps = [self.steps[tree][self.leaves[tree]] for tree in trees]
        return self.trees.rate * np.stack(steps, axis=1)

    def backwards(self) -> Iterator[Stage]:
        """Stages from the last to the first.

        Yields
        ------
        Stage
        """
        scores = self.scores
        for number in range(int(self.trees.stages[-1]), -1, -1):
            trees = np.flatnonzero(self.trees.stages == number)
            scores = scores - self._added(trees)
            yield self._stage(number, scores)

    def final_slopes(self) -> np.ndarray:
        """First derivatives (n, k) of the rows' losses at the model's scores."""
        return derivatives(self.trees.loss, self.scores, self.targets).first

    def base_slopes_by_label(self) -> np.ndarray:
        """Derivative (n, k) of the base score by each row's target for the same output."""
        if self.base_rule == "fixed":
            return np.zeros_like(self.targets)
        shares = self.start_weights / self.start_weights.sum()
        mean = shares @ self.targets
        by_mean = {"mean": np.ones_like(mean), "newton_log_odds": np.full_like(mean, 4.0)}
        by_mean["log_odds"] = 1 / (mean * (1 - mean))
        # ∂base/∂y_j = w_j/W ∂base/∂mean
        return shares[:, None] * by_mean.get(self.base_rule, 1 / mean)

    def agreement(self) -> float:
        """Correlation of derived leaf values with the model's own."""
        return float(np.corrcoef(np.concatenate(self.derived), np.concatenate(self.own))[0, 1])

    def error(self) -> float:
        """Largest error against the model's own leaf values, relative to the largest of them."""
        ours, theirs = self.trees.rate * np.concatenate(self.steps), np.concatenate(self.own)
        scale = np.abs(theirs).max()
        return float(np.abs(ours - theirs).max() / scale) if scale > 0 else 0.0


def _base(
    trees: BoostedTrees, weights: np.ndarray, start_weights: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, str, np.ndarray]:
    """Score before the first tree, its rule, and the weights that it uses.

    The rule is "fixed" if none of the known rules gives this score.
    """
    base = np.asarray(trees.base, dtype=np.float64)
    rules = [(trees.base_rule, start_weights)]
    if trees.base_rule == "log_odds":
        rules.append(("newton_log_odds", weights))  # XGBoost with scale_pos_weight, and before 3
    for rule, used in rules:
        if rule == "fixed":
            break
        by_rule = base_score(rule, used, targets)
        if trees.base_in_trees:
            return by_rule, rule, used
        if np.allclose(by_rule, base, rtol=1e-4, atol=1e-4 * targets.std()):
            return base, rule, used
    return base, "fixed", start_weights


def _own_values(trees: BoostedTrees, base: np.ndarray) -> list[np.ndarray]:
    """The model's leaf values by tree, without the base."""
    own = np.split(trees.values, offsets(trees.sizes)[1:])
    if not trees.base_in_trees:
        return own
    return [v - base[trees.outputs[i]] if trees.stages[i] == 0 else v for i, v in enumerate(own)]


def replay(
    trees: BoostedTrees,
    leaves: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    start_weights: np.ndarray,
    name: str,
    *,
    trusting: bool = False,
) -> Replay:
    """Replay boosting, and check that it gives the model's own leaf values.

    Parameters
    ----------
    trees : BoostedTrees
    leaves : ndarray of int of shape (n_trees, n)
    targets : ndarray of shape (n, k)
    weights, start_weights : ndarray of shape (n,)
    name : str
        What to call the model in messages.
    trusting : bool, default=False
        Use the model's own leaf values unchanged.

    Returns
    -------
    Replay

    Raises
    ------
    UnsupportedModelError
        If the leaf values cannot be computed again, or differ from the model's.
    """
    rows = (trees, leaves, targets, weights, start_weights)
    if trusting:
        return Replay(*rows, trusting=True)
    if trees.refusal is not None:
        raise UnsupportedModelError(
            f"model: the leaf values of {name} cannot be computed from its training rows: "
            f"{trees.refusal}. Fit the model without this option, or use method='kernel', which "
            f"needs only the structure of the trees."
        )
    if trees.sampled < 1:
        return _expected(Replay(*rows, trusting=True), name)
    done = Replay(*rows)
    if not done.error() <= trees.tolerance:
        raise other_leaves(name, done.error())
    return done


def _expected(done: Replay, name: str) -> Replay:
    """A replay whose trees were fitted to unknown rows: checked roughly, with a warning."""
    if not done.agreement() > 0.5:  # sampling alone leaves 0.9 and more
        raise other_leaves(name, 1 - done.agreement())
    warn_user(
        f"{name} sampled {done.trees.sampled:.0%} of the rows for each tree and does not record "
        f"which ones. Scores are averages over possible samples: in every tree, every row has "
        f"this share as its weight. With subsample=1, scores are exact derivatives.",
        SampledRowsWarning,
    )
    return done


def other_leaves(name: str, error: float) -> UnsupportedModelError:
    """Error for a model whose leaf values do not follow from the given rows."""
    return UnsupportedModelError(
        f"model: the leaf values of {name} do not follow from the training rows: they differ by "
        f"{error:.2g} of the largest. Give X and y exactly as the model's fit got them, in the "
        "same order, and sample_weight where it got one: fit(model, X, y, sample_weight=w). "
        "Custom starting scores, leaf values clipped by monotone constraints, and continued "
        "training are not supported; method='kernel' does not need leaf values."
    )
