"""A study in storage: of equal searches only, and opened by several processes at once."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import FloatDistribution
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F

from influencekit import (
    TRAK,
    GradDot,
    InfluenceFunction,
    LDSSearch,
    SubsetOutputs,
    SurrogateLambdaSearchCV,
    as_task,
)
from influencekit.curvature import EKFAC
from influencekit.data import make_examples
from influencekit.metrics import linear_datamodeling_score
from influencekit.selection._shared_study import open_study, question
from influencekit.training import retrain_on_subsets
from tests._shared.marks import NOT_TRAINED
from tests._shared.problems import digits_problem
from tests.selection._start_together import fingerprints

SPACE = {"damping": FloatDistribution(1e-3, 1.0, log=True)}

pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")


@pytest.fixture(scope="module")
def problem():
    data = digits_problem(LogisticRegression(C=10.0, max_iter=500), 90, 15)
    truth = retrain_on_subsets(*data, n_subsets=10, random_state=0)
    names = ["model", "X", "y", "X_query", "y_query", "subset_outputs"]
    return dict(zip(names, [*data, truth], strict=True))


@pytest.fixture
def storage():
    return optuna.storages.InMemoryStorage()


def search(problem, storage, attributor=None, space=SPACE, **options):
    attributor = InfluenceFunction("fisher") if attributor is None else attributor
    options = {"n_trials": 2, "random_state": 0, "study_name": "one", **options}
    return LDSSearch(attributor, space, storage=storage, **options).fit(**problem)


def changed(array):
    """A copy with another number at its end."""
    array = array.copy()
    array.reshape(-1)[-1] += 1e-3
    return array


def flipped(truth):
    return replace(truth, masks=np.concatenate([truth.masks[:-1], ~truth.masks[-1:]]))


DIFFERENT_DATA = {
    "queries": lambda p: {"X_query": changed(p["X_query"])},
    "queries by their label": lambda p: {"y_query": np.r_[p["y_query"][:-1], p["y_query"][0]]},
    "training data": lambda p: {"X": changed(p["X"])},
    "training data by a label": lambda p: {"y": np.r_[p["y"][:-1], (p["y"][-1] + 1) % 4]},
    "model": lambda p: {"model": clone(p["model"]).set_params(C=9.99).fit(p["X"], p["y"])},
    "ground truth": lambda p: {
        "subset_outputs": replace(p["subset_outputs"], outputs=changed(p["subset_outputs"].outputs))
    },
    "ground truth by its masks": lambda p: {"subset_outputs": flipped(p["subset_outputs"])},
}


@pytest.mark.parametrize("what", DIFFERENT_DATA)
def test_other_data_or_model_are_refused(problem, storage, what):
    search(problem, storage)
    other = {**problem, **DIFFERENT_DATA[what](problem)}
    named = what.split(" by ")[0]
    with pytest.raises(ValueError, match="Give another study_name") as error:
        search(other, storage)
    differing = str(error.value).split("What differs: ")[1].split(". Accepted")[0]
    assert differing == f"{named} (other contents)"
    assert ("subset_outputs=" in str(error.value)) == (named == "ground truth")
    (study,) = optuna.get_all_study_summaries(storage)
    assert study.n_trials == 2
    search(other, storage, study_name="another")


DIFFERENT_SEARCHES = [
    ("attributor", {"attributor": GradDot()}, {"attributor": TRAK()}),
    ("attributor", {}, {"attributor": InfluenceFunction("ggn")}),
    ("attributor", {}, {"attributor": InfluenceFunction("fisher", projection_dim=5)}),
    (
        "attributor",
        {"attributor": InfluenceFunction(EKFAC("true"))},
        {"attributor": InfluenceFunction(EKFAC("empirical"))},
    ),
    (
        "attributor",
        {"attributor": SurrogateLambdaSearchCV(InfluenceFunction("fisher"))},
        {"attributor": SurrogateLambdaSearchCV(InfluenceFunction("ggn"))},
    ),
    ("search space", {}, {"space": None}),
    ("search space", {}, {"space": {"damping": FloatDistribution(1e-3, 2.0, log=True)}}),
    ("search space", {}, {"space": {"damping": [0.1, 0.2]}}),
    ("metric", {}, {"correlation": "pearson"}),
]


@pytest.mark.parametrize(("what", "first", "second"), DIFFERENT_SEARCHES)
@pytest.mark.filterwarnings("ignore::influencekit.exceptions.LambdaPathWarning")  # of one search
def test_another_search_is_refused(problem, storage, what, first, second):
    spaces = {GradDot: {"max_memory": ["1GB"]}, SurrogateLambdaSearchCV: {"threshold": [0.4, 0.5]}}
    space = spaces.get(type(first.get("attributor")), SPACE)
    if "space" not in second and "attributor" in first:
        first, second = {**first, "space": space}, {**second, "space": space}
    search(problem, storage, **first)
    with pytest.raises(ValueError, match=f"What differs: {what} .*Give another study_name"):
        search(problem, storage, **second)


def test_what_does_not_change_the_question_continues(problem, storage):
    search(problem, storage)
    again = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in problem.items()}
    again["model"] = clone(problem["model"]).fit(again["X"], again["y"])
    found = search(again, storage, n_trials=3, random_state=1)
    found = search(problem, storage, InfluenceFunction("fisher", damping=0.5, batch_size=7))
    found = search(problem, storage, sampler=optuna.samplers.RandomSampler(seed=3), verbose=1)
    assert len(found.study_.trials) == 2 + 3 + 2 + 2


def test_ground_truth_from_a_file_is_the_same(problem, storage, tmp_path):
    search(problem, storage)
    problem["subset_outputs"].save(tmp_path / "truth.npz")
    stored = SubsetOutputs.load(tmp_path / "truth.npz")
    assert len(search({**problem, "subset_outputs": stored}, storage).study_.trials) == 4


def test_parameters_of_a_searched_object_may_differ(problem, storage):
    """What is searched is no part of the question, with all that it holds."""
    space = {"curvature": ["fisher", "ggn"]}
    search(problem, storage, InfluenceFunction(EKFAC("true")), space)
    search(problem, storage, InfluenceFunction("fisher"), space)
    with pytest.raises(ValueError, match="What differs: attributor"):
        search(problem, storage, InfluenceFunction(damping=0.5), space)


def test_older_studies_with_trials_are_refused(problem, storage):
    study = optuna.create_study(storage=storage, study_name="one", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("damping", 1e-3, 1, log=True), 3)
    with pytest.raises(ValueError, match=r"has 3 trials.*does not record.*give another study_name"):
        search(problem, storage)


def test_studies_made_by_hand_are_taken_while_they_are_unused(problem, storage):
    study = optuna.create_study(storage=storage, study_name="one", direction="maximize")
    study.enqueue_trial({"damping": 0.25})
    found = search(problem, storage)
    assert found.cv_results_["param_damping"][0] == 0.25
    optuna.create_study(storage=storage, study_name="other", direction="minimize")
    with pytest.raises(ValueError, match=r"directions \['minimize'\].*give another study_name"):
        search(problem, storage, study_name="other")


def test_refused_space_leaves_no_study_behind(problem, storage):
    with pytest.raises(ValueError, match="does not name parameters"):
        search(problem, storage, space={"dampings": [1.0]})
    assert optuna.get_all_study_names(storage) == []


def test_a_list_with_one_model_more_is_another_model(problem, storage):
    search({**problem, "model": [problem["model"]]}, storage)
    search({**problem, "model": [problem["model"]]}, storage)
    with pytest.raises(
        ValueError, match=r"What differs: model .got TaskList.*Give another study_name"
    ):
        search({**problem, "model": [problem["model"]] * 2}, storage)


def test_what_cannot_be_fingerprinted_is_named(problem, storage):
    class Locked(SurrogateLambdaSearchCV):
        def get_params(self, deep=True):
            return {**super().get_params(deep), "cv": threading.Lock()}

    task = as_task(problem["model"])
    data = make_examples(task, problem["X_query"], problem["y_query"])
    arguments = (problem["subset_outputs"], data, data, task, Locked(GradDot()), None, "spearman")
    with pytest.raises(ValueError, match=r"storage: the attributor .*leave storage out"):
        question(*arguments)


def test_continued_study_scores_with_the_seeds_of_its_first_search(problem, storage):
    """Random projections of another seed would make other scores of the same parameters."""
    space = {"projection_dim": [4, 6]}
    first = search(problem, storage, space=space, n_trials=4, random_state=0)
    second = search(problem, storage, space=space, n_trials=4, random_state=1)
    assert second.lds_.mean == pytest.approx(second.best_score_, abs=1e-12)
    assert second.best_attributor_.random_state == first.best_attributor_.random_state
    truth = problem["subset_outputs"]
    for params, value in zip(
        second.cv_results_["params"], second.cv_results_["mean_test_score"], strict=True
    ):
        fitted = clone(first.best_attributor_).set_params(**params)
        scores = fitted.fit(*[problem[k] for k in ("model", "X", "y")]).score(
            problem["X_query"], problem["y_query"]
        )
        lds = linear_datamodeling_score(truth.outputs, truth.masks, scores).mean
        assert value == pytest.approx(lds, abs=1e-9)


def test_best_is_a_row_while_others_add_trials(problem, storage, monkeypatch):
    """A better trial of another process that arrives at the end is in all results or in none."""
    module = "influencekit.selection._lds_search.trial_results"
    reading = sys.modules["influencekit.selection._space"].trial_results

    def read(trials):
        results = reading(trials)
        study = optuna.load_study(study_name="one", storage=storage)
        better = {"params": {"damping": 0.5}, "distributions": SPACE, "value": 2.0}
        study.add_trial(optuna.trial.create_trial(**better))
        return results

    monkeypatch.setattr(module, read)
    found = search(problem, storage, n_trials=4)
    results, best = found.cv_results_, found.best_index_
    assert found.best_params_ == results["params"][best]
    assert found.best_score_ == results["mean_test_score"][best] == found.lds_.mean
    assert results["rank_test_score"][best] == 1


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Addresses of two files on which processes started at once, and what became of them."""
    folder = tmp_path_factory.mktemp("studies")
    urls = [f"sqlite:///{folder / name}.db" for name in ("same", "different")]
    command = [sys.executable, "-m", "tests.selection._start_together", *urls]
    options = {"capture_output": True, "text": True, "check": True, "timeout": 120}
    done = subprocess.run(command, cwd=Path(__file__).parents[2], **options)
    return urls, json.loads(done.stdout)


@pytest.mark.slow
def test_processes_start_together_on_a_new_file(started):
    (url, _), report = started
    assert report["same"] == [["1", "opened"]] * 12
    assert optuna.get_all_study_names(url) == ["one"]


@pytest.mark.slow
def test_of_processes_that_start_together_one_question_wins(started):
    (_, url), report = started
    (won,) = {part for part, what in report["different"] if what == "opened"}
    outcomes = sorted(report["different"], key=lambda pair: pair[0] != won)
    assert [what for _, what in outcomes[:3]] == ["opened"] * 3
    assert all(
        what.startswith("ValueError") and "What differs: queries" in what
        for _, what in outcomes[3:]
    )
    asked = {"queries": {"fingerprint": won, "is": ""}}
    study, seeds = open_study(url, "one", None, asked, {"random_state": 0})
    assert seeds == {"random_state": int(won)} and len(study.user_attrs) == 1


@pytest.mark.slow
def test_fingerprints_do_not_depend_on_the_process(started):
    assert started[1]["fingerprints"] == fingerprints()


def test_threads_share_a_storage_object(problem, storage):
    outcomes, barrier = [], threading.Barrier(8)

    def start(part):
        barrier.wait()
        try:
            asked = {"queries": {"fingerprint": part, "is": part}}
            open_study(storage, "one", None, asked, {})
            outcomes.append((part, True))
        except ValueError:
            outcomes.append((part, False))

    threads = [threading.Thread(target=start, args=(str(i % 2),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({part for part, passed in outcomes if passed}) == 1
    assert sum(passed for _, passed in outcomes) == 4


class Activated(nn.Module):
    """Two nets of the same weights and the same text may compute different things."""

    def __init__(self, activation=torch.tanh):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(22, 5), nn.Linear(5, 4)
        self.activation = activation

    def forward(self, x):
        return self.last(self.activation(self.first(x)))


def frozen():
    net = Activated()
    net.first.requires_grad_(False)
    return net


def shifted(c):
    return lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="none") + c


OTHER_MODELS = {
    "activation": lambda: as_task(Activated(torch.relu), nn.CrossEntropyLoss()),
    "loss": lambda: as_task(Activated(), nn.CrossEntropyLoss(label_smoothing=0.3)),
    "frozen": lambda: as_task(frozen(), nn.CrossEntropyLoss()),
    "closure": lambda: as_task(Activated(), shifted(3.0)),
}


@NOT_TRAINED
@pytest.mark.parametrize("other", OTHER_MODELS)
def test_models_of_the_same_weights_are_told_apart(problem, storage, other):
    loss = shifted(0.0) if other == "closure" else nn.CrossEntropyLoss()
    same = {**problem, "model": as_task(Activated(), loss)}
    search(same, storage)
    search({**same, "model": as_task(Activated(), loss)}, storage)  # made again: the same
    with pytest.raises(ValueError, match="What differs: model"):
        search({**same, "model": OTHER_MODELS[other]()}, storage)
