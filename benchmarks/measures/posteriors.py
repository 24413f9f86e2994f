"""Posteriors over trainings on halves, and how well they know their own LDS."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from benchmarks.harness import Table
from benchmarks.harness.tables import mean_error, of
from influencekit import InfluenceFunction, RunAverage, SubsetPosterior
from influencekit.metrics import PreparedOutputs
from influencekit.training import retrain_on_subsets

#: Trainings that a posterior learns from, with what it makes of them.
LEARNING = [
    (20, {}),
    (20, {"scores": "sweep"}),
    (50, {}),
    (100, {}),
    (100, {"prior": None}),
]


def first(runs, n: int):
    """The first trainings of a SubsetRuns."""
    parts = {name: getattr(runs, name)[:n] for name in ("masks", "outputs", "seeds", "states")}
    return replace(runs, **parts)


def without_trainings(net, problem, value: str, seed: int):
    """Name, scores and seconds of the final model, its run, and five runs."""
    influence = InfluenceFunction(output=value)
    began = time.perf_counter()
    yield "final", influence.fit(net, *problem.train).score(*problem.test), _since(began)
    began = time.perf_counter()
    average = RunAverage(influence).fit(net, *problem.train)
    yield "run average", average.score(*problem.test), _since(began)
    began, masks = time.perf_counter(), np.ones((5, len(problem.X)), bool)
    more = {"masks": masks, "record": "checkpoints", "random_state": 2000 + seed}
    runs = retrain_on_subsets(net, *problem.data, **more, output=value)
    five = RunAverage(influence).fit([runs.run(net, s) for s in range(5)], *problem.train)
    yield "five runs", five.score(*problem.test), _since(began)


def posteriors(net, problem, value: str, runs):
    """Name, fitted posterior and seconds, the trainings not counted."""
    for n, options in LEARNING:
        began = time.perf_counter()
        options = {"prior": RunAverage(InfluenceFunction(output=value)), **options}
        posterior = SubsetPosterior(**options, output=value, random_state=0)
        queries = {"X_query": problem.X_test, "y_query": problem.y_test}
        posterior.fit(net, *problem.train, **queries, subset_outputs=first(runs, n))
        kind = "datamodel" if options["prior"] is None else options.get("scores", "prior")
        yield f"{n}, {kind}", posterior, _since(began)


def one_training(scores: np.ndarray, truth, n_draws: int = 100) -> tuple[float, float]:
    """LDS against one training a mask; standard error by a bootstrap over masks and queries."""
    rng, sums = np.random.RandomState(0), scores @ truth.masks.T.astype(float)
    outputs, draws = truth.outputs[:, :1], []
    for _ in range(n_draws):
        masks = rng.randint(len(outputs), size=len(outputs))
        queries = rng.randint(len(sums), size=len(sums))
        drawn = PreparedOutputs(outputs[masks][:, :, queries])
        draws.append(drawn.score(sums[queries][:, masks]).mean)
    return PreparedOutputs(outputs).score(sums).mean, float(np.std(draws, ddof=1))


def self_reported(rows: list[dict]) -> Table:
    """How near the self-reported LDS comes to that against one training a mask."""
    needed = ("reported", "reported_error", "one", "one_error")
    known = [r for r in rows if all(r.get(name) is not None for name in needed)]
    reports = []
    for w in dict.fromkeys(r["way"] for r in known):
        own = [r for r in known if r["way"] == w]
        off = np.array([r["reported"] - r["one"] for r in own])
        error = np.array([np.hypot(r["reported_error"], r["one_error"]) for r in own])
        within = f"{int((np.abs(off) <= 2 * error).sum())} of {len(own)}"
        reports.append([w, mean_error(of(own, "reported"), 3), mean_error(of(own, "one"), 3),
                        mean_error(off, 3), within])  # fmt: skip
    head = ["scores", "self-reported", "one training a mask", "difference", "within two errors"]
    return Table(head, reports)


def _since(began: float) -> float:
    return time.perf_counter() - began
