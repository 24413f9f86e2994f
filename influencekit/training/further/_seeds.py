"""Seeds of further training, one after the other: trained, checked and kept."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.metrics._text import some_rows
from influencekit.training._cache import OutputCache
from influencekit.training._fingerprint import fingerprint
from influencekit.training.further._runner import FurtherRunner
from influencekit.training.stack._outputs import Evaluation
from influencekit.utils import progress

__all__ = ["ENGINES", "SeedRuns"]

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
                f"Runs are trained one after the other: {runner.reason}. It takes many times as "
                "long. engine='loop' says that this is wanted.",
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
        for seed in progress(seeds, "further training", self.verbose, unit="seed"):
            values = self._stored(seed)
            if values is None:
                values = self._train(seed)
                if self.cache is not None:
                    self.cache.store(_seed_key(seed), values.reshape(len(values), -1))
            yield values

    @property
    def _shape(self) -> tuple[int, int, int]:
        n_horizons = len(self.runner.config.amounts)
        return self.runner.removals.n_runs, n_horizons, self.evaluation.n_queries

    def _stored(self, seed: int) -> np.ndarray | None:
        if self.cache is None:
            return None
        n_runs, n_horizons, n_queries = self._shape
        flat = self.cache.load(_seed_key(seed), (n_runs, n_horizons * n_queries))
        return None if flat is None else flat.reshape(self._shape)

    def _train(self, seed: int) -> np.ndarray:
        values = np.empty(self._shape)
        for runs in self.runner.chunks():
            values[runs] = self.runner.run(seed, runs, self.evaluation)
        bad = np.flatnonzero((~np.isfinite(values)).any(axis=(1, 2)))
        if len(bad):
            raise ValueError(self.runner.refusal(seed, self._names(bad)))
        return values

    def _names(self, runs: np.ndarray) -> str:
        """What some runs leave out, for a message."""
        left = self.runner.removals
        names = ["with all rows"] if runs[0] == 0 else []
        for column in left.columns(runs[runs > 0])[:5]:
            rows = np.flatnonzero(left.owner == column)
            names.append(f"without row{'s' * (len(rows) > 1)} {some_rows(rows)}")
        more = f" and {len(runs) - len(names)} more" if len(runs) > len(names) else ""
        return f"{len(runs)} of {left.n_runs} runs ({'; '.join(names)}{more})"


def _seed_key(seed: int) -> str:
    return fingerprint("seed", seed)


def _key(runner: FurtherRunner, evaluation: Evaluation, output: Any) -> str:
    """Fingerprint of everything but the seed."""
    task, spec, rows = runner.task, runner.spec, runner.rows
    objective = [
        (type(part), vars(part)) for part in (task.loss, task.link) if hasattr(part, "__dict__")
    ]
    optimizer = [spec.cls, [(g.names, g.options) for g in spec.groups], spec.state, spec.decays]
    config = {k: v for k, v in vars(replace(runner.config)).items() if k != "amounts"}
    return fingerprint(
        "influencekit-further-2",
        (torch.__version__, runner.reason is None, str(evaluation.dtype)),
        (task.module, objective, dict(task.penalty), task.penalty_kind),
        (rows.inputs, rows.targets, rows.weights, runner.removals.owner),
        [(batch.inputs, batch.targets) for batch in evaluation.batches],
        (output, optimizer, config, list(runner.config.amounts)),
    )
