"""Retraining with a record: the same trainings, and the weights that each net had alone."""

from itertools import chain

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from skorch.callbacks import Callback
from torch import optim

from influencekit import InfluenceFunction, RunAverage
from influencekit.exceptions import UnsupportedModelError
from influencekit.training import SubsetOutputs, SubsetRuns, retrain_on_subsets
from influencekit.training._cache import OutputCache
from influencekit.training.subsets import _stacked
from tests.training._training_nets import Dropped, Logits, Normalized, make_data, make_net

X, Y = make_data()
ADAMW = {"optimizer": optim.AdamW, "lr": 0.02, "optimizer__weight_decay": 0.1}
MOMENTUM = {"optimizer__momentum": 0.9}


def retrain(net, record=None, **options):
    settings = {"n_subsets": 3, "n_repeats": 2, "random_state": 0, "engine": "stacked"}
    return retrain_on_subsets(net, X, Y, X[:7], Y[:7], record=record, **settings | options)


class Watch(Callback):
    """All weights before each step, and the rows of each batch."""

    def initialize(self):
        self.weights, self.batches, self.random_states = [], [], []
        return self

    def on_batch_begin(self, net, batch=None, training=False, **_):
        if training:
            self.weights.append({n: t.clone() for n, t in net.module_.state_dict().items()})
            self.batches.append(batch[0].clone())
            self.random_states.append(torch.get_rng_state())


def watched(net, mask, seed):
    """The same training with skorch alone, watched by a callback."""
    net.set_params(train_split=None, verbose=0, callbacks=[("watch", Watch())])
    torch.manual_seed(int(seed))
    net.fit(X[mask], Y[mask])
    return net, dict(net.callbacks_)["watch"]


@pytest.mark.parametrize("record", ["checkpoints", "trajectory"])
@pytest.mark.parametrize("engine", ["stacked", "joblib"])
def test_outputs_do_not_depend_on_the_record(record, engine):
    plain = retrain(make_net(Dropped, **ADAMW), engine=engine)
    runs = retrain(make_net(Dropped, **ADAMW), record, engine=engine)
    assert isinstance(runs, SubsetRuns) and not isinstance(plain, SubsetRuns)
    np.testing.assert_array_equal(runs.outputs, plain.outputs)
    np.testing.assert_array_equal(runs.masks, plain.masks)
    np.testing.assert_array_equal(runs.seeds, plain.seeds)


@pytest.mark.parametrize("engine", ["stacked", "joblib"])
@pytest.mark.parametrize("module", [Logits, Normalized])
def test_checkpoints_are_the_weights_before_the_steps(engine, module):
    runs = retrain(make_net(module, **MOMENTUM), "checkpoints", engine=engine)
    net, alone = watched(make_net(module, **MOMENTUM), runs.masks[1], runs.seeds[1, 1])
    states, n_steps = runs.states[1][1], len(alone.weights)
    assert sorted(states) == [*((2 * k + 1) * n_steps // 16 for k in range(8)), n_steps]
    for step, state in states.items():
        own = net.module_.state_dict() if step == n_steps else alone.weights[step]
        assert state.keys() == own.keys()
        for name, tensor in own.items():
            torch.testing.assert_close(state[name], tensor, rtol=0, atol=1e-10)


@pytest.mark.parametrize("engine", ["stacked", "joblib"])
@pytest.mark.parametrize(("module", "options"), [(Dropped, ADAMW), (Logits, MOMENTUM)])
def test_a_trajectory_is_that_of_the_net_alone(engine, module, options):
    runs = retrain(make_net(module, **options), "trajectory", engine=engine)
    net, alone = watched(make_net(module, **options), runs.masks[2], runs.seeds[2, 0])
    run = runs.states[2][0]
    assert run.n_rows == len(X) and run.n_steps == len(alone.batches)
    for rows, batch in zip(run.batches, alone.batches, strict=True):
        assert runs.masks[2][rows].all()
        np.testing.assert_array_equal(X[rows], batch.numpy())
    for step, snapshot in run.snapshots.items():
        own = net.module_.state_dict() if step == run.n_steps else alone.weights[step]
        for name, tensor in snapshot.tensors["theta"].items():
            torch.testing.assert_close(tensor, own[name], rtol=0, atol=1e-10)
    slots = run.snapshots[run.n_steps].tensors
    for name, p in net.module_.named_parameters():
        for slot in {"exp_avg", "exp_avg_sq", "momentum_buffer"} & set(slots):
            expected = net.optimizer_.state[p][slot]
            torch.testing.assert_close(slots[slot][name], expected, rtol=0, atol=1e-10)
    if module is Dropped:
        assert len(run.random_states) == run.n_steps
        assert torch.equal(run.random_states[3], alone.random_states[3])


@pytest.mark.parametrize("record", ["checkpoints", "trajectory"])
def test_states_are_read_again(tmp_path, record):
    runs = retrain(make_net(Dropped, **ADAMW), record)
    runs.save(tmp_path / "runs.npz")
    again = SubsetRuns.load(tmp_path / "runs.npz")
    assert_same_states(again, runs)
    assert isinstance(SubsetOutputs.load(tmp_path / "runs.npz"), SubsetOutputs)
    retrain(make_net(Dropped, **ADAMW)).save(tmp_path / "plain.npz")
    with pytest.raises(ValueError, match=r"path: .* no states"):
        SubsetRuns.load(tmp_path / "plain.npz")


def assert_same_states(a, b):
    np.testing.assert_array_equal(a.outputs, b.outputs)
    for one, other in zip(chain(*a.states), chain(*b.states), strict=True):
        parts = [one, other]
        if hasattr(one, "snapshots"):
            assert one.options.keys() == other.options.keys() and one.groups == other.groups
            for rows, own in zip(one.batches, other.batches, strict=True):
                np.testing.assert_array_equal(rows, own)
            assert (one.random_states is None) == (other.random_states is None)
            parts = [
                {s: {f"{k}/{n}": t for k, v in w.tensors.items() for n, t in v.items()}
                 for s, w in run.snapshots.items()}
                for run in parts
            ]  # fmt: skip
        assert list(parts[0]) == list(parts[1])
        for step, state in parts[0].items():
            assert state.keys() == parts[1][step].keys()
            assert all(torch.equal(t, parts[1][step][n]) for n, t in state.items())


@pytest.mark.parametrize("engine", ["stacked", "joblib"])
def test_states_come_back_from_the_cache_after_an_interruption(tmp_path, monkeypatch, engine):
    monkeypatch.setattr(_stacked, "MAX_MODELS", 2)
    net = make_net(Logits)
    whole = retrain(net, "trajectory", engine=engine)
    store, done = OutputCache.store, []

    def killed(*parts):
        if len(done) == 2:
            raise KeyboardInterrupt
        store(*parts)
        done.append(parts[1])

    monkeypatch.setattr(OutputCache, "store", killed)
    with pytest.raises(KeyboardInterrupt):
        retrain(net, "trajectory", engine=engine, cache_dir=tmp_path)
    monkeypatch.setattr(OutputCache, "store", store)
    resumed = retrain(net, "trajectory", engine=engine, cache_dir=tmp_path)
    assert_same_states(resumed, whole)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*.npz")}
    assert_same_states(retrain(net, "trajectory", engine=engine, cache_dir=tmp_path), whole)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*.npz")}
    assert not isinstance(retrain(net, engine=engine, cache_dir=tmp_path), SubsetRuns)


@pytest.mark.parametrize("record", ["checkpoints", "trajectory"])
@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
def test_full_runs_are_averaged_along_the_run(record):
    net = make_net(Logits, lr=0.1, max_epochs=8).fit(X, Y)
    masks = np.ones((2, len(X)), bool)
    runs = retrain_on_subsets(
        net, X, Y, X[:7], Y[:7], masks=masks, n_repeats=1, record=record, random_state=1
    )
    each = [runs.run(net, s) for s in range(2)]
    average = RunAverage(InfluenceFunction(damping=0.1)).fit(each, X, Y)
    scores = [RunAverage(InfluenceFunction(damping=0.1)).fit(one, X, Y).score(X[:7], Y[:7])
              for one in each]  # fmt: skip
    np.testing.assert_allclose(average.score(X[:7], Y[:7]), np.mean(scores, axis=0), rtol=1e-9)
    assert average.n_checkpoints_ == (16 if record == "checkpoints" else 14)
    for one, outputs in zip(each, runs.outputs[:, 0], strict=True):
        logits = one.forward(torch.as_tensor(X[:7])).detach()
        loss = torch.nn.functional.cross_entropy(logits, torch.as_tensor(Y[:7]), reduction="none")
        np.testing.assert_allclose(outputs, -loss.numpy(), atol=1e-8)


def test_what_cannot_be_recorded_is_refused():
    with pytest.raises(UnsupportedModelError, match="record: got 'checkpoints' for Logistic"):
        retrain(LogisticRegression(), "checkpoints", engine="auto")
    with pytest.raises(ValueError, match="record"):
        retrain(make_net(), "weights")
    with pytest.raises(ValueError, match=r"record: .*retrain="):
        retrain(None, "trajectory", engine="auto", retrain=lambda X, y, seed: None)
    good = retrain(make_net(), "checkpoints")
    with pytest.raises(ValueError, match="states: got 1 subsets"):
        SubsetRuns(good.masks, good.outputs, good.seeds, states=good.states[:1])
