"""The linear datamodeling score of a fitted model's attributions, against retrained halves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks import problems
from benchmarks.problems import Problem
from influencekit import SurrogateLambdaSearchCV, retrain_on_subsets
from influencekit.metrics import PreparedOutputs


@dataclass
class Halves:
    """A problem, its fitted model, and the model retrained on random halves of the rows."""

    problem: Problem
    model: Any
    masks: np.ndarray
    outputs: np.ndarray

    def __post_init__(self):
        self.prepared = PreparedOutputs(self.outputs)

    @property
    def ceiling(self) -> float:
        return self.prepared.noise_ceiling

    def of_scores(self, scores: np.ndarray) -> float:
        """LDS of scores (n_test, n_train)."""
        return self.prepared.score(scores @ self.masks.T.astype(float)).mean

    def of(self, attributor) -> float:
        """LDS of a fitted attributor."""
        return self.of_scores(attributor.score(*self.problem.test))

    def along(self, attributor):
        """Function of a damping: LDS at it, from one path."""
        sums = attributor.damping_path(*self.problem.test).subset_sums(self.masks)
        return lambda damping: self.prepared.score(sums.at(damping)).mean


@lru_cache(maxsize=2)
def halves(
    name: str, seed: int, n_subsets: int, n_repeats: int, output: str | None = None,
    n_train: int | None = None, n_test: int | None = None, **changes: Any,
) -> Halves:  # fmt: skip
    """Made once for the cells of a run that share it; ``changes`` are parameters of the model."""
    problem = problems.load(name, seed, n_train, n_test)
    problem.model.set_params(**changes)
    model = problem.fit()
    options = {} if output is None else {"output": output}
    found = retrain_on_subsets(
        model, *problem.data, n_subsets=n_subsets, n_repeats=n_repeats, random_state=seed, **options
    )
    return Halves(problem, model, found.masks, found.outputs)


def picked(attributor, model, train: tuple, **options) -> float:
    """The damping that SurrogateLambdaSearchCV chooses, by ξ unless another criterion is given."""
    options = {"criterion": "xi", **options}
    return SurrogateLambdaSearchCV(attributor, **options).fit(model, *train).best_params_["damping"]


def spectral_grid(fitted, low: float = 1e-8, high: float = 10.0, size: int = 91) -> np.ndarray:
    """Dampings over the range of the eigenvalues."""
    largest = float(np.max(fitted.eigenvalues_))
    return np.geomspace(low * largest, high * largest, size)
