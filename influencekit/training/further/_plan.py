"""One further training, decided in all its parts, and what is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from influencekit.data import Examples
from influencekit.models import Task
from influencekit.training.further._config import FurtherTrainingConfig
from influencekit.training.further._means import SeedMeans, adjusted, differences
from influencekit.training.further._removals import KEPT, Removals
from influencekit.training.further._runner import FurtherRunner
from influencekit.training.further._scores import FurtherTrainingScores
from influencekit.training.further._seeds import SeedRuns
from influencekit.training.stack._optimizer_spec import OptimizerSpec
from influencekit.training.stack._outputs import Evaluation
from influencekit.utils import parse_memory
from influencekit.utils._random import MAX_SEED

__all__ = ["FurtherPlan", "endpoint_seed", "further_seeds", "mean_scores", "scores_by_seed"]

#: Bytes that one stack takes unless told otherwise: larger ones are no faster.
STACK_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class FurtherPlan:
    """Everything but the seeds and the test examples.

    Parameters
    ----------
    task : Task
    train : Examples
        Rows that the model learned from.
    removals : Removals
    config : FurtherTrainingConfig
    spec : OptimizerSpec
    max_memory : int, str or None
    engine : {"auto", "stacked", "loop"}
    """

    task: Task
    train: Examples
    removals: Removals
    config: FurtherTrainingConfig
    spec: OptimizerSpec
    max_memory: int | str | None = None
    engine: str = "auto"

    def runner(self) -> FurtherRunner:
        """What trains the runs of a seed."""
        memory = parse_memory(self.max_memory, self.task.device)
        if self.max_memory is None:
            memory = min(memory, STACK_BYTES)
        return FurtherRunner(
            self.task, self.train, self.removals, self.config, self.spec, memory, self.engine
        )

    def runs(self, queries: Examples, output: Any, cache_dir: Any, verbose: int) -> SeedRuns:
        """Outputs of all runs at test examples, seed by seed."""
        runner = self.runner()
        together = runner.reason is None
        evaluation = Evaluation(self.task, queries, output, together, runner.evaluation_rows)
        return SeedRuns(runner, evaluation, output, cache_dir, verbose)

    def endpoint(self, seed: int) -> Task:
        """Task at the end of the full-data run of a seed."""
        nothing = Removals(np.full(len(self.train), KEPT), 0)
        module = replace(self, removals=nothing, engine="loop").runner().endpoint(seed)
        return replace(self.task, module=module)


def further_seeds(entropy: int, n_seeds: int) -> NDArray:
    """Seeds (n_seeds,); more of them leave the first ones as they were."""
    return np.random.default_rng(entropy).integers(0, MAX_SEED, size=n_seeds)


def endpoint_seed(entropy: int, n_seeds: int, run: int) -> int:
    """Seed of a full-data run that is none of the first ``n_seeds``."""
    generator = np.random.default_rng([entropy, 1])
    drawn = generator.integers(0, MAX_SEED, size=run + 1 + n_seeds)
    return int(drawn[~np.isin(drawn, further_seeds(entropy, n_seeds))][run])


def scores_by_seed(runs: SeedRuns, seeds: NDArray, adjust: str | None) -> Iterator[NDArray]:
    """Yield the scores (n_horizons, n_test, n_left_out) of one seed after the other."""
    start = runs.evaluation.at_start()
    for outputs in runs.outputs(seeds):
        yield adjusted(differences(outputs), start - outputs[0], adjust)


def mean_scores(
    runs: SeedRuns, seeds: NDArray, adjust: str | None, left_out: NDArray, owner: NDArray
) -> FurtherTrainingScores:
    """Scores as means over seeds.

    Parameters
    ----------
    runs : SeedRuns
    seeds : ndarray of shape (n_seeds,)
    adjust : {"full", "center"} or None
    left_out : ndarray of shape (n_left_out,)
    owner : ndarray of shape (n_train,), int64

    Returns
    -------
    FurtherTrainingScores
    """
    config = runs.runner.config
    means = SeedMeans(
        len(config.amounts), runs.evaluation.n_queries, runs.runner.removals.n_columns
    )
    start = runs.evaluation.at_start()
    for outputs in runs.outputs(seeds):
        means.add(outputs, start)
    return FurtherTrainingScores(
        scores=means.mean(adjust),
        halves=means.halves(adjust),
        offset=means.offset(),
        resolution=torch.finfo(runs.evaluation.dtype).eps * np.maximum(means.size, 1.0),
        left_out=left_out,
        owner=owner,
        horizons=np.array(config.amounts),
        steps=np.array(config.horizons),
        unit=config.unit,
        seeds=seeds,
        adjust=adjust,
    )
