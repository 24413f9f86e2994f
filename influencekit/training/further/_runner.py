"""Further training of one fitted model with and without each left-out row, seed by seed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import ceil, inf, isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from influencekit.data._examples import Examples
from influencekit.models._task import Task
from influencekit.training._randomness import RandomStream, seeded, untouched
from influencekit.training.further._config import ResolvedTraining
from influencekit.training.further._step import FurtherStep, Removals, TrainingRows
from influencekit.training.stack._schedule import batches_of_runs, epoch_orders
from influencekit.training.stack._step import OptimizerSpec
from influencekit.training.stack._tasks import Evaluation, Parameters, TaskStack
from influencekit.training.stack._trial import N_ROWS, bytes_per_run, why_runs_differ
from influencekit.utils.validation import present

__all__ = ["FurtherRunner"]


#: Mean losses are compared on this many rows, or a batch if it is larger.
MIN_ROWS = 32
#: A run has diverged if its loss is this many times that of a model that knows nothing.
WORSE = 1000.0


class Divergence:
    """Tells runs that have diverged, also where every number in them is finite.

    A run has diverged if

    - a parameter is NaN or infinite, or the mean loss, computed in the model's own dtype, is; or
    - no digit of the fitted model is left: the largest parameter, times the machine epsilon of
      its dtype, exceeds the largest parameter that the run began with; or
    - its mean loss exceeds 1,000 times both that of the fitted model and that of the same model
      with every parameter zero, which knows nothing.

    Losses are means over rows spread evenly over the training data: as many as a batch holds,
    and 32 or more, so that looking costs a part of a step.  Where the fitted model's own loss is
    not finite, or 0 as it is for the zeros, they tell nothing and are not looked at.

    Parameters
    ----------
    stack : TaskStack
        In eval mode.
    rows : TrainingRows
    batch_size : int
        Rows of a training batch.
    slice_size : int
        Rows that are evaluated at a time.
    """

    def __init__(self, stack: TaskStack, rows: TrainingRows, batch_size: int, slice_size: int):
        self.stack = stack
        n = len(rows.weights)
        some = np.linspace(0, n - 1, min(n, max(batch_size, MIN_ROWS))).round().astype(int)
        parts = np.array_split(some, ceil(len(some) / slice_size))
        self.parts = [rows.take(torch.from_numpy(part)) for part in parts]
        start = {name: p.detach() for name, p in stack.initial(1).items()}
        nothing = {name: torch.zeros_like(p) for name, p in start.items()}
        own, blank = (abs(float(self._losses(p))) for p in (start, nothing))
        largest = max(own, blank) if isfinite(blank) else own
        self.limit = WORSE * largest if 0 < largest < inf else None
        self.size = _largest(start)

    def __call__(self, parameters: Parameters) -> np.ndarray:
        """Which of the runs have diverged, bool (n_runs,)."""
        sizes = _largest(parameters)
        eps = max(torch.finfo(p.dtype).eps for p in parameters.values())
        bad = ~torch.isfinite(sizes) | ((sizes * eps > self.size) & (self.size > 0))
        if self.limit is not None:
            losses = self._losses(parameters)
            bad = bad | ~torch.isfinite(losses) | (losses > self.limit)
        return bad.cpu().numpy()

    def _losses(self, parameters: Parameters) -> Tensor:
        """Mean loss of every run, (n_runs,)."""
        with torch.no_grad():
            parts = []
            for inputs, targets in self.parts:
                outputs = self.stack.outputs(parameters, inputs, shared=True)
                parts.append(self.stack.losses(outputs, targets, shared=True))
        return torch.cat(parts, dim=1).mean(dim=1)


def _largest(parameters: Parameters) -> Tensor:
    """Largest absolute parameter of every run, (n_runs,); NaN where one is."""
    return torch.stack([p.abs().flatten(1).amax(1) for p in parameters.values()]).amax(0)


#: More runs than this at a time are no faster.
MAX_RUNS = 128
#: Test examples at a time, where memory allows.
MAX_ROWS = 256
#: Training examples whose activations are measured.
MEASURED_ROWS = 16


class FurtherRunner:
    """Trains a fitted model further, all runs of a seed together.

    Parameters
    ----------
    task : Task
    train : Examples
        Rows that the model learned from.
    removals : Removals
    config : ResolvedTraining
    spec : OptimizerSpec
    max_memory : int
        Bytes that one stack may take.
    engine : {"auto", "stacked", "loop"}, default="auto"

    Attributes
    ----------
    reason : str or None
        Why runs go one after the other; None if they go together.
    asked_for_loop : bool
    chunk_size : int
        Runs that fit into memory together.
    evaluation_rows : int
        Test examples that fit beside them.

    Raises
    ------
    ValueError
        If engine="stacked" cannot train this model.
    """

    def __init__(
        self,
        task: Task,
        train: Examples,
        removals: Removals,
        config: ResolvedTraining,
        spec: OptimizerSpec,
        max_memory: int = 2**30,
        engine: str = "auto",
    ):
        self.task, self.config, self.spec, self.removals = task, config, spec, removals
        targets = present(train.targets, "training targets")
        weights = task.example_weights(targets, train.weights)
        self.rows = TrainingRows(train, weights, removals)
        self.asked_for_loop = engine == "loop"
        self.reason: str | None = "engine='loop'"
        if engine != "loop":
            few = torch.arange(min(N_ROWS, len(train)))
            self.reason = why_runs_differ(task, *self.rows.take(few))
        if engine == "stacked" and self.reason is not None:
            raise ValueError(
                f"engine='stacked' cannot train this model: {self.reason}. Use engine='auto', "
                f"which trains one run after the other if necessary."
            )
        self.stack = TaskStack(task, together=self.reason is None)
        length = min(config.batch_size, config.n_rows)
        some = torch.arange(min(length, MEASURED_ROWS))
        each = bytes_per_run(task, self.rows.take(some)[0], len(some), length)
        self.chunk_size = int(np.clip(max_memory // each, 1, MAX_RUNS))
        spare = max_memory // (each * self.chunk_size)  # float64 without gradients takes less
        self.evaluation_rows = int(np.clip(length * spare, length, max(length, MAX_ROWS)))
        look = TaskStack(task, together=self.reason is None)
        with untouched(task.device):
            self.diverged = Divergence(look, self.rows, length, self.evaluation_rows)

    def chunks(self) -> list[np.ndarray]:
        """Runs that are trained together, all of one cohort."""
        found = []
        for runs in self.removals.cohorts(self.config.removal):
            n_parts = -(-len(runs) // self.chunk_size)
            found += np.array_split(runs, n_parts)
        return found

    def run(self, seed: int, runs: np.ndarray, evaluation: Evaluation) -> np.ndarray:
        """Train one chunk and evaluate it at every horizon.

        Returns
        -------
        ndarray of shape (len(runs), n_horizons, n_queries), float64
            NaN for runs that have diverged.
        """
        with untouched(self.task.device):
            found = []
            for parameters in self._train(seed, runs):
                values = evaluation(parameters)
                values[self.diverged(parameters)] = np.nan
                found.append(values)
            return np.stack(found, axis=1)

    def endpoint(self, seed: int) -> nn.Module:
        """Module, in eval mode, at the end of one full-data run.

        Raises
        ------
        ValueError
            If the run diverged.
        """
        with untouched(self.task.device):
            for parameters in self._train(seed, np.array([0])):
                end = parameters
            if self.diverged(end)[0]:
                raise ValueError(self.refusal(seed, "the full-data run"))
        return self.stack.load(end, 0)

    def refusal(self, seed: int, runs: str) -> str:
        """Words of the error about runs of a seed that diverged."""
        return (
            f"lr: further training under seed {seed} diverged in {runs}, with "
            f"{self.config.optimizer} at lr={self.config.lr:g}: parameters, losses or outputs are "
            "NaN or infinite, or nothing of the fitted model is left in them. Use a smaller rate; "
            "a tenth of the one that the model was trained with is a usual choice. (Or output= is "
            "not finite there.)"
        )

    def _train(self, seed: int, runs: np.ndarray) -> Iterator[Parameters]:
        """Yield the parameters of the runs at every horizon."""
        config = self.config
        left = int(self.removals.sizes()[runs[0]]) if config.removal == "drop" else 0
        horizons = config.steps_of(config.n_rows - left)
        removal_of_row = self.rows.removal_of_row.cpu() if config.removal == "drop" else None
        columns = torch.as_tensor(self.removals.columns(runs))
        orders = epoch_orders(config.n_rows, config.batch_size, seed)
        batches = batches_of_runs(orders, config.batch_size, removal_of_row, columns)
        streams = _stream(seed, self.task.device), _stream(seed, self.task.device)
        step = FurtherStep(self.stack, self.rows, config, self.spec, runs, streams)
        self.stack.train_mode()
        taken = 0
        for horizon in horizons:
            for rows in islice(batches, horizon - taken):
                step(rows)
            taken = horizon
            yield {name: p.detach() for name, p in step.parameters.items()}


def _stream(seed: int, device: Any) -> RandomStream:
    with seeded(int(seed), device):
        return RandomStream.capture(device)
