"""Files written whole or not at all while others write, open and read beside."""

import errno
import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression

from influencekit import as_task
from influencekit.exceptions import TrajectoryError
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._store import SPILLED, temporary_folder
from influencekit.training import SubsetOutputs, Trajectory, retrain_on_subsets
from influencekit.training._cache import OutputCache
from influencekit.training.trajectory._recording import Recording
from influencekit.training.trajectory._trajectory import FolderSnapshots
from influencekit.utils._files import remove_abandoned, unfinished_name, whole_file


def outputs_of(writer):
    """A table that tells its writer; 200 queries, so that writing takes a while."""
    masks = np.eye(4, dtype=bool)
    return SubsetOutputs(masks, np.full((4, 1, 200), float(writer)), np.zeros((4, 1)), "margin")


def save_often(path, writer, n=15):
    for _ in range(n):
        outputs_of(writer).save(path)


def names(folder):
    return sorted(p.name for p in Path(folder).iterdir())


def test_a_writer_inside_another(tmp_path):
    path = tmp_path / "a.npz"
    with whole_file(path) as outer:
        outer.write(b"outer, ")
        with whole_file(path) as inner:
            inner.write(b"inner")
        assert path.read_bytes() == b"inner"
        outer.write(b"whole")
    assert path.read_bytes() == b"outer, whole"
    assert names(tmp_path) == ["a.npz"]


def test_saved_while_another_is_saving(tmp_path, monkeypatch):
    """The second save happens after the first has opened its file and before it is done."""
    path, write = tmp_path / "truth.npz", np.savez_compressed

    def interrupted(file, **arrays):
        monkeypatch.setattr(np, "savez_compressed", write)
        outputs_of(2).save(path)
        write(file, **arrays)

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    outputs_of(1).save(path)
    assert (SubsetOutputs.load(path).outputs == 1).all()
    assert names(tmp_path) == ["truth.npz"]


def test_threads_save_one_file(tmp_path):
    path = tmp_path / "truth.npz"
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(save_often, path, writer) for writer in range(8)]:
            done.result()
    assert len(np.unique(SubsetOutputs.load(path).outputs)) == 1
    assert names(tmp_path) == ["truth.npz"]


@pytest.mark.slow
def test_processes_save_one_file(tmp_path):
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork server on this platform")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.utils.test_files"])
    path = tmp_path / "truth.npz"
    processes = [context.Process(target=save_often, args=(path, w, 30)) for w in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(np.unique(SubsetOutputs.load(path).outputs)) == 1
    assert names(tmp_path) == ["truth.npz"]


def test_opened_while_a_file_takes_its_name(tmp_path, monkeypatch):
    """A listed file is gone when it is looked at, and another one when it is deleted."""
    cache = OutputCache(tmp_path, "key")
    cache.folder.mkdir()
    old, renamed = (cache.folder / f"unfinished-00000000-1-{'0' * 15}{i}.5.npz" for i in range(2))
    listed = [renamed, old]
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(listed))
    unlink = Path.unlink

    def unlinked_twice(self, missing_ok=False):
        unlink(self)
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlinked_twice)
    old.write_bytes(b"")
    os.utime(old, (0, 0))
    OutputCache(tmp_path, "key")
    assert not old.exists()


def test_opened_again_and_again_while_chunks_are_stored(tmp_path):
    cache, stop, failed = OutputCache(tmp_path, "key"), threading.Event(), []

    def store():
        try:
            while not stop.is_set():
                cache.store("chunk", np.ones((1, 3)))
        except OSError as error:
            failed.append(error)

    writers = [threading.Thread(target=store) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        while not (cache.folder / "chunk.npz").exists():
            time.sleep(0.001)
        for _ in range(200):
            loaded = OutputCache(tmp_path, "key").load("chunk", (1, 3))
            np.testing.assert_array_equal(loaded, np.ones((1, 3)))
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not failed
    assert names(cache.folder) == ["chunk.npz"]


def test_only_old_unfinished_files_are_removed(tmp_path):
    old, young = (f"unfinished-00000000-1-{'0' * 15}{i}.5.npz" for i in range(2))
    others = ["chunk.npz", "unfinished-novel.txt", young]  # a user's own file among them
    for name in (old, *others):
        (tmp_path / name).write_bytes(b"")
    for name in (old, *others[:2]):
        os.utime(tmp_path / name, (0, 0))
    remove_abandoned(tmp_path)
    assert names(tmp_path) == sorted(others)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "truth.npz"
    outputs_of(1).save(path)

    def fail(*args, **kwargs):
        raise OSError("disk full")

    for place, name in ((np, "savez_compressed"), (os, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, fail)
            with pytest.raises(OSError, match="disk full"):
                outputs_of(2).save(path)
        assert names(tmp_path) == ["truth.npz"]
    assert (SubsetOutputs.load(path).outputs == 1).all()


def test_others_may_read_what_the_umask_lets_them_read(tmp_path):
    old = os.umask(0o027)
    try:
        outputs_of(1).save(tmp_path / "truth.npz")
        OutputCache(tmp_path, "key").store("chunk", np.ones((1, 1)))
    finally:
        os.umask(old)
    for path in (tmp_path / "truth.npz", tmp_path / "key" / "chunk.npz"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def killed_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_is_removed_at_once(tmp_path):
    own = unfinished_name()
    dead = own.replace(f"-{os.getpid()}-", f"-{killed_process()}-")
    machine = own.split("-")[1]
    elsewhere = dead.replace(machine, "00000000")
    for name in (own, dead, elsewhere):
        (tmp_path / f"{name}.npz").write_bytes(b"")
    remove_abandoned(tmp_path)
    assert names(tmp_path) == sorted([f"{own}.npz", f"{elsewhere}.npz"])
    os.utime(tmp_path / f"{elsewhere}.npz", (0, 0))
    remove_abandoned(tmp_path)
    assert names(tmp_path) == [f"{own}.npz"]


def test_what_a_killed_process_spilled_is_removed_by_the_next_one(tmp_path):
    own = unfinished_name(SPILLED)
    dead = own.replace(f"-{os.getpid()}-", f"-{killed_process()}-")
    for name in (own, dead, "influencekit-of-somebody"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0-0-0").write_bytes(b"")
    remove_abandoned(tmp_path, SPILLED)
    assert names(tmp_path) == sorted([own, "influencekit-of-somebody"])


def test_a_temporary_folder_of_a_killed_process_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder() as made:
        dead = made.replace(f"-{os.getpid()}-", f"-{killed_process()}-")
        Path(dead).mkdir()
        with temporary_folder() as another:
            assert names(tmp_path) == sorted([Path(made).name, Path(another).name])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs the start of a process")
def test_a_process_with_the_number_of_a_killed_one_is_another(tmp_path):
    own = unfinished_name()
    names_of_both = [own, f"{own}0"]  # which began at another time
    for name in names_of_both:
        (tmp_path / name).mkdir()
    remove_abandoned(tmp_path)
    assert names(tmp_path) == [own]


def test_a_cache_begins_by_removing_what_killed_processes_left(tmp_path):
    dead = unfinished_name().replace(f"-{os.getpid()}-", f"-{killed_process()}-")
    folders = [tmp_path, tmp_path / "key", tmp_path / "another key"]
    for folder in folders:
        folder.mkdir(exist_ok=True)
        (folder / f"{dead}.npz").write_bytes(b"")
    OutputCache(tmp_path, "key")
    assert not [path for folder in folders for path in folder.glob("*.npz")]


def test_a_first_file_in_a_folder_removes_what_killed_processes_left(tmp_path):
    dead = unfinished_name().replace(f"-{os.getpid()}-", f"-{killed_process()}-")
    (tmp_path / f"{dead}.npz").write_bytes(b"")
    outputs_of(1).save(tmp_path / "truth.npz")
    assert names(tmp_path) == ["truth.npz"]


def test_a_fit_that_spills_nothing_removes_what_killed_processes_spilled(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = unfinished_name(SPILLED)
    (tmp_path / own.replace(f"-{os.getpid()}-", f"-{killed_process()}-")).mkdir()
    (tmp_path / own).mkdir()
    GradientEngine(as_task(LinearRegression().fit(np.eye(3), np.ones(3))))
    assert names(tmp_path) == [own]


@pytest.mark.parametrize(
    ("place", "name", "code"),
    [(Path, "write_bytes", errno.ENOSPC), (Path, "write_bytes", errno.EROFS), (Path, "mkdir", 13)],
)
def test_a_folder_that_cannot_be_written_is_named_before_work(
    tmp_path, monkeypatch, place, name, code
):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    X = np.arange(20.0).reshape(10, 2)
    y = np.arange(10) % 2
    layer = torch.nn.Linear(1, 1)
    monkeypatch.setattr(place, name, fail)
    monkeypatch.setattr(LogisticRegression, "fit", None)
    with pytest.raises(OSError, match=rf"cache_dir: .*{os.strerror(code)}.* Give another") as found:
        retrain_on_subsets(
            LogisticRegression(), X, y, X, y, n_subsets=2, cache_dir=tmp_path, random_state=0
        )
    assert found.value.errno == code
    with pytest.raises(TrajectoryError, match=rf"folder: .*{os.strerror(code)}.* Give another"):
        Recording(layer, torch.optim.SGD(layer.parameters()), 1, tmp_path, 1, "mean")


def test_a_disk_without_room_for_the_outputs_is_named_before_work(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=999)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    OutputCache(tmp_path, "key", n_bytes=999)
    with pytest.raises(OSError, match=r"cache_dir: .*1,000 bytes are needed"):
        OutputCache(tmp_path, "key", n_bytes=1000)


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError, match=r"cache_dir: .*file' cannot be written"):
        OutputCache(tmp_path / "file", "key")
    with pytest.raises(TrajectoryError, match="does not contain a finished recording"):
        Trajectory.load(tmp_path / "file")


def test_a_full_disk_during_work_names_the_argument(tmp_path, monkeypatch):
    cache = OutputCache(tmp_path, "key")

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match=r"cache_dir: .*No space left on device"):
        cache.store("chunk", np.ones((1, 3)))
    assert not list(tmp_path.glob("*/*"))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"truth.npz' has no folder .*Make the folder"):
        outputs_of(1).save(tmp_path / "missing" / "truth.npz")


def test_a_file_that_was_there_a_moment_ago_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda self: True)
    with pytest.raises(KeyError):
        FolderSnapshots(tmp_path)[3]
    with pytest.raises(TrajectoryError, match="not contain a finished recording"):
        Trajectory.load(tmp_path)
