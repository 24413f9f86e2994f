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
from influencekit.utils import _files
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


def search(problem, storage, sampler="default", space=SPACE, n_trials=6, **options):
    made = LDSSearch(
        InfluenceFunction("fisher", **options),
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


class KilledAtAWrite(optuna.storages.InMemoryStorage):
    """Storage whose process is killed when it has written so many times."""

    def __init__(self):
        super().__init__()
        self.n_left = np.inf


def _killed_or_writing(name):
    written = getattr(optuna.storages.InMemoryStorage, name)

    def write(self, *args, **options):
        if self.n_left == 0:
            raise Killed
        self.n_left -= 1
        return written(self, *args, **options)

    return write


for _name in (
    "create_new_study",
    "create_new_trial",
    "set_study_user_attr",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_system_attr",
    "set_trial_user_attr",
):
    setattr(KilledAtAWrite, _name, _killed_or_writing(_name))


def ended_after_kills(problem, *n_writes, **options):
    """A search whose processes are killed after so many writes, and whose last one is not.

    Returns None if one of them came to its end.
    """
    storage = KilledAtAWrite()
    for storage.n_left in n_writes:
        try:
            search(problem, storage, **options)
        except (Killed, UnboundLocalError):  # Optuna names what it was told before it looks
            continue
        return None
    storage.n_left = np.inf
    return search(problem, storage, **options)


def assert_ended_equally(ended, whole):
    assert ended.best_params_ == whole.best_params_
    assert ended.cv_results_["params"].tolist() == whole.cv_results_["params"].tolist()
    for name in ("mean_test_score", "se_test_score", "rank_test_score"):
        np.testing.assert_array_equal(ended.cv_results_[name], whole.cv_results_[name])
    states = [t.state for t in ended.study_.trials]
    assert states.count(TrialState.COMPLETE) == len(whole.cv_results_["params"])
    assert set(states) <= {TrialState.COMPLETE, TrialState.FAIL}


@pytest.mark.parametrize("space", [SPACE, None], ids=["given", "default"])
def test_a_search_killed_between_any_two_writes_ends_as_an_unbroken_one(problem, space):
    options = {"space": space, "damping": 0.1, "n_trials": 3}
    whole, n_ended = search(problem, optuna.storages.InMemoryStorage(), **options), 0
    while (ended := ended_after_kills(problem, n_ended, **options)) is not None:
        assert_ended_equally(ended, whole)
        n_ended += 1
    assert n_ended > 15


def test_a_search_killed_while_it_is_taken_over_ends_as_an_unbroken_one(problem):
    """Its first trial is one that it was told to try, and the second waits."""
    options = {"space": None, "damping": 0.1, "n_trials": 2}
    whole, n_ended = search(problem, optuna.storages.InMemoryStorage(), **options), 0
    n_writes = 7  # the study, its question and the search; two trials to try; the first has begun
    while (ended := ended_after_kills(problem, n_writes, n_ended, **options)) is not None:
        assert_ended_equally(ended, whole)
        n_ended += 1
    assert n_ended > 15


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("space", [SPACE, None], ids=["given", "default"])
def test_a_killed_search_ends_as_an_unbroken_one(problem, monkeypatch, sampler, space):
    options = {"sampler": sampler, "space": space}
    whole = search(problem, optuna.storages.InMemoryStorage(), **options)
    storage = optuna.storages.InMemoryStorage()
    for trial in (0, 1, 3):  # the third search is killed after it has repeated what was done
        killed_at(trial, monkeypatch, problem, storage, **options)
    assert_ended_equally(search(problem, storage, **options), whole)


def test_a_search_killed_after_its_last_trial_ends_as_an_unbroken_one(problem, monkeypatch):
    storage = optuna.storages.InMemoryStorage()
    whole = search(problem, optuna.storages.InMemoryStorage())

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LDSSearch, "_adopt", killed)
        with pytest.raises(Killed):
            search(problem, storage)
    assert_ended_equally(search(problem, storage), whole)


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
    parent, begun = os.getppid(), own.rpartition(".")[2]
    others = own.replace(f"-{os.getpid()}-", f"-{parent}-").removesuffix(begun)
    assert not _broken_search._is_dead(others + _files._begun(parent))
    assert _broken_search._is_dead(f"{others}1")  # its number is another process's now
    assert not _broken_search._is_dead("another1" + own[8:])
