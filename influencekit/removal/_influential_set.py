"""The smallest set of rows without which a linear model says something else.

Rows are taken one by one: after each, the model without all of them is solved again, and every
remaining row is tried by one Newton step from there.  Then rows are exchanged, and dropped where
the goal is reached without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from influencekit.models.losses._base import class_positions
from influencekit.removal._goal import Goal
from influencekit.removal._whitened import ALONE, Whitened, whitened
from influencekit.removal._without import newton_step, refit_without
from influencekit.utils._long_work import chunks

__all__ = ["InfluentialSet", "influential_set"]

#: Largest set whose rows are exchanged for others.
EXCHANGED = 30
#: Passes of exchanges, sets that grow side by side, and how many of them are exchanged.
PASSES, BEAM, STARTS = 3, 6, 3
#: Coefficients that are held at once.
_BLOCK = 2**23
#: Draws of a random set that keeps a row of every class.
_DRAWS = 100


@dataclass
class InfluentialSet:
    """A set of training rows, and a number that the model gives with and without them.

    Attributes
    ----------
    rows : ndarray of int
        Positions in the training data, in the order in which they were found.
    before : float
        The number as the fitted model gives it: the explained output, the coefficient or the
        property. With ``until="flip"`` it is the score of the predicted class above the next one.
    predicted : float
        One Newton step from the fitted model without the rows.
    refitted : float
        The objective is solved without them.
    reached : bool or None
        Whether the refitted model is beyond ``until``; None for a set of ``k`` rows.
    p_value : float
        Share of random sets of the same size that move the number as far the same way, the set
        itself counted as one of them.
    n_refits : int
        Models that were solved on the way.
    """

    rows: np.ndarray
    before: float
    predicted: float
    refitted: float
    reached: bool | None
    p_value: float
    n_refits: int


def influential_set(
    white: Whitened,
    goal: Goal,
    *,
    k: int | None,
    most: int,
    n_random: int,
    rng: np.random.Generator,
) -> InfluentialSet:
    """Search for a set of rows.

    Parameters
    ----------
    white : Whitened
        The fitted model.
    goal : Goal
    k : int or None
        Size of the set; None for the smallest that reaches the goal.
    most : int
        Its largest size.
    n_random : int
        Random sets for the p-value.
    rng : Generator

    Returns
    -------
    InfluentialSet

    Raises
    ------
    ValueError
        If no row can be removed.
    """
    search = _Search(white, goal)
    rows = search.greedy(most if k is None else k)
    if k is not None:
        if len(rows) < k:
            raise ValueError(
                f"k: got {k}; accepted are sizes up to {len(rows)}, as each row that is left is "
                f"alone in its level or class."
            )
        rows = search.best_of_size(k, rows)
    elif search.reached(rows):
        rows = search.shrunk(rows)
    refitted = float(goal.value(search.solved(rows)[None])[0])
    return InfluentialSet(
        rows=np.array(rows),
        before=goal.before,
        predicted=float(goal.value(newton_step(white, np.array(rows))[None])[0]),
        refitted=refitted,
        reached=None if k is not None else search.reached(rows),
        p_value=search.p_value(rows, goal.sign * (goal.before - refitted), n_random, rng),
        n_refits=search.n_refits,
    )


class _Search:
    """Models without sets of rows, each solved once."""

    def __init__(self, white: Whitened, goal: Goal):
        self.white, self.goal, self.n_refits = white, goal, 0
        self._known: dict[frozenset[int], np.ndarray] = {frozenset(): white.fit.theta}
        targets, fit = white.fit.targets, white.fit
        classes = fit.task.problem_type == "classification"
        self.classes = class_positions(targets).numpy() if classes else np.zeros(len(fit.X), int)

    def solved(self, rows: Sequence[int]) -> np.ndarray:
        """Coefficients (k, d) of the model without some rows."""
        key = frozenset(rows)
        if key not in self._known:
            self._known[key] = refit_without(self.white, np.array(sorted(key)))
            self.n_refits += 1
        return self._known[key]

    def gain(self, rows: Sequence[int]) -> float:
        """How far the number goes without some rows."""
        return float(self.goal.gains(self.solved(rows)[None])[0])

    def reached(self, rows: Sequence[int]) -> bool:
        """Whether the goal is reached without some rows."""
        return self.goal.reached(self.solved(rows))

    def next_gains(self, rows: Sequence[int]) -> np.ndarray:
        """How far the number goes without each further row, by one Newton step; -inf for some."""
        fit = self.white.fit
        weights = fit.weights.copy()
        weights[list(rows)] = 0.0
        state = whitened(replace(fit, weights=weights, theta=self.solved(rows)))
        steps = state.steps("newton")
        gains = np.full(len(fit.X), -np.inf)
        for some in chunks(len(steps), fit.theta.size, _BLOCK):
            moved = (steps[some] @ state.basis.T).reshape(-1, *fit.theta.shape)
            gains[some] = self.goal.gains(state.fit.theta + moved)
        kept = np.bincount(self.classes[weights > 0], minlength=self.classes.max() + 1)
        needed = (kept[self.classes] == 1) | (state.leverages > ALONE)
        gains[(weights == 0) | needed] = -np.inf
        return gains

    def greedy(self, most: int) -> list[int]:
        """Rows one by one, until the goal is reached."""
        rows: list[int] = []
        while len(rows) < most and not self.reached(rows):
            gains = self.next_gains(rows)
            best = int(gains.argmax())
            if not np.isfinite(gains[best]):
                break
            rows.append(best)
        if not rows:
            raise ValueError(
                "model: none of its rows can be removed: each is alone in its level or class, or "
                "there are as many columns as rows. Fit the model with a penalty."
            )
        return rows

    def beam(self, size: int) -> list[list[int]]:
        """Sets of some size that grew from the best of each smaller size."""
        found: list[list[int]] = [[]]
        for _ in range(size):
            grown: dict[frozenset[int], tuple[float, list[int]]] = {}
            for rows in found:
                gains = self.next_gains(rows)
                for row in np.argsort(-gains, kind="stable")[:BEAM]:
                    if np.isfinite(gains[row]):
                        larger = [*rows, int(row)]
                        grown.setdefault(frozenset(larger), (float(gains[row]), larger))
            found = [rows for _, rows in sorted(grown.values(), key=lambda g: -g[0])[:BEAM]]
        return found

    def best_of_size(self, size: int, rows: list[int]) -> list[int]:
        """The best set of some size that is found from several starts."""
        if size > EXCHANGED:
            return rows
        starts = [rows, *self.beam(size)] if len(rows) == size else self.beam(size)
        found = rows
        for start in sorted(starts, key=self.gain, reverse=True)[:STARTS]:
            trial = self.exchanged(start)
            if len(found) != size or self.gain(trial) > self.gain(found):
                found = trial
            if self.reached(found):
                break
        return found

    def removable(self, rows: np.ndarray) -> bool:
        """Whether a row of every class is left."""
        kept = np.delete(self.classes, rows)
        return len(np.unique(kept)) == len(np.unique(self.classes))

    def exchanged(self, rows: list[int]) -> list[int]:
        """Rows exchanged for others as long as the number goes further."""
        best = self.gain(rows)
        for _ in range(PASSES if len(rows) <= EXCHANGED else 0):
            start = best
            for row in list(rows):
                rest = [other for other in rows if other != row]
                trial = [*rest, int(self.next_gains(rest).argmax())]
                if self.gain(trial) > best + 1e-9 * abs(best):
                    rows, best = trial, self.gain(trial)
                if self.goal.reached(self.solved(rows)):
                    return rows
            if best == start:
                break
        return rows

    def shrunk(self, rows: list[int]) -> list[int]:
        """A set that reaches the goal, without rows that it does not need."""
        while 1 < len(rows) <= EXCHANGED:
            smaller = [rows[:i] + rows[i + 1 :] for i in range(len(rows))]
            found = self.best_of_size(len(rows) - 1, max(smaller, key=self.gain))
            if not self.reached(found):
                break
            rows = found
        return rows

    def p_value(
        self, rows: Sequence[int], gain: float, n_random: int, rng: np.random.Generator
    ) -> float:
        """Share of random sets that move the number as far, by one Newton step each."""
        fit = self.white.fit
        candidates = np.flatnonzero((fit.weights > 0) & (self.white.leverages <= ALONE))
        as_far = 1
        for _ in range(n_random):
            for _ in range(_DRAWS):
                drawn = rng.choice(candidates, len(rows), replace=False)
                if self.removable(drawn):
                    break
            else:
                return np.nan
            moved = float(self.goal.gains(newton_step(self.white, drawn)[None])[0])
            as_far += moved >= gain - 1e-12 * abs(gain)
        return as_far / (1 + n_random)
