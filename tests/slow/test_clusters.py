"""An index built by workers that are killed, on clusters that are lost, and by the command line."""

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from influencekit import AttributionIndex, InfluenceFunction
from influencekit.exceptions import LostWorkersError
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
