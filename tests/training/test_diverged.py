"""Trainings that diverge: refused with their names, or kept as NaN, and never stored as truth."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, SGDRegressor
from torch import nn

from influencekit import LDSSearch, as_task, retrain_on_subsets
from influencekit.attributors import FurtherTraining, InfluenceFunction
from influencekit.exceptions import InfluenceKitWarning
from influencekit.metrics import linear_datamodeling_score, noise_ceiling
from influencekit.training import (
    SubsetOutputs,
    Training,
    train_checkpoints,
    trajectory_leave_one_out,
)
from influencekit.training.leave_one_out._result import TrajectoryLeaveOneOut
from influencekit.training.subsets import _engines, _stacked
from tests._shared.nets import OneLayer
from tests.training._rerun_reference import X as RUN_X
from tests.training._rerun_reference import Y as RUN_Y
from tests.training._rerun_reference import recorded
from tests.training._training_nets import Logits, make_data, make_net, outputs_alone

X, Y = make_data()
POISON, Y[:2] = X.copy(), [0, 1]
POISON[:2] = 1e200  # of two classes: a linear model that learns from both rows diverges
QUERIES = X[5:12], Y[5:12]
MASKS = np.ones((4, 45), dtype=bool)
MASKS[0, :9] = MASKS[2, :7] = MASKS[3, [0, 1, 3]] = False
BAD = np.array([False, True, False, False])
LINEAR = {"module__n_in": 5, "module__dtype": torch.float64}


def retrain(model=None, X=POISON, masks=MASKS, **options):
    model = make_net(OneLayer, **LINEAR) if model is None else model
    settings = {"masks": masks, "random_state": 0, "engine": "stacked"}
    return retrain_on_subsets(model, X, Y, *QUERIES, **settings | options)


def stored(folder):
    """Outputs in every file of a cache, by name."""
    found = {}
    for path in sorted(Path(folder).glob("*/*.npz")):
        with np.load(path) as file:
            found[path.name] = file["outputs"]
    return found


@pytest.fixture
def one_by_one(monkeypatch):
    monkeypatch.setattr(_stacked, "MAX_MODELS", 1)


@pytest.mark.parametrize("engine", ["stacked", "joblib"])
def test_refused_by_name_and_not_stored(tmp_path, monkeypatch, one_by_one, engine):
    with pytest.raises(
        ValueError, match=r"subset 1 under seed \d+ at all 7 queries.*on_nan='keep'"
    ):
        retrain(engine=engine, cache_dir=tmp_path, n_repeats=2)
    first = stored(tmp_path)
    assert len(first) >= 2 and all(np.isfinite(outputs).all() for outputs in first.values())
    with pytest.warns(
        InfluenceKitWarning, match=r"2 of 8 trainings .*: subset 1 under seed .*NaN in the result"
    ):
        kept = retrain(engine=engine, cache_dir=tmp_path, n_repeats=2, on_nan="keep")
    np.testing.assert_array_equal(kept.diverged, np.repeat(BAD[:, None], 2, axis=1))
    assert np.isnan(kept.outputs[1]).all() and "not_finite=14" in repr(kept)
    good = SubsetOutputs(MASKS[~BAD], kept.outputs[~BAD], kept.seeds[~BAD])
    alone = outputs_alone(make_net(OneLayer, **LINEAR), POISON, Y, *QUERIES, good)
    np.testing.assert_allclose(good.outputs, alone, rtol=1e-9)
    assert set(first) < set(stored(tmp_path))
    monkeypatch.setattr(_stacked.StackedRetrainer, "run", None)
    monkeypatch.setattr(_engines, "run_jobs", lambda *nothing: iter(()))
    with pytest.warns(InfluenceKitWarning):
        again = retrain(engine=engine, cache_dir=tmp_path, n_repeats=2, on_nan="keep")
    np.testing.assert_array_equal(again.outputs, kept.outputs)


def test_the_error_travels_between_processes():
    with pytest.raises(ValueError, match="subset 1") as error:
        retrain()
    again = pickle.loads(pickle.dumps(error.value))
    assert str(again) == str(error.value) and type(again) is type(error.value)


def test_what_keep_stored_is_no_truth_for_raise(tmp_path, one_by_one):
    with pytest.warns(InfluenceKitWarning):
        retrain(cache_dir=tmp_path, on_nan="keep")
    with pytest.raises(ValueError, match="subset 1 under seed"):
        retrain(cache_dir=tmp_path)


def predicted_class(outputs, targets):
    return outputs.argmax(-1).double()


def predicted_class_of_infinity(outputs, targets):
    return (outputs + torch.inf).argmax(-1).double()


@pytest.mark.parametrize("engine", ["stacked", "joblib"])
def test_functions_that_make_numbers_of_nan(engine):
    """The position of the largest of three NaN is a number."""
    assert predicted_class(torch.full((1, 3), torch.nan), None).isfinite().all()
    with pytest.raises(ValueError, match="subset 1 under seed"):
        retrain(engine=engine, output=predicted_class)
    with pytest.warns(InfluenceKitWarning):
        kept = retrain(engine=engine, output=predicted_class, on_nan="keep")
    np.testing.assert_array_equal(kept.diverged[:, 0], BAD)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("engine", ["stacked", "joblib"])
def test_single_queries_are_named(engine, value):
    def some(outputs, targets):
        values = outputs.sum(-1)
        values[[1, 4]] = value
        return values

    with pytest.raises(ValueError, match=r"subset 0 under seed \d+ at 2 of 7 queries \(1, 4\)"):
        retrain(X=X, engine=engine, output=some)
    with pytest.warns(InfluenceKitWarning, match="4 of 4 trainings"):
        kept = retrain(X=X, engine=engine, output=some, on_nan="keep")
    expected = np.isin(np.arange(7), [1, 4])
    np.testing.assert_array_equal(np.isnan(kept.outputs), np.broadcast_to(expected, (4, 1, 7)))


def test_a_class_that_is_impossible_is_no_divergence():
    def train(X_subset, y_subset, seed):
        class Masked(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(5, 3, dtype=torch.float64)

            def forward(self, X):
                return self.linear(X).masked_fill(torch.tensor([False, False, True]), -torch.inf)

        return as_task(Masked(), loss=nn.CrossEntropyLoss())

    found = retrain_on_subsets(
        None, X, Y, X[:4], np.zeros(4, int), masks=MASKS, output=predicted_class, retrain=train
    )
    assert set(np.unique(found.outputs)) <= {0.0, 1.0}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # it cannot converge
def test_scikit_learn_that_says_so_itself():
    model = SGDRegressor(loss="squared_error", eta0=1e200, learning_rate="constant")
    options = {"masks": MASKS, "random_state": 0}
    with pytest.raises(ValueError, match="subset 0 under seed"):
        retrain_on_subsets(model, X, 1.0 * Y, X[:4], 1.0 * Y[:4], **options)
    with pytest.warns(InfluenceKitWarning, match="4 of 4 trainings"):
        retrain_on_subsets(model, X, 1.0 * Y, X[:4], 1.0 * Y[:4], on_nan="keep", **options)


def test_metrics_refuse_kept_nan_and_take_the_rest():
    outputs = np.random.default_rng(0).normal(size=(5, 2, 3))
    masks = np.random.default_rng(1).random((5, 8)) < 0.5
    scores = np.random.default_rng(2).normal(size=(3, 8))
    outputs[2, 1, 0] = np.nan
    truth = SubsetOutputs(masks, outputs, np.zeros((5, 2)))
    assert truth.diverged.tolist() == [[False, False]] * 2 + [[False, True]] + [[False, False]] * 2
    assert np.isnan(truth.mean_outputs()).sum() == 1 and np.isnan(truth.noise_variance()).sum() == 1
    for measure in (
        lambda o, m, s: linear_datamodeling_score(o, m, s),
        lambda o, *_: noise_ceiling(o),
    ):
        with pytest.raises(ValueError, match=r"`outputs` holds 1 NaN .* at \(2, 1, 0\)"):
            measure(truth.outputs, masks, scores)
        good = ~truth.diverged.any(axis=1)
        measure(truth.outputs[good], masks[good], scores)


@pytest.mark.parametrize("bad", ["drop", True, None])
def test_on_nan_is_checked(bad):
    with pytest.raises(ValueError, match=r"on_nan: got .* accepted are 'raise'"):
        retrain(on_nan=bad)
    with pytest.raises(ValueError, match="on_nan: got"):
        train_checkpoints(make_net(), X, Y, [1], on_nan=bad)
    task, trajectory = recorded()
    with pytest.raises(ValueError, match="on_nan: got"):
        trajectory_leave_one_out(
            task, X[:30], Y[:30], X[:2], Y[:2], trajectory=trajectory, on_nan=bad
        )


def test_search_over_the_subsets_that_are_finite():
    y = (X[:, 0] > 0).astype(int)
    model = LogisticRegression().fit(X, y)
    truth = retrain_on_subsets(model, X, y, X[:5], y[:5], n_subsets=8, random_state=0)
    broken = SubsetOutputs(truth.masks, truth.outputs.copy(), truth.seeds)
    broken.outputs[[2, 5]] = np.nan
    good = np.delete(np.arange(8), [2, 5])
    data = {"X_query": X[:5], "y_query": y[:5]}
    settings = {"n_trials": 3, "random_state": 0}
    with pytest.raises(ValueError, match=r"2 of 8 subsets have .*\(subsets 2, 5\).*on_nan='keep'"):
        LDSSearch(InfluenceFunction(), **settings).fit(model, X, y, subset_outputs=broken, **data)
    search = LDSSearch(InfluenceFunction(), on_nan="keep", **settings)
    with pytest.warns(InfluenceKitWarning, match="2 of 8 subsets"):
        search.fit(model, X, y, subset_outputs=broken, **data)
    assert search.subset_outputs_ is broken
    scores = search.score(X[:5], y[:5])
    by_hand = linear_datamodeling_score(truth.outputs[good], truth.masks[good], scores)
    assert search.best_score_ == pytest.approx(by_hand.mean)


def test_checkpoints_of_a_training_that_diverged():
    net = make_net(lr=1e200)
    with pytest.raises(ValueError, match=r"weights after epochs \[2, 4\] are NaN"):
        train_checkpoints(net, X, Y, [0, 2, 4], random_state=0)
    with pytest.warns(InfluenceKitWarning, match=r"epochs \[2, 4\]"):
        kept = train_checkpoints(net, X, Y, [0, 2, 4], random_state=0, on_nan="keep")
    assert list(kept) == [0, 2, 4]


def test_reruns_that_diverge_without_a_row(tmp_path):
    task, trajectory = recorded(Logits, "adamw")
    calls = {"left_out": [4, 0, 29], "trajectory": trajectory, "chunk_size": 1}

    def bounded(outputs, targets):
        """NaN for models whose output at the first query leaves that of the full run."""
        near = (outputs[:1, :1] - reference).abs() < edge
        return torch.where(near, outputs[:, 0], torch.nan).reshape(len(outputs))

    data = (RUN_X, RUN_Y, RUN_X[:6], RUN_Y[:6])
    with torch.no_grad():
        reference = task.module(torch.as_tensor(RUN_X[:1]))[0, 0]
    plain = trajectory_leave_one_out(
        task, *data, output=lambda o, t: o[:, 0], dtype="float64", **calls
    )
    moved = np.abs(plain.outputs[:, 0] - float(reference))
    bad, edge = int(moved.argmax()), float(np.sort(moved)[-2:].mean())
    name = f"without row {calls['left_out'][bad]}"
    with pytest.raises(ValueError, match=f"1 of 1 reruns .*: {name}.*on_nan='keep'"):
        trajectory_leave_one_out(task, *data, output=bounded, cache_dir=tmp_path, **calls)
    assert all(np.isfinite(outputs).all() for outputs in stored(tmp_path).values())
    assert len(stored(tmp_path)) == 1 + bad
    with pytest.warns(InfluenceKitWarning, match="1 of 4 reruns .*without row"):
        kept = trajectory_leave_one_out(task, *data, output=bounded, on_nan="keep", **calls)
    assert np.isnan(kept.outputs).all(axis=1).tolist() == [i == bad for i in range(3)]
    others = np.delete(np.arange(3), bad)
    np.testing.assert_allclose(kept.outputs[others], plain.outputs[others])
    assert "not_finite=6" in repr(kept) and kept.unresolved >= 1 / 3
    with pytest.raises(ValueError, match="holds 6 NaN"):
        kept.spearman(np.zeros((6, 3)))


def test_a_change_that_is_nan_is_not_resolved():
    outputs = np.array([[np.nan, 1.0]])
    found = TrajectoryLeaveOneOut(outputs, np.zeros(2), np.array([0]), 1, np.full(2, 0.1))
    assert found.unresolved == 0.5


def further(model=None, lr=1e30, **options):
    y = (X[:, 0] > 0).astype(int)
    model = LogisticRegression().fit(X, y) if model is None else model
    settings = {"n_steps": 5, "n_repeats": 1, "left_out": [0, 7], "random_state": 0}
    return FurtherTraining(lr=lr, **settings | options).fit(model, X, y), y


@pytest.mark.parametrize("lr", [1e30, 1e15, 1e5])
@pytest.mark.parametrize("engine", ["stacked", "loop"])
def test_further_training_that_ends_finite_and_absurd(lr, engine, tmp_path):
    attributor, y = further(lr=lr, engine=engine, cache_dir=tmp_path)
    said = rf"lr: .*under seed {attributor.seeds_[0]} diverged in 3 of 3 runs .*without row 7"
    for call in (attributor.score, attributor.measure):
        with pytest.raises(ValueError, match=said):
            call(X[:3], y[:3])
    with pytest.raises(ValueError, match=said):
        list(attributor.iter_seeds(X[:3], y[:3]))
    with pytest.raises(ValueError, match="diverged in the full-data run"):
        attributor.endpoint()
    assert not stored(tmp_path)


def test_further_training_of_some_runs():
    """Gradient descent on Σ (w x - y)² / n, whose steps grow where the rate exceeds n / Σ x²."""
    inputs, y, lr = np.array([[1.0], [1.0], [3.0]]), np.array([1.0, 0.5, 3.0]), 0.25
    module = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    task = as_task(module, loss=nn.MSELoss())
    training = Training("sgd", lr, n_steps=60, batch_size=3)
    attributor = FurtherTraining(training=training, n_repeats=1, left_out=[0, 1, 2], random_state=0)
    kept = [np.delete(np.arange(3), row) for row in range(3)]
    grows = [lr > len(rows) / np.square(inputs[rows]).sum() for rows in [np.arange(3), *kept]]
    assert grows == [False, True, True, False]
    with pytest.raises(ValueError, match=r"in 2 of 4 runs \(without row 0; without row 1\)"):
        attributor.fit(task, inputs, y).score(inputs, y)
    assert np.isfinite(attributor.set_params(left_out=[2]).fit(task, inputs, y).score(inputs)).all()


def test_losses_that_tell_nothing_are_no_divergence():
    """The fitted model's loss and that of all zeros are 0."""
    inputs = np.array([[1.0], [2.0], [3.0]])
    for y in (np.zeros(3), np.full(3, 1e-200)):  # whose square is 0
        module = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        nn.init.zeros_(module.weight)
        attributor = FurtherTraining(
            training=Training(lr=0.1, n_steps=4, batch_size=2), n_repeats=1, random_state=0
        )
        attributor.fit(as_task(module, loss=nn.MSELoss()), inputs, y)
        assert np.isfinite(attributor.score(inputs, y)).all()


def test_a_large_rate_that_does_not_diverge_is_no_error():
    for lr in (0.1, 1.0, 5.0):
        attributor, y = further(lr=lr)
        assert np.isfinite(attributor.score(X[:3], y[:3])).all()
