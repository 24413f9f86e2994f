"""One changed bit in a file: noticed in words, or without effect."""

import io
import warnings
import zipfile

import numpy as np
import pytest
import torch

from influencekit.exceptions import InfluenceKitWarning, ResourceError, TrajectoryError
from influencekit.training import SubsetOutputs, Trajectory
from influencekit.training._cache import OutputCache
from influencekit.training.trajectory._trajectory import Snapshot

VALUES = np.random.default_rng(0).normal(size=(3, 4))
MASKS = np.eye(3, 8, dtype=bool)


def chunk(folder):
    cache = OutputCache(folder, "key")
    cache.store("chunk", VALUES)
    return cache.folder / "chunk.npz"


def read_chunk(folder):
    """Stored values; values that are trained again count as found."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = OutputCache(folder, "key").load("chunk", VALUES.shape)
    if found is None:
        assert all(w.category is InfluenceKitWarning for w in caught) and len(caught) == 1
        assert "cache_dir" in str(caught[0].message) and "again" in str(caught[0].message)
        return [VALUES]
    return [found]


def outputs(folder):
    truth = SubsetOutputs(MASKS, VALUES[:, None], np.arange(3)[:, None], "margin")
    truth.save(folder / "truth.npz")
    return folder / "truth.npz"


def read_outputs(folder):
    truth = SubsetOutputs.load(folder / "truth.npz")
    return [truth.masks, truth.outputs, truth.seeds, np.array(truth.output)]


def trajectory(folder):
    theta = {"theta": {"weight": torch.arange(3.0)}}
    Trajectory(
        optimizer="SGD",
        groups=(("weight",),),
        options={"lr": np.array([[0.1], [0.2]])},
        switches={"momentum": False, "nesterov": False},
        batches=(np.arange(2), np.arange(3)),
        max_norm=np.array([np.nan, 1.0]),
        snapshots={0: Snapshot(theta, 0), 2: Snapshot(theta, 2)},
        n_rows=3,
    ).save(folder)
    return folder


def read_trajectory(folder):
    run = Trajectory.load(folder)
    named = [*run.groups, run.optimizer, run.switches, run.n_rows, run.reduction]
    states = [run.snapshots[step] for step in sorted(run.snapshots)]
    theta = [s.tensors["theta"]["weight"].numpy() for s in states]
    return [np.array(repr(named)), *run.options.values(), *run.batches, run.max_norm, *theta]


def same(a, b):
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def flips(path, read, error, n, seed):
    """Number of flips that are neither noticed in words nor without effect."""
    folder = path.parent.parent if path.name == "chunk.npz" else path.parent
    whole, wrong = path.read_bytes(), []
    expected = [np.array(v) for v in read(folder)]
    for at in np.random.default_rng(seed).permutation(8 * len(whole))[:n]:
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(bytes(damaged))
        try:
            found = read(folder)
        except error as refused:
            if str(folder) not in str(refused):
                wrong.append((at, "not named", str(refused)[:100]))
            continue
        except Exception as other:
            wrong.append((at, type(other).__name__, str(other)[:100]))
            continue
        if not all(map(same, expected, found)) or len(expected) != len(found):
            wrong.append((at, "silent", ""))
    path.write_bytes(whole)
    return wrong


@pytest.mark.parametrize("n", [60, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("file", ["chunk", "outputs", "settings", "arrays", "snapshot"])
def test_a_flipped_bit_is_noticed_or_has_no_effect(tmp_path, file, n):
    if file == "chunk":
        path, read, error = chunk(tmp_path), read_chunk, ()
    elif file == "outputs":
        path, read, error = outputs(tmp_path), read_outputs, ValueError
    else:
        names = {"settings": "trajectory.json", "arrays": "trajectory.npz"}
        path = trajectory(tmp_path) / names.get(file, "step_00000002.npz")
        read, error = read_trajectory, TrajectoryError
    assert flips(path, read, error, n, seed=len(file)) == []


def bomb(path, like, size):
    """An archive whose first array has become zeros of this size."""
    with zipfile.ZipFile(like) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    name = next(iter(parts))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (size // 8,)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        with new.open(name, "w") as member:
            member.write(header.getvalue())
            for _ in range(size // 2**20):
                member.write(bytes(2**20))
        for other in list(parts)[1:]:
            new.writestr(other, parts[other])


@pytest.mark.parametrize("file", ["chunk", "outputs", "arrays"])
def test_an_archive_that_unpacks_to_much_is_not_unpacked(tmp_path, monkeypatch, file):
    if file == "chunk":
        path = chunk(tmp_path)
    else:
        path = outputs(tmp_path) if file == "outputs" else trajectory(tmp_path) / "trajectory.npz"
    bomb(path, path, 2**26)
    monkeypatch.setattr("influencekit.utils._archives.free_memory", lambda: 2**24)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    if file == "chunk":
        np.testing.assert_array_equal(read_chunk(tmp_path), [VALUES])
    elif file == "outputs":
        with pytest.raises(ResourceError, match=r"path: .*truth.npz .*unpacks to 67"):
            read_outputs(tmp_path)
    else:
        with pytest.raises(ResourceError, match=r"folder: .*trajectory.npz .*unpacks to 67"):
            read_trajectory(tmp_path)
