"""Passes that workers share: the bits of one process, whoever makes them."""

import joblib
import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import TRAK, FurtherTraining, GradCos, GradDot, InfluenceFunction, as_task
from influencekit.curvature import EKFAC, KFAC
from influencekit.exceptions import LostWorkersError
from influencekit.gradients import _workers
from influencekit.training import TrajectoryRecorder, trajectory_leave_one_out
from influencekit.utils import _parallel

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
rng = np.random.default_rng(0)
X = rng.normal(size=(150, 5)).astype("f4")
y = rng.integers(0, 3, 150)
WORDS = rng.integers(0, 9, size=(150, 4))


def mlp():
    torch.manual_seed(0)
    return as_task(
        nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)), nn.CrossEntropyLoss()
    )


def words():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(16, 3))
    return as_task(net, nn.CrossEntropyLoss())


def influence(curvature, memory="1GB", **options):
    return InfluenceFunction(
        curvature, batch_size=16, max_memory=memory, random_state=0, damping=0.1, **options
    )


CASES = {
    "products": GradDot(batch_size=16, max_memory="1GB"),
    "products in little memory": GradDot(batch_size=16, max_memory="300kB"),
    "cosines": GradCos(batch_size=16, max_memory="1GB"),
    "covariance": influence("ggn"),
    "covariance in little memory": influence("ggn", "400kB"),
    "projected": influence("ggn", projection_dim=8),
    "projected Fisher": influence("fisher", projection_dim=8),
    "TRAK": TRAK(projection_dim=8, batch_size=16, max_memory="1GB", random_state=0),
    "moments": influence("kfac", "300kB"),
    "corrected moments": influence("ekfac", "300kB"),
    "projected layers": influence("logra"),
    "groups of layers": influence("datainf"),
}


@pytest.fixture(autouse=True)
def small_slices(monkeypatch):
    """Slices of two batches, and the number of items that workers were sent."""
    sent = []
    original = _parallel.in_parallel

    def counted(function, items, *given, **shared):
        sent.append(len(items))
        return original(function, items, *given, **shared)

    monkeypatch.setattr(_workers, "_ROWS", 32)
    monkeypatch.setattr(_workers, "in_parallel", counted)
    monkeypatch.setattr(_parallel, "in_parallel", counted)
    return sent


def answers(attributor, task, rows):
    fitted = attributor.fit(task, rows, y)
    found = [fitted.score(rows[:7], y[:7]), fitted.self_influence()]
    return [*found, *fitted.top_k(rows[:3], y[:3], k=4)]


def same(left, right):
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one, other)


QUICK = {"products in little memory", "projected", "corrected moments"}
SLOW = [pytest.param(case, marks=pytest.mark.slow) for case in CASES if case not in QUICK]


@pytest.mark.parametrize("case", [*sorted(QUICK), *SLOW])
def test_two_workers_give_the_bits_of_one_process(case, small_slices):
    alone = answers(CASES[case], mlp(), X)
    assert small_slices == []
    with joblib.parallel_config(backend="threading", n_jobs=2):
        together = answers(CASES[case], mlp(), X)
    assert sum(small_slices) >= 5
    same(together, alone)


@pytest.mark.slow
@pytest.mark.parametrize("curvature", ["kfac", "ekfac"])
def test_frequencies_of_words_are_summed_in_order(curvature, small_slices):
    held = influence(curvature, "300kB")
    alone = answers(held, words(), WORDS)
    with joblib.parallel_config(backend="threading", n_jobs=3):
        same(answers(held, words(), WORDS), alone)
    assert small_slices


def test_drawn_labels_belong_to_rows_not_to_slices(small_slices):
    held = influence("kfac", "300kB")
    held.set_params(curvature=KFAC("sampled", n_samples=2))
    alone = answers(held, mlp(), X)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        same(answers(held, mlp(), X), alone)
    assert small_slices


@pytest.mark.parametrize("curvature", [KFAC("sampled"), KFAC("empirical"), EKFAC("sampled")])
def test_a_batch_read_after_earlier_results_were_added_starts_from_zero(curvature, monkeypatch):
    def one_by_one(function, items, _, **shared):
        for position, item in enumerate(items):
            yield position, function(item(), **shared)  # the next only when this one was added

    alone = answers(influence(curvature, "100kB"), mlp(), X)
    monkeypatch.setattr(_workers, "in_parallel", one_by_one)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        same(answers(influence(curvature, "100kB"), mlp(), X), alone)


def test_one_worker_and_small_data_stay_here(small_slices):
    with joblib.parallel_config(backend="threading", n_jobs=1):
        GradDot(batch_size=16).fit(mlp(), X, y).score(X[:2])
    with joblib.parallel_config(backend="threading", n_jobs=2):
        GradDot(batch_size=16).fit(mlp(), X[:32], y[:32]).score(X[:2])
    assert small_slices == []


def test_what_is_lost_again_and_again_is_said(monkeypatch):
    def once(*_):
        raise _parallel._Lost from ConnectionError("no scheduler")
        yield

    fitted = GradDot(batch_size=16).fit(mlp(), X, y)
    with monkeypatch.context() as patch, joblib.parallel_config(backend="threading", n_jobs=2):
        patch.setattr(_parallel, "_once", once)
        with pytest.raises(LostWorkersError, match="no scheduler"):
            fitted.score(X[:2], y[:2])
    same(
        [fitted.score(X[:2], y[:2])], [GradDot(batch_size=16).fit(mlp(), X, y).score(X[:2], y[:2])]
    )


def test_further_training_shares_its_runs(small_slices):
    held = FurtherTraining(
        lr=0.1, n_steps=2, left_out=np.arange(3), n_repeats=2, random_state=0, max_memory="20kB"
    )
    alone = held.fit(mlp(), X[:20], y[:20]).score(X[:4], y[:4])
    with joblib.parallel_config(backend="threading", n_jobs=2):
        together = held.fit(mlp(), X[:20], y[:20]).score(X[:4], y[:4])
    assert small_slices
    np.testing.assert_array_equal(together, alone)


def test_reruns_of_a_recorded_run_are_shared(small_slices, tmp_path):
    rows, labels = X[:20], y[:20]
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(5, 3)), criterion=nn.CrossEntropyLoss, max_epochs=2, batch_size=10,
        train_split=None, verbose=0, callbacks=[TrajectoryRecorder()],
    ).fit(rows, labels)  # fmt: skip
    given = {"left_out": np.arange(6), "chunk_size": 2}
    alone = trajectory_leave_one_out(net, rows, labels, rows[:3], labels[:3], **given)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        together = trajectory_leave_one_out(
            net, rows, labels, rows[:3], labels[:3], **given, cache_dir=tmp_path
        )
    assert small_slices == [3]
    np.testing.assert_array_equal(together.outputs, alone.outputs)
