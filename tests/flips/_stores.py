"""Each kind of file that the library writes, small: how it is made, and what is read of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier

from influencekit import GradDot, InfluenceFunction, SubsetOutputs, retrain_on_subsets
from influencekit.exceptions import TrajectoryError
from influencekit.index import load, save
from influencekit.training import SubsetRuns, Trajectory
from influencekit.training._cache import OutputCache
from influencekit.training.trajectory._trajectory import Snapshot

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(3, 4))
MASKS = np.eye(3, 8, dtype=bool)
X, Y = RNG.normal(size=(12, 2)), np.arange(12) % 2
THETA = {"theta": {"weight": torch.arange(3.0)}}


class Store(NamedTuple):
    """Files of one kind.

    Parameters
    ----------
    write : callable
        ``write(folder)``.
    read : callable
        ``read(folder)``: arrays of what the files hold.
    error : type or ()
        What names the folder where a file is damaged; () where it is made again, with a warning.
    """

    write: Callable
    read: Callable
    error: type | tuple = ()


@cache
def model(kind):
    made = LogisticRegression() if kind == "linear" else MLPClassifier((2,), max_iter=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return made.fit(X, Y)


def _write_chunk(folder):
    OutputCache(folder, "key").store("chunk", VALUES, {"more": np.arange(5)})


def _read_chunk(folder):
    cache, at_most = OutputCache(folder, "key"), 2**20
    found = cache.load_all("chunk", VALUES.shape, at_most)
    if found is None:  # is made again
        _write_chunk(folder)
        found = cache.load_all("chunk", VALUES.shape, at_most)
    return [found[0], found[1]["more"]]


def _retrained(folder):
    tree = DecisionTreeClassifier(max_depth=2, random_state=0).fit(X, Y)
    masks = np.array([[True] * 8 + [False] * 4, [False] * 4 + [True] * 8])
    truth = retrain_on_subsets(
        tree, X, Y, X[:2], Y[:2], masks=masks, cache_dir=folder / "cache", random_state=0
    )
    return [truth.outputs, truth.seeds]


def _truth(**more):
    return {"masks": MASKS, "outputs": VALUES[:, None], "seeds": np.arange(3)[:, None], **more}


def _write_outputs(folder):
    SubsetOutputs(**_truth(), output="margin").save(folder / "truth.npz")


def _write_runs(folder):
    states = [[{0: {"w": torch.arange(3.0)}, 5: {"w": torch.ones(3)}}]] * 3
    SubsetRuns(**_truth(), output="margin", states=states).save(folder / "runs.npz")


def _arrays(truth):
    return [truth.masks, truth.outputs, truth.seeds, np.array(truth.output)]


def _read_runs(folder):
    found = SubsetRuns.load(folder / "runs.npz")
    states = [state for repeats in found.states for run in repeats for state in run.values()]
    return [*_arrays(found), *(tensor.numpy() for state in states for tensor in state.values())]


def _write_trajectory(folder):
    Trajectory(
        optimizer="SGD",
        groups=(("weight",),),
        options={"lr": np.array([[0.1], [0.2]])},
        switches={"momentum": False, "nesterov": False},
        batches=(np.arange(2), np.arange(3)),
        max_norm=np.array([np.nan, 1.0]),
        snapshots={0: Snapshot(THETA, 0), 2: Snapshot(THETA, 2)},
        n_rows=3,
    ).save(folder)


def _read_trajectory(folder):
    run = Trajectory.load(folder)
    named = [*run.groups, run.optimizer, run.switches, run.n_rows, run.reduction]
    states = [run.snapshots[step] for step in sorted(run.snapshots)]
    theta = [s.tensors["theta"]["weight"].numpy() for s in states]
    counts = np.array([s.count for s in states])
    return [
        np.array(repr(named)),
        *run.options.values(),
        *run.batches,
        run.max_norm,
        counts,
        *theta,
    ]


def _saved(attributor, kind):
    def write(folder):
        save(attributor.fit(model(kind), X, Y), folder)

    def read(folder):
        found = load(folder, model(kind))
        named = np.array(repr(found))
        return [named, found.score(X[:3], Y[:3]), found.self_influence()]

    return Store(write, read, ValueError)


STORES: dict[str, Store] = {
    "cache entry": Store(_write_chunk, _read_chunk),
    "retraining with cache_dir": Store(_retrained, _retrained),
    "SubsetOutputs": Store(
        _write_outputs, lambda f: _arrays(SubsetOutputs.load(f / "truth.npz")), ValueError
    ),
    "SubsetRuns": Store(_write_runs, _read_runs, ValueError),
    "recording": Store(_write_trajectory, _read_trajectory, TrajectoryError),
    "saved GradDot": _saved(GradDot(), "linear"),
    "saved influence": _saved(InfluenceFunction(), "linear"),
    "saved ekfac": _saved(InfluenceFunction("ekfac", 0.1), "net"),
}


def files_of(folder: Path) -> list[Path]:
    """Files of a store, in an order that stays."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
