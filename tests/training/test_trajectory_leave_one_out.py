"""Stacked reruns of a recorded run against plain torch loops, one by one."""

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import as_task
from influencekit.exceptions import InfluenceKitWarning, TrajectoryError
from influencekit.training import TrajectoryRecorder, trajectory_leave_one_out
from influencekit.training.leave_one_out._reruns import Reruns
from tests.training import _rerun_resumable
from tests.training._rerun_reference import (
    OPTIMIZERS,
    Dropped,
    X,
    Y,
    losses_alone,
    recorded,
)
from tests.training._training_nets import Logits

ROWS = [4, 0, 29]


def rerun(task, trajectory, rows=ROWS, **options):
    return trajectory_leave_one_out(
        task, X, Y, X[:6], Y[:6], left_out=rows, trajectory=trajectory, **options
    )


def check(rows=ROWS, removal="renormalize", kind=Logits, optimizer="adamw", **options):
    found = rerun(*recorded(kind, optimizer, **options), rows, removal=removal)
    alone = losses_alone([None, *rows], kind, optimizer, removal=removal, **options)
    np.testing.assert_allclose(found.reference, -alone[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.outputs, -alone[1:], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.scores.T, alone[1:] - alone[0], rtol=0, atol=1e-12)
    assert np.abs(found.changes).max(axis=1).min() > 1e-5  # each row was in the run
    return found


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("removal", ["renormalize", "fixed"])
def test_equals_runs_one_by_one(optimizer, removal):
    check(optimizer=optimizer, removal=removal)


@pytest.mark.parametrize("removal", ["renormalize", "fixed"])
def test_dropout_draws_the_recorded_noise(removal):
    found = check(kind=Dropped, optimizer="nesterov", removal=removal)
    task, trajectory = recorded(Dropped, "nesterov")
    before = torch.get_rng_state()
    again = rerun(task, trajectory, removal=removal, chunk_size=2)
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_allclose(again.outputs, found.outputs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("removal", ["renormalize", "fixed"])
def test_clipping_and_groups(removal):
    check(optimizer="adamw", max_norm=0.2, two_groups=True, removal=removal)
    check(optimizer="dampened", max_norm=0.2, two_groups=True, removal=removal)


def test_sum_has_no_denominator():
    first = check(optimizer="adam", reduction="sum")
    second = check(optimizer="adam", reduction="sum", removal="fixed")
    np.testing.assert_array_equal(first.outputs, second.outputs)


def test_a_batch_of_one_row_leaves_gradient_zero():
    check(rows=[3], optimizer="nesterov", size=1)


def test_a_model_that_cannot_be_stacked_runs_in_turn():
    class Loops(Logits):
        def forward(self, X):
            h = torch.relu(self.first(X))
            return self.second(h if h.sum().item() > -1 else -h)

    task, trajectory = recorded(optimizer="adam")
    stacked = rerun(task, trajectory)
    loops = Loops()
    loops.load_state_dict(task.module.state_dict())
    with pytest.warns(InfluenceKitWarning, match="one after the other"):
        found = rerun(as_task(loops, loss=nn.CrossEntropyLoss()), trajectory)
    np.testing.assert_allclose(found.outputs, stacked.outputs, rtol=0, atol=1e-12)


def test_net_brings_its_recording_and_its_held_out_rows_change_nothing():
    net = NeuralNetClassifier(
        Logits,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=0.01,
        max_epochs=3,
        batch_size=8,
        verbose=0,
        callbacks=[TrajectoryRecorder()],
    )
    torch.manual_seed(0)
    net.fit(X, Y)
    inside = np.unique(
        np.concatenate(dict(net.callbacks_)["TrajectoryRecorder"].trajectory_.batches)
    )
    assert len(inside) == 24
    found = trajectory_leave_one_out(net, X, Y, X[:4], Y[:4])
    np.testing.assert_array_equal(found.left_out, inside)
    out = int(np.setdiff1d(np.arange(30), inside)[0])
    found = trajectory_leave_one_out(net, X, Y, X[:4], Y[:4], left_out=[out, int(inside[0])])
    assert (np.abs(found.changes[0]) <= found.noise).all()
    assert (np.abs(found.changes[1]) > found.noise).all()
    assert found.unresolved == 0.5


def test_float32_is_noisier_and_says_so():
    task, trajectory = recorded(optimizer="adamw")
    wide, narrow = rerun(task, trajectory), rerun(task, trajectory, dtype="float32")
    error = np.abs(narrow.changes - wide.changes)
    assert 1e-9 < error.max() < 1e-4
    assert (error <= 10 * narrow.noise).all()
    assert (wide.noise < 1e-11).all() and (narrow.noise > 1e-8).all()


def test_result_reads_attributor_scores():
    task, trajectory = recorded()
    found = rerun(task, trajectory, rows=list(range(10)))
    noisy = found.scores + np.random.default_rng(0).normal(size=(6, 10)) * found.scores.std()
    wide = np.zeros((6, 30))
    wide[:, :10] = noisy
    for table in (noisy, wide):
        result = found.spearman(table)
        each = [spearmanr(a, b)[0] for a, b in zip(found.scores, noisy, strict=True)]
        np.testing.assert_allclose(result.per_query, each, atol=1e-12)
        np.testing.assert_allclose(result.standard_error, np.std(each, ddof=1) / 6**0.5)
    assert found.spearman(found.scores).mean == pytest.approx(1)
    with pytest.raises(ValueError, match=r"scores: got shape \(10, 6\)"):
        found.spearman(noisy.T)
    assert "n_left_out=10, n_test=6" in repr(found)


def test_found_again_and_never_taken_for_another(tmp_path, monkeypatch):
    task, trajectory = recorded()
    first = rerun(task, trajectory, cache_dir=tmp_path)
    others = [
        rerun(task, trajectory, cache_dir=tmp_path, removal="fixed"),
        rerun(task, trajectory, cache_dir=tmp_path, rows=[1, 2, 3]),
        rerun(task, trajectory, cache_dir=tmp_path, output="margin"),
        rerun(*recorded(optimizer="adam"), cache_dir=tmp_path),
        rerun(*recorded(max_norm=0.2), cache_dir=tmp_path),
    ]
    for other in others:
        assert not np.array_equal(other.outputs, first.outputs)
    monkeypatch.setattr(Reruns, "_train", None)
    np.testing.assert_array_equal(rerun(*recorded(), cache_dir=tmp_path).outputs, first.outputs)


def files(folder):
    return {p: p.stat().st_mtime_ns for p in Path(folder).glob("*/*.npz") if "unf" not in p.name}


@pytest.mark.slow
def test_killed_and_resumed(tmp_path, monkeypatch):
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork server on this platform")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training._rerun_resumable"])
    cache, path, done = tmp_path / "cache", tmp_path / "found.npz", {}
    for _ in range(2):
        process = context.Process(target=_rerun_resumable.run, args=(cache, None, len(done) + 2))
        process.start()
        while len(files(cache)) < len(done) + 2 and process.is_alive():
            time.sleep(0.005)
        process.kill()
        process.join()
        assert process.exitcode == -9, "finished before it was killed"
        after = files(cache)
        assert {p: after[p] for p in done} == done  # nothing finished was done again
        done = after
    process = context.Process(target=_rerun_resumable.run, args=(cache, path))
    process.start()
    process.join()
    assert process.exitcode == 0
    final = files(cache)
    assert len(final) == 1 + _rerun_resumable.N_CHUNKS > len(done)
    assert {p: final[p] for p in done} == done
    with np.load(path) as resumed:
        np.testing.assert_array_equal(resumed["outputs"], _rerun_resumable.run(None).outputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"removal": "drop"}, "removal: got 'drop'"),
        ({"dtype": "float16"}, "dtype: got 'float16'"),
        ({"chunk_size": 0}, "chunk_size: got 0"),
        ({"rows": [30]}, "accepted are those from 0 to 29"),
        ({"rows": [-1]}, "accepted are those from 0 to 29"),
        ({"rows": []}, "at least one integer"),
        ({"rows": [0.5]}, "at least one integer"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        rerun(*recorded(), **options)


def test_strange_data_and_models_are_refused():
    task, trajectory = recorded()
    with pytest.raises(TrajectoryError, match="as they were given to fit"):
        trajectory_leave_one_out(task, X[::-1].copy(), Y, X, Y, trajectory=trajectory)
    with pytest.raises(TrajectoryError, match="does not have a recording"):
        trajectory_leave_one_out(task, X, Y, X, Y)
    with torch.no_grad():
        task.module.second.bias += 1
    with pytest.raises(TrajectoryError, match="where the recorded run ended"):
        rerun(task, trajectory)
