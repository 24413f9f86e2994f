"""Seeded runs that are killed again and again end with the bits of an unbroken run."""

import os
import signal
import time
import warnings

import numpy as np
import optuna
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import (
    FurtherTraining,
    InfluenceFunction,
    LDSSearch,
    SubsetPosterior,
    retrain_on_subsets,
)

#: Kills of each kind of run; 200 in all.
N_KILLS = int(os.environ.get("INFLUENCEKIT_KILLS", "50"))

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % 2
DATA = X, Y, X[:6], Y[:6]


def net():
    return NeuralNetClassifier(
        nn.Linear, module__in_features=4, module__out_features=2, max_epochs=3, batch_size=16,
        criterion=nn.CrossEntropyLoss, train_split=None, verbose=0,
    )  # fmt: skip


def retrained(folder, engine="joblib"):
    truth = retrain_on_subsets(
        net(), *DATA, n_subsets=12, engine=engine, cache_dir=folder, random_state=0
    )
    return truth.outputs


def stacked(folder):
    return retrained(folder, "stacked")


def searched(folder):
    search = LDSSearch(
        InfluenceFunction("fisher"),
        {"damping": optuna.distributions.FloatDistribution(1e-3, 1e2, log=True)},
        n_trials=12,
        sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=4),
        storage=f"sqlite:///{folder}/study.db",
        study_name="kills",
        n_subsets=6,
        cache_dir=folder,
        random_state=0,
    )
    search.fit(LogisticRegression().fit(*DATA[:2]), *DATA[:2], X_query=DATA[2], y_query=DATA[3])
    tried = [params["damping"] for params in search.cv_results_["params"]]
    kept = [d for d, m in zip(tried, search.cv_results_["mean_test_score"], strict=True) if m == m]
    return np.array([search.best_params_["damping"], search.best_score_, *kept])


def trained():
    torch.manual_seed(0)
    return net().fit(X, Y)


def further(folder):
    attributor = FurtherTraining(
        "sgd", lr=0.1, n_steps=6, n_repeats=8, left_out=10, cache_dir=folder, random_state=0
    )
    return attributor.fit(trained(), X, Y).score(*DATA[2:])


def posterior(folder):
    attributor = SubsetPosterior(
        InfluenceFunction("fisher"), n_trainings=12, cache_dir=folder, random_state=0
    )
    fitted = attributor.fit(trained(), *DATA[:2], X_query=DATA[2], y_query=DATA[3])
    return fitted.score(*DATA[2:])


RUNS = {f.__name__: f for f in (retrained, stacked, searched, further, posterior)}


def begun(run, folder):
    """Process number of a child that makes the run and writes what comes out."""
    child = os.fork()
    if child:
        return child
    try:
        warnings.simplefilter("ignore")
        os.makedirs(folder, exist_ok=True)
        np.save(f"{folder}/.part.npy", run(str(folder)))
        os.rename(f"{folder}/.part.npy", f"{folder}/result.npy")
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(1)


def finished(run, folder, wait=None):
    """Whether the run came to its end; ``wait(child, folder)`` returns when it is to be killed."""
    child = begun(run, folder)
    if wait is not None:
        wait(child, folder)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL) and (wait is not None or status == 0)
    return status == 0


def after(seconds):
    return lambda *_: time.sleep(seconds)


def while_it_writes(n_writes, seconds):
    """Wait until a study is being written for the n-th time, and for some more seconds."""

    def wait(child, folder):
        n_seen, was_writing = 0, False
        while n_seen < n_writes and not os.waitid(os.P_PID, child, _ENDED):
            writing = (folder / "study.db-journal").exists()
            n_seen, was_writing = n_seen + (writing and not was_writing), writing
        time.sleep(seconds)

    return wait


#: Ask whether a process has ended, and leave it as it is.
_ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT


def broken(run, parent, n_kills, most, draw_wait):
    """Folders of runs with so many kills in all, and at most some of them a run."""
    left, n_runs = n_kills, 0
    while left:
        folder, here = parent / f"broken{n_runs}", 0
        while here < min(left, most) and not finished(run, folder, draw_wait()):
            here += 1
        left, n_runs = left - here, n_runs + 1
        if not (folder / "result.npy").exists():
            finished(run, folder)
        yield folder, here


def unbroken(run, parent):
    """What comes out, and the seconds that a second run takes."""
    (parent / "whole").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = run(str(parent / "whole"))  # so that children have all that is loaded late
    start = time.monotonic()
    finished(run, parent / "timed")
    return expected, time.monotonic() - start


def all_equal(name, folders, expected):
    kills = []
    for folder, n_kills in folders:
        kills.append(n_kills)
        np.testing.assert_array_equal(np.load(folder / "result.npy"), expected)
    print(f"{name}: {sum(kills)} kills of {len(kills)} runs ({kills}), all equal", flush=True)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


@pytest.mark.parametrize("name", RUNS)
def test_killed_runs_end_with_the_same_bits(name, tmp_path):
    run, rng = RUNS[name], np.random.default_rng(0)
    expected, seconds = unbroken(run, tmp_path)
    waits = (after(rng.uniform(0, 0.9 * seconds)) for _ in iter(int, 1))
    all_equal(name, broken(run, tmp_path, N_KILLS, 8, waits.__next__), expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_one_search_killed_at_its_writes_ends_with_the_same_bits(seed, tmp_path):
    """Each kill comes in or after one of the first writes, so that it leaves little done."""
    rng, n_kills = np.random.default_rng(seed), max(N_KILLS, 40)
    expected, _ = unbroken(searched, tmp_path)
    waits = (while_it_writes(rng.integers(1, 8), rng.uniform(0, 0.004)) for _ in iter(int, 1))
    folders = broken(searched, tmp_path, n_kills, n_kills, waits.__next__)
    all_equal("searched", folders, expected)
