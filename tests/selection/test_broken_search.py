"""A search in storage that a kill has ended ends as one that was not interrupted."""

import os
import subprocess
import sys

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from sklearn.linear_model import LogisticRegression

from influencekit import InfluenceFunction, LDSSearch
from influencekit.selection import _broken_search
from influencekit.selection._scorer import FitCache
from influencekit.training import retrain_on_subsets
from tests._shared.problems import digits_problem

pytestmark = [
    pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning"),
    pytest.mark.filterwarnings("ignore::influencekit.exceptions.LambdaPathWarning"),
]

SPACE = {"damping": FloatDistribution(1e-3, 1.0, log=True)}
SAMPLERS = {
    "default": lambda: None,
    "random": lambda: optuna.samplers.RandomSampler(seed=3),
    "TPE": lambda: optuna.samplers.TPESampler(seed=3, n_startup_trials=2),
}


class Killed(BaseException):
    """Ends a search as SIGKILL does: Optuna leaves its trial running."""


@pytest.fixture(scope="module")
def problem():
    data = digits_problem(LogisticRegression(C=10.0, max_iter=500), 60, 10)
    truth = retrain_on_subsets(*data, n_subsets=8, random_state=0)
    names = ["model", "X", "y", "X_query", "y_query", "subset_outputs"]
    return dict(zip(names, [*data, truth], strict=True))


def search(problem, storage, sampler="default", space=SPACE, n_trials=6):
    made = LDSSearch(
        InfluenceFunction("fisher"),
        space,
        n_trials=n_trials,
        sampler=SAMPLERS[sampler](),
        storage=storage,
        study_name="one",
        random_state=0,
    )
    return made.fit(**problem)


def killed_at(trial, monkeypatch, problem, storage, **options):
    """A search that is killed in this trial."""
    predict, calls = FitCache.predict, []

    def predict_or_die(self, params):
        calls.append(params)
        if len(calls) == trial + 1:
            raise Killed
        return predict(self, params)

    with monkeypatch.context() as patch:
        patch.setattr(FitCache, "predict", predict_or_die)
        with pytest.raises(Killed):
            search(problem, storage, **options)
    states = [t.state for t in optuna.load_study(study_name="one", storage=storage).trials]
    assert states.count(TrialState.RUNNING) == 1


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("space", [SPACE, None], ids=["given", "default"])
def test_a_killed_search_ends_as_an_unbroken_one(problem, monkeypatch, sampler, space):
    options = {"sampler": sampler, "space": space}
    whole = search(problem, optuna.storages.InMemoryStorage(), **options)
    storage = optuna.storages.InMemoryStorage()
    for trial in (0, 1, 3):  # the third search is killed after it has repeated what was done
        killed_at(trial, monkeypatch, problem, storage, **options)
    ended = search(problem, storage, **options)
    assert ended.best_params_ == whole.best_params_
    assert ended.cv_results_["params"].tolist() == whole.cv_results_["params"].tolist()
    for name in ("mean_test_score", "se_test_score", "rank_test_score"):
        np.testing.assert_array_equal(ended.cv_results_[name], whole.cv_results_[name])
    states = [t.state for t in ended.study_.trials]
    assert states.count(TrialState.COMPLETE) == 6
    assert set(states) <= {TrialState.COMPLETE, TrialState.FAIL}


def test_a_killed_search_in_a_file_goes_on(problem, monkeypatch, tmp_path):
    """Its study has another number than the one in memory, which samplers remember."""
    whole = search(problem, f"sqlite:///{tmp_path}/whole.db", sampler="TPE")
    storage = f"sqlite:///{tmp_path}/broken.db"
    killed_at(3, monkeypatch, problem, storage, sampler="TPE")
    ended = search(problem, storage, sampler="TPE")
    assert ended.cv_results_["params"].tolist() == whole.cv_results_["params"].tolist()


def test_a_search_that_ended_is_continued_with_as_many_trials(problem):
    storage = optuna.storages.InMemoryStorage()
    search(problem, storage, n_trials=2)
    assert len(search(problem, storage, n_trials=3).study_.trials) == 5


def test_trials_of_running_searches_are_left_alone(problem, monkeypatch):
    storage = optuna.storages.InMemoryStorage()
    killed_at(1, monkeypatch, problem, storage)
    study = optuna.load_study(study_name="one", storage=storage)
    (name,) = study.user_attrs["influencekit_searches"]
    monkeypatch.setattr(_broken_search, "_RUNNING", {name})  # it was not killed after all
    ended = search(problem, storage, n_trials=2)
    states = [t.state for t in ended.study_.trials]
    assert states == [TrialState.COMPLETE, TrialState.RUNNING] + [TrialState.COMPLETE] * 2


def test_searches_of_ended_processes_are_dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    own = _broken_search.unfinished_name("")
    assert _broken_search._is_dead(own)
    assert _broken_search._is_dead(own.replace(f"-{os.getpid()}-", f"-{process.pid}-"))
    assert not _broken_search._is_dead(own.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
    assert not _broken_search._is_dead("another1" + own[8:])
