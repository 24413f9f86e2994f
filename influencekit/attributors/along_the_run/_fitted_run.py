"""What attributors learned from the checkpoints of one training run."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit._fitted import Fitted
from influencekit.attributors._slope_output import NaturalOutput, SlopeOutput
from influencekit.curvature._spectrum import DampingPath
from influencekit.data._examples import Examples
from influencekit.gradients._cotangents import output_cotangent
from influencekit.gradients._engine import GradientEngine
from influencekit.models._outputs import predicted_targets, resolve_output
from influencekit.models._task import Task
from influencekit.utils._long_work import chunks

__all__ = ["FittedRun", "floor_of", "part_of"]

#: Number of slopes of queries held in memory at once.
_SLOPES = 2**24
#: Scores that are held to read their diagonal.
_BLOCK = 2**24


class FittedRun(Fitted):
    """An attributor's scores averaged over the checkpoints of one run.

    Parameters
    ----------
    end : Task
        The model at the end of the run.
    checkpoints : list of Task
    train : Examples
    members : list of attributors
        Fitted, one for each checkpoint.
    slopes : {"mean", "end", "own", "unit"}
        Which gradient of the output with respect to the model's outputs is used.
    factor : float
        Factor on a damping that is chosen by name.
    """

    def __init__(
        self,
        end: Task,
        checkpoints: Sequence[Task],
        train: Examples,
        members: Sequence[Any],
        slopes: str,
        factor: float,
    ):
        self.end, self.checkpoints = end, list(checkpoints)
        self.train, self.members = train, list(members)
        self.slopes, self.factor = slopes, factor
        self.parts: list[Any] = [_scaled(part_of(member), member, factor) for member in members]
        self.output = self.parts[0].output

    @property
    def damping(self) -> np.ndarray:
        """λ in use at each checkpoint."""
        return np.array([part.damping for part in self.parts])

    @property
    def eigenvalues(self) -> np.ndarray | None:
        """Eigenvalues of the curvatures at all checkpoints together."""
        found = [getattr(part, "eigenvalues", None) for part in self.parts]
        known = [values for values in found if values is not None]
        return np.sort(np.concatenate(known)) if len(known) == len(found) else None

    def at(self, damping: float | str) -> FittedRun:
        """Score with one damping at all checkpoints, or with each checkpoint's own by name."""
        if not isinstance(damping, str):
            return self._with(parts=[part.at(float(damping)) for part in self.parts])
        members = [copy.copy(member).set_damping(damping) for member in self.members]
        pairs = zip(self.parts, members, strict=True)
        parts = [part.at(_scaled(part_of(m), m, self.factor).damping) for part, m in pairs]
        return self._with(members=members, parts=parts)

    def scores(self, queries: Examples) -> np.ndarray:
        return np.concatenate([self._mean(block) for block in self._blocks(queries)])

    def self_scores(self) -> np.ndarray:
        if self.output is None:
            return np.mean([part.self_scores() for part in self.parts], axis=0)
        own, n = self.explaining("neg_loss"), len(self.train)
        blocks = chunks(n, n, _BLOCK)
        return np.concatenate([np.diagonal(own.scores(self.train.take(r))[:, r]) for r in blocks])

    def holding(self, parts: Sequence[Any]) -> FittedRun:
        """The same run with other parts, without its training examples."""
        return self._with(parts=list(parts), members=[], train=None)

    def paths(self, queries: Examples) -> list[DampingPath]:
        """Damping path of the queries at each checkpoint."""
        return [part.path(queries) for part, queries in self.asked(queries)]

    def _mean(self, queries: Examples) -> np.ndarray:
        """Mean over checkpoints of the scores of some queries."""
        total: Any = 0.0
        for part, asked in self.asked(queries):
            scores = part.scores(asked)
            total = total + (unit_rows(scores) if self.slopes == "unit" else scores)
        return total / len(self.parts)

    def asked(self, queries: Examples) -> Iterator[tuple[Any, Examples]]:
        """Each checkpoint's part, with the output and the queries that it is asked about."""
        if self.output is None:
            return ((part, queries) for part in self.parts)
        function = resolve_output(self.end, self.output, queries.targets is not None, finite=True)
        if queries.targets is None:
            predicted = predicted_targets(self.end, _outputs(self.end, queries))
            queries = queries.with_targets(predicted)
        explained: Any = NaturalOutput(function)
        alone = self.slopes == "mean" and len(self.checkpoints) == 1  # its mean slope is its own
        if self.slopes in ("mean", "end") and not alone:
            slopes = self._slopes(function, queries)
            explained, queries = SlopeOutput(), queries.with_targets(slopes)
        return ((part.explaining(explained), queries) for part in self.parts)

    def _slopes(self, function: Any, queries: Examples) -> Tensor:
        """Gradients of the output by the model's outputs: of the end, or typical of the run.

        A regressor's error may change its sign along the run, and its size at one checkpoint is not
        informative: directions and lengths are averaged separately.
        """
        if self.slopes == "end":
            return _slope(function, _outputs(self.end, queries), queries.targets)
        direction, length = torch.zeros(()), torch.zeros(())
        for task in self.checkpoints:
            found = _slope(function, _outputs(task, queries), queries.targets)
            size = torch.linalg.vector_norm(found.flatten(1), dim=1)
            size = size.reshape(-1, *[1] * (found.ndim - 1))
            direction = direction + found / torch.where(size > 0, size, 1.0)
            length = length + size
        return direction * length / len(self.checkpoints) ** 2

    def _blocks(self, queries: Examples) -> Iterator[Examples]:
        """Slices of the queries whose slopes fit into memory."""
        each = prod(_outputs(self.end, queries.take(slice(0, 1))).shape[1:])
        for rows in chunks(len(queries), each, _SLOPES):
            yield queries if rows == slice(0, len(queries)) else queries.take(rows)


def _slope(function: Any, outputs: Tensor, targets: Any) -> Tensor:
    """Gradients of the output by a model's outputs, in float64 where the function takes it.

    Where a class is nearly certain, 1 - p is only rounding in float32, and so is the direction.
    """
    slope = output_cotangent(function)
    try:
        return slope(outputs.double(), targets)[:, 0]
    except (RuntimeError, TypeError):
        return slope(outputs, targets)[:, 0]


def _outputs(task: Task, queries: Examples) -> Tensor:
    with torch.no_grad():
        return GradientEngine(task).outputs(queries)


def unit_rows(scores: np.ndarray) -> np.ndarray:
    """Rows at length 1; rows of zeros stay."""
    lengths = np.linalg.norm(scores, axis=1, keepdims=True)
    return scores / np.where(lengths > 0, lengths, 1.0)


def part_of(member: Any) -> Fitted:
    """What a fitted attributor, or the one that a search chose, learned from its one model."""
    while hasattr(member, "best_attributor_"):
        member = member.best_attributor_
    return member.fitted_[0]


def _scaled(part: Any, member: Any, factor: float) -> Any:
    """A part whose default damping is multiplied; a damping given by the user is not."""
    if factor == 1 or getattr(member, "damping", None) != "auto":
        return part
    return part.at(max(part.damping * factor, floor_of(part)))


def floor_of(part: Any) -> float:
    """The smallest damping that a fitted curvature supports."""
    return float(getattr(getattr(part, "curvature", None), "floor", 0.0))
