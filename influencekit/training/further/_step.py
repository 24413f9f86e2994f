"""One step of further training for a stack of runs, each without the rows that it leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from influencekit.data._examples import Examples
from influencekit.training._randomness import RandomStream
from influencekit.training.further._config import ResolvedTraining
from influencekit.training.stack._step import OptimizerSpec, StackedStep
from influencekit.training.stack._tasks import Parameters, TaskStack
from influencekit.utils.validation import present

__all__ = ["KEPT", "FurtherStep", "Removals", "TrainingRows"]


#: Column of the run that leaves nothing out.
FULL = -2
#: Owner of the rows that every run keeps.
KEPT = -1


@dataclass(frozen=True, eq=False)
class Removals:
    """Rows that are left out, each by one column.

    Parameters
    ----------
    removal_of_row : ndarray of shape (n_rows,), int64
        Column whose run leaves the row out; -1 where every run keeps it.
    n_columns : int

    Notes
    -----
    Run 0 is the full-data run, run 1 + c leaves out column c.
    """

    removal_of_row: np.ndarray
    n_columns: int

    @property
    def n_runs(self) -> int:
        """Columns and the full-data run."""
        return 1 + self.n_columns

    def sizes(self) -> np.ndarray:
        """Rows that each run leaves out, (n_runs,)."""
        counts = np.bincount(
            self.removal_of_row[self.removal_of_row >= 0], minlength=self.n_columns
        )
        return np.concatenate([[0], counts])

    def columns(self, runs: np.ndarray) -> np.ndarray:
        """Column of each run; ``FULL`` for the full-data run."""
        return np.where(runs == 0, FULL, runs - 1)

    def rows(self, runs: np.ndarray) -> np.ndarray:
        """Rows that runs of one size leave out, (len(runs), size), ascending."""
        return np.stack([np.flatnonzero(self.removal_of_row == c) for c in self.columns(runs)])

    def cohorts(self, removal: str) -> list[np.ndarray]:
        """Runs that take steps of the same lengths and so can share one optimizer.

        Paired runs keep every row in the batch.  The others are told apart by the number of
        rows that they leave out.
        """
        runs = np.arange(self.n_runs)
        if removal == "paired":
            return [runs]
        sizes = self.sizes()
        return [runs[sizes == size] for size in np.unique(sizes)]


class TrainingRows:
    """All training examples in memory: inputs, targets and weights by row.

    Parameters
    ----------
    examples : Examples
    weights : Tensor of shape (n_rows,) or None
        Weights of the examples in the objective; None if all are 1.
    removals : Removals
    """

    def __init__(self, examples: Examples, weights: Tensor | None, removals: Removals):
        batch = next(examples.batches(len(examples)))
        self.inputs, self.targets = batch.inputs, present(batch.targets, "training targets")
        device = self.targets.device
        self.weights = torch.ones(len(examples), device=device) if weights is None else weights
        self.weights = self.weights.to(examples.placement.dtype)
        self.removal_of_row = torch.as_tensor(removals.removal_of_row, device=device)
        self.removals = removals

    @property
    def total(self) -> Tensor:
        """Sum of the weights, float64."""
        return self.weights.double().sum()

    def left_weight(self, runs: np.ndarray) -> Tensor:
        """Weight that each run leaves out, (len(runs),) float64."""
        columns = self.removals.columns(runs)
        return torch.stack(
            [self.weights.double()[self.removal_of_row == int(c)].sum() for c in columns]
        )

    def take(self, rows: Tensor) -> tuple[Any, Tensor]:
        """Inputs and targets of rows, of the shape of ``rows`` before their own axes."""
        rows = rows.to(self.targets.device)
        return tree_map(lambda t: t[rows], self.inputs), self.targets[rows]


class FurtherStep:
    """Moves runs that leave out different rows by one step of their optimizer.

    The objective of a run on a batch is ::

        paired, drop   Σ_b w_b loss_b / Σ_b w_b   over the batch's rows that the run keeps
        subtract       Σ_b w_b loss_b / Σ_b w_b  -  Σ_left w_i loss_i / W

    plus the model's penalty, ``½ Σ r θ²`` or ``½ Σ r θ² / W_kept``.  A paired batch of which
    nothing is left has the penalty alone.

    Parameters
    ----------
    stack : TaskStack
    rows : TrainingRows
    config : ResolvedTraining
    spec : OptimizerSpec
    runs : ndarray of int
        Runs of one cohort.
    streams : pair of RandomStream
        Of dropout on the batch, and on the rows that are subtracted.
    """

    def __init__(
        self,
        stack: TaskStack,
        rows: TrainingRows,
        config: ResolvedTraining,
        spec: OptimizerSpec,
        runs: np.ndarray,
        streams: tuple[RandomStream, RandomStream],
    ):
        self.stack, self.rows, self.config, self.streams = stack, rows, config, streams
        device = rows.targets.device
        self.columns = torch.as_tensor(rows.removals.columns(runs), device=device)
        self.parameters = stack.initial(len(runs))
        penalty = {} if spec.decays else self._penalty(runs)
        optimizer = spec.build(self.parameters)
        self.step = StackedStep(self.parameters, optimizer, penalty, config.max_grad_norm)
        self.own_rows: Tensor | None = None
        if config.removal == "subtract":
            self.own_rows = torch.as_tensor(rows.removals.rows(runs), device=device)

    def __call__(self, rows: Tensor) -> None:
        """Take one step on a batch, (batch,) or one for each run (n_runs, batch)."""
        self.step(self.objective(self.parameters, rows).sum())

    def objective(self, parameters: Parameters, rows: Tensor) -> Tensor:
        """Mean loss (n_runs,) of every run on its batch, without the penalty."""
        losses = self._losses(parameters, rows, self.streams[0])
        rows = rows.to(self.rows.targets.device)
        weights = self.rows.weights[rows]
        if self.config.removal == "paired":
            weights = weights * (self.rows.removal_of_row[rows] != self.columns[:, None])
        total = weights.sum(-1)
        value = (losses * weights).sum(-1) / torch.where(total > 0, total, torch.ones_like(total))
        if self.own_rows is None or not self.own_rows.numel():
            return value
        taken = self._losses(parameters, self.own_rows, self.streams[1])
        taken = (taken * self.rows.weights[self.own_rows]).sum(-1)
        return value - taken / self.rows.total.to(taken.dtype)

    def _losses(self, parameters: Parameters, rows: Tensor, stream: RandomStream) -> Tensor:
        inputs, targets = self.rows.take(rows)
        shared = rows.ndim == 1
        outputs = self.stack.outputs(parameters, inputs, shared, stream)
        return self.stack.losses(outputs, targets, shared)

    def _penalty(self, runs: np.ndarray) -> Parameters:
        """Strength of the penalty relative to the mean loss, broadcastable to the stack."""
        task = self.stack.task
        kept = self.rows.total
        if self.config.removal != "subtract":
            kept = kept - self.rows.left_weight(runs)
        scale = 1 / kept.expand(len(runs))
        scale = scale if task.penalty_kind == "sum" else torch.ones_like(scale)
        return {
            name: self._per_run(scale, name) * torch.as_tensor(task.penalty[name]).to(p)
            for name, p in self.parameters.items()
            if name in task.penalty
        }

    def _per_run(self, values: Tensor, name: str) -> Tensor:
        p = self.parameters[name]
        return values.to(p).reshape(-1, *[1] * (p.ndim - 1))
