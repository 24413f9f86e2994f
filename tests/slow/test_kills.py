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
    """Whether the run came to its end before it was killed after some seconds."""
    child = begun(run, folder)
    if wait is not None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert wait is not None or status == 0
    return status == 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", RUNS)
def test_killed_runs_end_with_the_same_bits(name, tmp_path):
    run, rng = RUNS[name], np.random.default_rng(0)
    (tmp_path / "whole").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = run(str(tmp_path / "whole"))  # so that children have all that is loaded late
    start = time.monotonic()
    finished(run, tmp_path / "timed")
    seconds = time.monotonic() - start
    n_kills, n_runs = 0, 0
    while n_kills < N_KILLS:
        folder, n_runs = tmp_path / f"broken{n_runs}", n_runs + 1
        for _ in range(8):
            if n_kills == N_KILLS or finished(run, folder, rng.uniform(0, 0.9 * seconds)):
                break
            n_kills += 1
        if not (folder / "result.npy").exists():
            finished(run, folder)
        np.testing.assert_array_equal(np.load(folder / "result.npy"), expected)
    print(f"{name}: {n_kills} kills of {n_runs} runs of {seconds:.1f} s, all equal")
