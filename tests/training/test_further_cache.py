"""Finished seeds of further training survive a kill and are never taken for others."""

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

from influencekit.training.further._runner import FurtherRunner
from tests.training import _further_resumable
from tests.training._further_resumable import N_SEEDS, run

SHORT = {"epochs": 1, "n_repeats": 2}


def files(folder):
    return {p: p.stat().st_mtime_ns for p in Path(folder).glob("*/*.npz") if "unf" not in p.name}


@pytest.mark.slow
def test_killed_and_resumed(tmp_path, monkeypatch):
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork server on this platform")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training._further_resumable"])
    cache, path = tmp_path / "cache", tmp_path / "scores.npz"
    done = {}
    for _ in range(2):
        process = context.Process(target=_further_resumable.run, args=(cache,))
        process.start()
        while len(files(cache)) <= len(done) and process.is_alive():
            time.sleep(0.005)
        process.kill()
        process.join()
        assert process.exitcode == -9, "finished before it was killed"
        after = files(cache)
        assert len(done) < len(after) < N_SEEDS
        assert {p: after[p] for p in done} == done  # nothing finished was done again
        done = after
    process = context.Process(target=_further_resumable.run, args=(cache, path))
    process.start()
    process.join()
    assert process.exitcode == 0
    final = files(cache)
    assert len(final) == N_SEEDS and {p: final[p] for p in done} == done
    uninterrupted = run(None)
    with np.load(path) as resumed:
        np.testing.assert_array_equal(resumed["scores"], uninterrupted.scores)
        np.testing.assert_array_equal(resumed["halves"], uninterrupted.halves)


def test_found_again_without_training(tmp_path, monkeypatch):
    first = run(tmp_path, **SHORT)
    monkeypatch.setattr(FurtherRunner, "run", None)
    again = run(tmp_path, **SHORT)
    np.testing.assert_array_equal(again.scores, first.scores)
    centered = run(tmp_path, adjust="center", **SHORT)  # the same runs, told otherwise
    np.testing.assert_allclose(centered.scores.mean(-1), 0, atol=1e-15)


def test_more_seeds_train_only_the_new_ones(tmp_path):
    run(tmp_path, epochs=1, n_repeats=2)
    before = files(tmp_path)
    more = run(tmp_path, epochs=1, n_repeats=3)
    after = files(tmp_path)
    assert len(after) == 3 and {p: after[p] for p in before} == before
    np.testing.assert_array_equal(more.scores, run(None, epochs=1, n_repeats=3).scores)


@pytest.mark.parametrize(
    "change",
    [
        {"removal": "drop"},
        {"epochs": 2},
        {"epochs": None, "n_steps": 1},
        {"batch_size": 7},
        {"left_out": [0, 4, 8, 12, 17]},
        {"max_grad_norm": 0.1},
        {"optimizer_params": {"eps": 1e-3}},
        {"output": "margin"},
    ],
    ids=str,
)
def test_other_settings_are_other_seeds(tmp_path, change):
    run(tmp_path, **SHORT)
    n_before = len(files(tmp_path))
    run(tmp_path, **SHORT | change)
    assert len(files(tmp_path)) == n_before + 2


def test_a_cache_needs_seeds_that_come_again(tmp_path):
    with pytest.raises(ValueError, match=r"cache_dir: .*random_state to an int"):
        run(tmp_path, random_state=None, **SHORT)
