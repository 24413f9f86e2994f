"""Further training of one fitted model with and without each left-out row, seed by seed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from influencekit.data import Examples
from influencekit.models import Task
from influencekit.training._randomness import RandomStream, seeded, untouched
from influencekit.training.further._config import FurtherTrainingConfig
from influencekit.training.further._diverged import Divergence
from influencekit.training.further._removals import Removals
from influencekit.training.further._step import FurtherStep, TrainingRows
from influencekit.training.stack._optimizer_spec import OptimizerSpec
from influencekit.training.stack._outputs import Evaluation
from influencekit.training.stack._schedule import batches_of_runs, epoch_orders
from influencekit.training.stack._tasks import Parameters, TaskStack
from influencekit.training.stack._trial import N_ROWS, bytes_per_run, why_runs_differ

__all__ = ["FurtherRunner"]

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
    config : FurtherTrainingConfig
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
        config: FurtherTrainingConfig,
        spec: OptimizerSpec,
        max_memory: int = 2**30,
        engine: str = "auto",
    ):
        self.task, self.config, self.spec, self.removals = task, config, spec, removals
        self.rows = TrainingRows(train, task.example_weights(train.targets), removals)
        self.asked_for_loop = engine == "loop"
        self.reason: str | None = "engine='loop'"
        if engine != "loop":
            few = torch.arange(min(N_ROWS, len(train)))
            self.reason = why_runs_differ(task, *self.rows.take(few))
        if engine == "stacked" and self.reason is not None:
            raise ValueError(
                f"engine='stacked' cannot train this model: {self.reason}. Use engine='auto', "
                "which trains one run after the other where it must."
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
        owner = self.rows.owner.cpu() if config.removal == "drop" else None
        columns = torch.as_tensor(self.removals.columns(runs))
        orders = epoch_orders(config.n_rows, config.batch_size, seed)
        batches = batches_of_runs(orders, config.batch_size, owner, columns)
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
