"""Files written whole or not at all while others write, open and read beside."""

import multiprocessing
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from influencekit.training import SubsetOutputs, Trajectory
from influencekit.training._cache import OutputCache
from influencekit.training.trajectory._trajectory import FolderSnapshots
from influencekit.utils._files import remove_abandoned, whole_file


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
    old = cache.folder / "unfinished-old.npz"
    listed = [cache.folder / "unfinished-renamed.npz", old]
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
    for name in ("unfinished-old.npz", "unfinished-young.npz", "chunk.npz"):
        (tmp_path / name).write_bytes(b"")
    for name in ("unfinished-old.npz", "chunk.npz"):
        os.utime(tmp_path / name, (0, 0))
    remove_abandoned(tmp_path)
    assert names(tmp_path) == ["chunk.npz", "unfinished-young.npz"]


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


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"truth.npz' has no folder .*Make the folder"):
        outputs_of(1).save(tmp_path / "missing" / "truth.npz")


def test_a_file_that_was_there_a_moment_ago_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda self: True)
    with pytest.raises(KeyError):
        FolderSnapshots(tmp_path)[3]
    with pytest.raises(FileNotFoundError, match="not contain a finished recording"):
        Trajectory.load(tmp_path)
