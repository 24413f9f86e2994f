"""Finished work survives kills, is found again, and is never taken for something else."""

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from influencekit.exceptions import InfluenceKitWarning
from influencekit.training import SubsetOutputs, retrain_on_subsets
from influencekit.training._fingerprint import fingerprint
from influencekit.training.subsets import _engines, _stacked
from tests.training import _resumable
from tests.training._training_nets import Dropped, Logits, make_data, make_net

X, Y = make_data()


def retrain(model=None, X=X, y=Y, **options):
    settings = {"n_subsets": 3, "random_state": 0}
    model = LogisticRegression() if model is None else model
    return retrain_on_subsets(model, X, y, X[:7], y[:7], **settings | options)


def files(folder):
    return {p: p.stat().st_mtime_ns for p in Path(folder).glob("*/*.npz") if "unf" not in p.name}


@pytest.mark.parametrize("engine", [pytest.param("stacked", marks=pytest.mark.slow), "joblib"])
def test_killed_and_resumed(tmp_path, monkeypatch, engine):
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork server on this platform")
    monkeypatch.setattr(_stacked, "MAX_MODELS", _stacked.MAX_MODELS)  # the run here sets it
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training._resumable"])
    cache, path = tmp_path / "cache", tmp_path / "truth.npz"
    delays = np.random.default_rng(len(engine)).uniform(0, 0.15, size=3)
    done, n_files = {}, _resumable.N_CHUNKS * _resumable.MODELS[engine]
    for delay in delays:
        most = len(done) + n_files // 4
        process = context.Process(target=_resumable.run_until_killed, args=(cache, engine, most))
        process.start()
        while len(files(cache)) <= len(done) and process.is_alive():
            time.sleep(0.005)
        time.sleep(delay)
        process.kill()
        process.join()
        assert process.exitcode == -9, "ended before it was killed"
        after = files(cache)
        assert len(done) < len(after) < n_files
        again = {p for p in done if after[p] != done[p]}
        assert len(again) < _resumable.MODELS[engine]  # of a chunk that was not finished
        done = after
    process = context.Process(target=_resumable.run, args=(cache, engine, path))
    process.start()
    process.join()
    assert process.exitcode == 0
    final = files(cache)
    assert len(final) == n_files
    assert sum(final[p] != done[p] for p in done) < _resumable.MODELS[engine]
    resumed = SubsetOutputs.load(path)
    uninterrupted = _resumable.run(None, engine)
    np.testing.assert_array_equal(resumed.outputs, uninterrupted.outputs)
    np.testing.assert_array_equal(resumed.masks, uninterrupted.masks)
    np.testing.assert_array_equal(resumed.seeds, uninterrupted.seeds)


def test_found_again_without_training(tmp_path, monkeypatch):
    net = make_net(Dropped)
    first = retrain(net, cache_dir=tmp_path)
    monkeypatch.setattr(_stacked.StackedRetrainer, "run", None)
    monkeypatch.setattr(_engines, "run_jobs", None)
    np.testing.assert_array_equal(retrain(net, cache_dir=tmp_path).outputs, first.outputs)
    fitted = make_net(Dropped).fit(X, Y)  # what it learned does not count
    monkeypatch.undo()
    monkeypatch.setattr(_stacked.StackedRetrainer, "run", None)
    np.testing.assert_array_equal(retrain(fitted, cache_dir=tmp_path).outputs, first.outputs)


def test_more_subsets_train_only_the_new_ones(tmp_path):
    retrain(cache_dir=tmp_path)
    before = files(tmp_path)
    truth = retrain(cache_dir=tmp_path, n_subsets=5)
    after = files(tmp_path)
    assert len(after) == 5 and {p: after[p] for p in before} == before
    np.testing.assert_array_equal(truth.outputs, retrain(n_subsets=5).outputs)


@pytest.mark.parametrize(("n_subsets", "most"), [(30, 3), (9, 1)])
def test_a_kill_loses_a_tenth_at_most(tmp_path, monkeypatch, n_subsets, most):
    """The training of the last chunk is interrupted; the second call trains only that one."""
    trained, run = [], _stacked.StackedRetrainer.run

    def counted(self, subsets, seeds):
        if len(trained) == n_subsets // most - 1:
            trained.clear()
            raise KeyboardInterrupt
        trained.append(len(seeds))
        return run(self, subsets, seeds)

    net = make_net(max_epochs=1)
    monkeypatch.setattr(_stacked.StackedRetrainer, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        retrain(net, n_subsets=n_subsets, cache_dir=tmp_path)
    again = retrain(net, n_subsets=n_subsets, cache_dir=tmp_path)
    assert trained == [most]
    np.testing.assert_allclose(again.outputs, retrain(net, n_subsets=n_subsets).outputs, rtol=1e-10)


def test_more_subsets_train_only_the_new_ones_in_a_stack(tmp_path, monkeypatch):
    trained, run = [], _stacked.StackedRetrainer.run

    def counted(self, subsets, seeds):
        trained.extend(seeds)
        return run(self, subsets, seeds)

    net = make_net(max_epochs=1)
    monkeypatch.setattr(_stacked.StackedRetrainer, "run", counted)
    first = retrain(net, n_subsets=20, cache_dir=tmp_path)
    more = retrain(net, n_subsets=40, cache_dir=tmp_path)
    assert len(trained) == 40
    np.testing.assert_array_equal(more.outputs[:20], first.outputs)


@pytest.mark.parametrize(
    "damage", ["empty", "cut", "changed", "other shape", "pickle", "other key"]
)
def test_damaged_files_are_done_again(tmp_path, damage):
    truth = retrain(cache_dir=tmp_path)
    path = sorted(files(tmp_path))[1]
    content = path.read_bytes()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        i = content.index(b"outputs.npy") + 150
        path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
    elif damage == "other shape":
        np.savez(path, outputs=np.zeros((1, 3)), key=np.array(path.stem))
    elif damage == "pickle":
        np.savez(path, outputs=np.array([[None] * 7]), key=np.array(path.stem))
    else:
        np.savez(path, outputs=np.zeros((1, 7)), key=np.array("other"))
    with pytest.warns(InfluenceKitWarning, match="trained again"):
        again = retrain(cache_dir=tmp_path)
    np.testing.assert_array_equal(again.outputs, truth.outputs)
    np.testing.assert_array_equal(retrain(cache_dir=tmp_path).outputs, truth.outputs)


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        retrain(cache_dir=tmp_path)
    assert not list(tmp_path.glob("*/*"))


def test_other_configurations_have_other_files(tmp_path):
    y_other = Y.copy()
    y_other[0] = (y_other[0] + 1) % 3
    calls = [
        {},
        {"random_state": 1},
        {"output": "margin"},
        {"output": lambda outputs, targets: outputs[:, 0]},
        {"output": lambda outputs, targets: outputs[:, 1]},
        {"model": LogisticRegression(C=0.5)},
        {"X": X + 1e-9},
        {"X": X.astype(np.float32)},
        {"y": y_other},
        {"subset_fraction": 0.6},
    ]
    for i, options in enumerate(calls):
        retrain(cache_dir=tmp_path, **options)
        assert len(files(tmp_path)) == 3 * (i + 1), options


def test_fingerprints():
    def shifted(by):
        return lambda x: x + by

    same = [
        (make_net(), make_net().fit(X, Y)),
        (shifted(1), shifted(1)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.asfortranarray(X), X),
    ]
    other = [
        (make_net(), make_net(lr=0.2)),
        (make_net(), make_net(Dropped)),
        (make_net(), make_net(criterion__weight=torch.ones(3))),
        (make_net(module__dtype=torch.float64), make_net(module__dtype=torch.float32)),
        (shifted(1), shifted(2)),
        ([1, 23], [12, 3]),
        (X, X.tolist()),
        (1, 1.0),
        (1, True),
        (None, "None"),
        (torch.zeros(2), torch.zeros(2, 1)),
        (Logits, Dropped),
        (nn.ReLU(), nn.Tanh()),
        (nn.Dropout(0.1), nn.Dropout(0.2)),
    ]
    for a, b in same:
        assert fingerprint(a) == fingerprint(b)
    for a, b in other:
        assert fingerprint(a) != fingerprint(b)
    with pytest.raises(ValueError, match="a generator among data or parameters"):
        fingerprint(i for i in range(3))
