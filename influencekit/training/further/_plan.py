"""One further training, decided in all its parts, and what is made of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray

from influencekit.data._examples import Examples
from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.metrics._text import some_rows
from influencekit.models._task import Task
from influencekit.training._behavior import task_behavior
from influencekit.training._cache import OutputCache
from influencekit.training._fingerprint import fingerprint
from influencekit.training.further._config import ResolvedTraining
from influencekit.training.further._runner import FurtherRunner
from influencekit.training.further._scores import (
    FurtherTrainingScores,
    SeedMeans,
    adjusted,
    differences,
)
from influencekit.training.further._step import KEPT, Removals
from influencekit.training.stack._step import OptimizerSpec
from influencekit.training.stack._tasks import Evaluation
from influencekit.utils._long_work import held_memory, progress
from influencekit.utils._parallel import shared_out
from influencekit.utils._random import MAX_SEED

__all__ = [
    "ENGINES",
    "FurtherPlan",
    "endpoint_seed",
    "further_seeds",
    "mean_scores",
    "scores_by_seed",
]


ENGINES = ("auto", "stacked", "loop")


class SeedRuns:
    """Outputs of all runs, seed by seed.

    Parameters
    ----------
    runner : FurtherRunner
    evaluation : Evaluation
    output : str or callable
        That of the evaluation, for the fingerprint.
    cache_dir : path-like, default=None
    verbose : int, default=0
    """

    def __init__(
        self,
        runner: FurtherRunner,
        evaluation: Evaluation,
        output: Any,
        cache_dir: str | os.PathLike | None = None,
        verbose: int = 0,
    ):
        self.runner, self.evaluation, self.verbose = runner, evaluation, verbose
        self.cache = None
        if cache_dir is not None:
            self.cache = OutputCache(cache_dir, _key(runner, evaluation, output))
        if runner.reason is not None and not runner.asked_for_loop:
            warn_user(
                f"Runs are trained one after the other, which takes many times as long: "
                f"{runner.reason}. Use engine='loop' to do this without a warning.",
                InfluenceKitWarning,
            )

    def outputs(self, seeds: Iterable[int]) -> Iterator[np.ndarray]:
        """Yield the outputs (n_runs, n_horizons, n_queries) of one seed after the other.

        Raises
        ------
        ValueError
            If training diverged.
        """
        seeds = [int(seed) for seed in seeds]
        n_runs, n_horizons = self.runner.removals.n_runs, len(self.runner.config.amounts)
        shape = n_runs, n_horizons, self.evaluation.n_queries
        some = joblib.effective_n_jobs(None)  # seeds at a time
        with progress(None, "further training", self.verbose, total=len(seeds), unit="seed") as bar:
            for i in range(0, len(seeds), some):
                for values in self._found(seeds[i : i + some], shape):
                    bar.update(1)
                    yield values

    def _found(self, seeds: list[int], shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
        """Outputs of some seeds: those of the cache, and others that are trained together."""
        flat, keys = (shape[0], shape[1] * shape[2]), [fingerprint("seed", s) for s in seeds]
        known = [None if self.cache is None else self.cache.load(key, flat) for key in keys]
        missing = [s for s, one in zip(seeds, known, strict=True) if one is None]
        trained = self._train(missing, shape)
        for key, found in zip(keys, known, strict=True):
            values = next(trained) if found is None else found
            if found is None and self.cache is not None:
                self.cache.store(key, values.reshape(flat))
            yield values.reshape(shape)

    def _train(self, seeds: list[int], shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
        """Train the runs of some seeds, in slices that depend on the memory and their number."""
        chunks = self.runner.chunks()
        values, left = np.empty((len(seeds), *shape)), [len(chunks)] * len(seeds)
        sent = [(s, seed, runs) for s, seed in enumerate(seeds) for runs in chunks]
        parts = {"runner": self.runner, "evaluation": self.evaluation}
        following = 0
        for position, found in shared_out(_run, sent, None, **parts):
            s, _, runs = sent[position]
            values[s, runs] = found
            left[s] -= 1
            while following < len(seeds) and not left[following]:
                yield self._checked(seeds[following], values[following])
                following += 1

    def _checked(self, seed: int, values: np.ndarray) -> np.ndarray:
        bad = np.flatnonzero((~np.isfinite(values)).any(axis=(1, 2)))
        if len(bad):
            raise ValueError(self.runner.refusal(seed, self._names(bad)))
        return values

    def _names(self, runs: np.ndarray) -> str:
        """What some runs leave out, for a message."""
        left = self.runner.removals
        names = ["with all rows"] if runs[0] == 0 else []
        for column in left.columns(runs[runs > 0])[:5]:
            rows = np.flatnonzero(left.removal_of_row == column)
            names.append(f"without row{'s' * (len(rows) > 1)} {some_rows(rows)}")
        more = f" and {len(runs) - len(names)} more" if len(runs) > len(names) else ""
        return f"{len(runs)} of {left.n_runs} runs ({'; '.join(names)}{more})"


def _run(
    item: tuple[int, int, np.ndarray], runner: FurtherRunner, evaluation: Evaluation
) -> np.ndarray:
    """Train one slice of the runs of a seed."""
    _, seed, runs = item
    return runner.run(seed, runs, evaluation)


def _key(runner: FurtherRunner, evaluation: Evaluation, output: Any) -> str:
    """Fingerprint of everything but the seed."""
    task, spec, rows = runner.task, runner.spec, runner.rows
    objective = [
        (type(part), vars(part)) for part in (task.loss, task.link) if hasattr(part, "__dict__")
    ]
    optimizer = [spec.cls, [(g.names, g.options) for g in spec.groups], spec.state, spec.decays]
    config = {k: v for k, v in vars(replace(runner.config)).items() if k != "amounts"}
    return fingerprint(
        "influencekit-further-3",
        (torch.__version__, runner.reason is None, str(evaluation.dtype)),
        (task.module, objective, dict(task.penalty), task.penalty_kind),
        task_behavior(task, rows.inputs, rows.targets),
        (rows.inputs, rows.targets, rows.weights, runner.removals.removal_of_row),
        [(batch.inputs, batch.targets) for batch in evaluation.batches],
        (output, optimizer, config, list(runner.config.amounts)),
    )


@dataclass(frozen=True, eq=False)
class FurtherPlan:
    """Everything but the seeds and the test examples.

    Parameters
    ----------
    task : Task
    train : Examples
        Rows that the model learned from.
    removals : Removals
    config : ResolvedTraining
    spec : OptimizerSpec
    max_memory : int, str or None
    engine : {"auto", "stacked", "loop"}
    """

    task: Task
    train: Examples
    removals: Removals
    config: ResolvedTraining
    spec: OptimizerSpec
    max_memory: int | str | None = None
    engine: str = "auto"

    def runner(self) -> FurtherRunner:
        """What trains the runs of a seed."""
        memory = held_memory(self.max_memory)
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


def further_seeds(entropy: int, n_repeats: int) -> NDArray:
    """Seeds (n_repeats,); more of them leave the first ones as they were."""
    return np.random.default_rng(entropy).integers(0, MAX_SEED, size=n_repeats)


def endpoint_seed(entropy: int, n_repeats: int, run: int) -> int:
    """Seed of a full-data run that is none of the first ``n_repeats``."""
    generator = np.random.default_rng([entropy, 1])
    drawn = generator.integers(0, MAX_SEED, size=run + 1 + n_repeats)
    return int(drawn[~np.isin(drawn, further_seeds(entropy, n_repeats))][run])


def scores_by_seed(runs: SeedRuns, seeds: NDArray, adjust: str | None) -> Iterator[NDArray]:
    """Yield the scores (n_horizons, n_test, n_left_out) of one seed after the other."""
    start = runs.evaluation.at_start()
    for outputs in runs.outputs(seeds):
        yield adjusted(differences(outputs), start - outputs[0], adjust)


def mean_scores(
    runs: SeedRuns, seeds: NDArray, adjust: str | None, left_out: NDArray, removal_of_row: NDArray
) -> FurtherTrainingScores:
    """Scores as means over seeds.

    Parameters
    ----------
    runs : SeedRuns
    seeds : ndarray of shape (n_repeats,)
    adjust : {"full", "center"} or None
    left_out : ndarray of shape (n_left_out,)
    removal_of_row : ndarray of shape (n_train,), int64

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
        removal_of_row=removal_of_row,
        horizons=np.array(config.amounts),
        steps=np.array(config.horizons),
        unit=config.unit,
        seeds=seeds,
        adjust=adjust,
    )
