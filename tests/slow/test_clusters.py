"""An index built by workers that are killed, on clusters that are lost, and by the command line."""

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import (
    AttributionIndex,
    FurtherTraining,
    GradDot,
    InfluenceFunction,
    as_task,
    retrain_on_subsets,
)
from influencekit.exceptions import LostWorkersError
from influencekit.gradients import _workers
from influencekit.training import TrajectoryRecorder, trajectory_leave_one_out
from tests.index._deadly import deadly

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 4))
Y = (X[:, 0] > 0).astype(int)
OPTIONS = {"projection_dim": 8, "random_state": 0, "max_memory": "200MB"}


def index(folder, **options):
    held = InfluenceFunction(**OPTIONS)
    return AttributionIndex(held, folder, shard_rows=20, max_memory="200MB", **options)


def files(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The flag of a deadly net, its task, and the files and answers of a build in this process."""
    folder = tmp_path_factory.mktemp("alone")
    flag = folder / "flag"
    task = deadly(flag)
    built = index(folder / "i").fit(task, X, Y)
    return flag, task, files(folder / "i"), built.top_k(X[:20], Y[:20], k=5)


ATTRIBUTORS = [
    GradDot(batch_size=16, max_memory="300kB"),
    InfluenceFunction("ggn", batch_size=16, **OPTIONS),
    InfluenceFunction("ekfac", batch_size=16, max_memory="300kB", damping=0.1),
]


@pytest.fixture
def small_slices(monkeypatch):
    """Slices of two batches."""
    monkeypatch.setattr(_workers, "_ROWS", 32)


def answers(attributor, task):
    fitted = attributor.fit(task, X, Y)
    return np.concatenate([fitted.score(X[:9], Y[:9]).ravel(), fitted.self_influence()])


def started(*words):
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", *words], env=env, cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def ended(process, signal_number=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal_number)
    process.communicate()


@contextlib.contextmanager
def cluster(n_workers):
    """Processes on loopback: a scheduler, its address, and workers."""
    scheduler = started("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
                        "--no-dashboard")  # fmt: skip
    address = None
    for line in scheduler.stderr:
        if found := re.search(r"Scheduler at:\s+(tcp://\S+)", line):
            address = found[1]
            break
    threading.Thread(target=scheduler.stderr.read, daemon=True).start()
    workers = [
        started("distributed.cli.dask_worker", address, "--nworkers", "1", "--nthreads", "1",
                "--no-dashboard", "--no-nanny", "--local-directory", "/tmp")
        for _ in range(n_workers)
    ]  # fmt: skip
    for worker in workers:
        threading.Thread(target=worker.stderr.read, daemon=True).start()
    try:
        yield scheduler, address, workers
    finally:
        for process in [*workers, scheduler]:
            ended(process)


def test_a_killed_worker_of_joblib(alone, tmp_path):
    flag, task, expected, _ = alone
    flag.touch()
    index(tmp_path / "i", n_jobs=2).fit(task, X, Y)
    assert not flag.exists()  # one was killed
    assert files(tmp_path / "i") == expected


def test_dask_with_a_killed_worker_gives_the_same_bytes(alone, tmp_path):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    flag, task, expected, (rows, scores) = alone
    with cluster(4) as (_, address, _), distributed.Client(address) as client:
        client.wait_for_workers(4, timeout=240)
        with joblib.parallel_config(backend="dask"):
            index(tmp_path / "whole").fit(task, X, Y)
            assert files(tmp_path / "whole") == expected
            flag.touch()
            built = index(tmp_path / "i").fit(task, X, Y)
        assert not flag.exists()
        assert len(client.scheduler_info()["workers"]) == 3
    assert files(tmp_path / "i") == expected
    found = built.top_k(X[:20], Y[:20], k=5)
    np.testing.assert_array_equal(found[0], rows)
    np.testing.assert_array_equal(found[1], scores)


def test_a_lost_scheduler_is_said_and_the_same_call_goes_on(alone, tmp_path):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    _, task, expected, _ = alone
    with cluster(2) as (scheduler, address, _), distributed.Client(address) as client:
        client.wait_for_workers(2, timeout=240)

        def kill():
            while len(list((tmp_path / "i").glob("coordinates-*"))) < 2:
                time.sleep(0.01)
            scheduler.send_signal(signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        start = time.monotonic()
        with (
            joblib.parallel_config(backend="dask"),
            pytest.raises(LostWorkersError, match="the same call goes on"),
        ):
            index(tmp_path / "i").fit(task, X, Y)
        killer.join()
        print(f"said after {time.monotonic() - start:.0f} s")
    index(tmp_path / "i").fit(task, X, Y)
    assert files(tmp_path / "i") == expected


def test_passes_on_loky_with_a_killed_worker_have_the_bits_of_one_process(tmp_path, small_slices):
    flag = tmp_path / "flag"
    task = deadly(flag)
    alone = [answers(attributor, task) for attributor in ATTRIBUTORS]
    flag.touch()
    with joblib.parallel_config(backend="loky", n_jobs=2):
        together = [answers(attributor, task) for attributor in ATTRIBUTORS]
    assert not flag.exists()  # one was killed
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one, other)


def test_passes_on_dask_with_a_killed_worker_and_a_lost_scheduler(
    tmp_path, small_slices, monkeypatch
):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    flag = tmp_path / "flag"
    task = deadly(flag)
    alone = [answers(attributor, task) for attributor in ATTRIBUTORS]
    with cluster(4) as (scheduler, address, _), distributed.Client(address) as client:
        client.wait_for_workers(4, timeout=240)
        with joblib.parallel_config(backend="dask"):
            flag.touch()
            together = [answers(attributor, task) for attributor in ATTRIBUTORS]
            assert not flag.exists()
            assert len(client.scheduler_info()["workers"]) == 3
            in_order = _workers._in_order

            def killing(found):
                for one in in_order(found):
                    scheduler.send_signal(signal.SIGKILL)
                    yield one

            monkeypatch.setattr(_workers, "_in_order", killing)
            with pytest.raises(LostWorkersError, match="the same call goes on"):
                answers(ATTRIBUTORS[0], task)
    monkeypatch.setattr(_workers, "_in_order", in_order)
    together.append(answers(ATTRIBUTORS[0], task))
    for one, other in zip(together, [*alone, alone[0]], strict=True):
        np.testing.assert_array_equal(one, other)


def test_models_on_loky_have_the_bits_of_one_process():
    torch.manual_seed(0)
    task = as_task(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double(),
                   loss=nn.CrossEntropyLoss())  # fmt: skip
    held = FurtherTraining(lr=0.1, n_steps=3, left_out=np.arange(6), n_repeats=3, random_state=0,
                           max_memory="20kB")  # fmt: skip
    net = NeuralNetClassifier(nn.Sequential(nn.Linear(4, 2)), criterion=nn.CrossEntropyLoss,
                              max_epochs=2, batch_size=10, train_split=None, verbose=0,
                              callbacks=[TrajectoryRecorder()])  # fmt: skip
    rows, labels = X[:20].astype("f4"), Y[:20]
    net.fit(rows, labels)
    plain = clone(net).set_params(callbacks=None)

    def found(folder):
        reruns = trajectory_leave_one_out(net, rows, labels, rows[:3], labels[:3], chunk_size=4)
        masks = retrain_on_subsets(plain, rows, labels, rows[:3], labels[:3], n_subsets=20,
                                   engine="stacked", cache_dir=folder, random_state=0)  # fmt: skip
        scores = held.fit(task, X[:20], Y[:20]).score(X[:4], Y[:4])
        return [reruns.outputs, masks.outputs, scores]

    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        alone = found(one)
        with joblib.parallel_config(backend="loky", n_jobs=2):
            together = found(two)
    for left, right in zip(together, alone, strict=True):
        np.testing.assert_array_equal(left, right)


def test_two_slices_from_the_command_line_at_once(tmp_path):
    model = LogisticRegression(C=0.3).fit(X, Y)
    joblib.dump(model, tmp_path / "model.joblib")
    np.savez(tmp_path / "train.npz", X=X, y=Y)
    words = ["influencekit", "index", "--model", str(tmp_path / "model.joblib"), "--trust",
             "--train", str(tmp_path / "train.npz"), "--shard-rows", "20", "--max-memory", "200MB",
             "--set", "projection_dim=4", "--set", "random_state=0",
             "--set", "max_memory=200MB"]  # fmt: skip
    folder = str(tmp_path / "i")
    slices = [started(*words, "--to", folder, "--slice", f"{i}/2") for i in (1, 2)]
    said = [process.communicate(timeout=300)[1] for process in slices]
    assert [process.returncode for process in slices] == [0, 0], said
    last = started(*words, "--to", folder)
    assert last.wait(300) == 0, last.stderr.read()
    held = InfluenceFunction(projection_dim=4, random_state=0, max_memory="200MB")
    AttributionIndex(held, tmp_path / "one", shard_rows=20, max_memory="200MB").fit(model, X, Y)
    assert files(tmp_path / "one") == files(folder)
