"""Attributors of the final model and their averages along the run, explaining any output."""

from __future__ import annotations

import copy
import time
from functools import partial

import numpy as np

from benchmarks.harness import Table
from benchmarks.harness.tables import of, short
from influencekit import TRAK, GradDot, InfluenceFunction, RunAverage
from influencekit.models import load_checkpoints

_OTHERS = {
    "ekfac": lambda: InfluenceFunction("ekfac"),
    "kfac": lambda: InfluenceFunction("kfac"),
    "logra": lambda: InfluenceFunction("logra", random_state=0),
    "TRAK": lambda: TRAK(projection_dim=512, random_state=0),
    "GradDot": GradDot,
}
WAYS = {
    "final": InfluenceFunction, "average": RunAverage, "end": partial(RunAverage, slopes="end"),
}  # fmt: skip
METHODS: dict = {}
for _name, _make in _OTHERS.items():
    METHODS |= {_name: _make, f"{_name}, average": lambda make=_make: RunAverage(make())}


def explaining(attributor, output: str, queries: tuple) -> np.ndarray:
    """Scores of a fitted attributor for another output than it was fitted with."""
    other = copy.copy(attributor)
    other.fitted_ = [fitted.explaining(output) for fitted in attributor.fitted_]
    return other.score(*queries)


def checkpoints(net, train: tuple) -> list:
    """``InfluenceFunction()`` at each checkpoint that a net kept."""
    states = dict(net.callbacks_)["KeepCheckpoints"].checkpoints_.values()
    return [InfluenceFunction().fit(model, *train) for model in load_checkpoints(net, states)]


def fitted_with_costs(ways: dict, net, train: tuple) -> tuple[dict, dict]:
    """Fitted attributors; seconds of each fit, and bytes of the weights that the net kept."""
    attributors, costs = {}, {}
    for name, make in ways.items():
        began = time.perf_counter()
        attributors[name] = make().fit(net, *train)
        costs[f"{name}, seconds"] = time.perf_counter() - began
    kept = dict(net.callbacks_)["KeepCheckpoints"].checkpoints_.values()
    sizes = [t.numel() * t.element_size() for state in kept for t in state.values()]
    return attributors, {**costs, "bytes kept": sum(sizes)}


def costs(rows: list[dict]) -> Table:
    """Seconds of the fits and kilobytes of the weights, over the cells of each part."""
    lines = []
    for part in dict.fromkeys(r["part"] for r in rows if r.get("final, seconds")):
        own = [r for r in rows if r["part"] == part]
        final, average, kept = (
            of(own, k) for k in ("final, seconds", "average, seconds", "bytes kept")
        )
        ratio = np.median(np.array(average) / np.array(final))
        numbers = np.mean(final), np.mean(average), ratio, max(kept) / 1000
        lines.append([part, *(short(value, 2) for value in numbers)])
    return Table(["fit", "final, s", "average, s", "median ratio", "most kept, kB"], lines)


def unit(parts: list, output: str, queries: tuple) -> np.ndarray:
    """Mean over checkpoints of scores at length 1."""
    scores = [explaining(part, output, queries) for part in parts]
    return sum(s / np.linalg.norm(s, axis=1, keepdims=True) for s in scores) / len(scores)


def as_loss(outputs: np.ndarray, y: np.ndarray, classifies: bool) -> np.ndarray:
    """Negative losses of margins or predictions: log p = -log(1 + exp(-margin))."""
    return -np.logaddexp(0.0, -outputs) if classifies else -((outputs - y[:, 0]) ** 2)
