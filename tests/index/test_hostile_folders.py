"""Folders that were cut, changed or made to harm: clear errors, and nothing is run."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest

from influencekit import GradDot, InfluenceFunction
from influencekit.index import AttributionIndex, load, save
from influencekit.utils._archives import DamagedFile
from tests.index._models import X, linear, y

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
MODEL = linear()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folders as they were written."""
    found = tmp_path_factory.mktemp("whole")
    save(InfluenceFunction().fit(MODEL, X, y), found / "saved")
    save(GradDot().fit(MODEL, X, y), found / "products")
    AttributionIndex(InfluenceFunction(), found / "index", shard_rows=40).fit(MODEL, X, y)
    return found


@pytest.fixture(params=["saved", "index"])
def folder(request, whole, tmp_path):
    """A copy of a folder, and what opens it."""
    shutil.copytree(whole / request.param, tmp_path / "f")
    if request.param == "saved":
        return tmp_path / "f", lambda path: load(path, MODEL)
    return tmp_path / "f", lambda path: AttributionIndex.open(path, MODEL)


@pytest.fixture
def products(whole, tmp_path):
    """A copy of a saved GradDot."""
    shutil.copytree(whole / "products", tmp_path / "products")
    return tmp_path / "products"


def largest_array(path):
    found = [p for p in path.glob("*.npy") if np.load(p).ndim == 2]
    return max(found, key=lambda p: p.stat().st_size)


def changed(path, change):
    """Whoever changes a manifest on purpose leaves its checksum out."""
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["check"]
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


class Harm:
    """What a pickle of it runs."""

    def __reduce__(self):
        return os.mkdir, (os.environ["HARMED"],)


def test_a_file_that_was_cut(folder):
    path, reads = folder
    array = largest_array(path)
    array.write_bytes(array.read_bytes()[:-3])
    with pytest.raises(DamagedFile, match="is damaged: it has"):
        reads(path)


def test_a_flipped_bit_in_an_array_of_an_attributor(whole, tmp_path):
    shutil.copytree(whole / "saved", tmp_path / "f")
    arrays = sorted((tmp_path / "f").glob("*.npy"))
    assert len(arrays) > 3
    for array in arrays:
        content = array.read_bytes()
        for at in (8 * len(content) - 1, 8 * (len(content) - 1)):  # in the last number
            damaged = bytearray(content)
            damaged[at // 8] ^= 1 << at % 8
            array.write_bytes(bytes(damaged))
            with pytest.raises(DamagedFile, match=rf"{array.name} is damaged"):
                load(tmp_path / "f", MODEL)
        array.write_bytes(content)
    load(tmp_path / "f", MODEL)


def test_a_file_of_another_shape(folder):
    path, reads = folder
    np.save(largest_array(path), np.zeros((2, 2)))
    with pytest.raises(DamagedFile, match=r"it holds float64 of shape \(2, 2\)"):
        reads(path)


def test_a_missing_file(folder):
    path, reads = folder
    largest_array(path).unlink()
    with pytest.raises(DamagedFile, match="is missing"):
        reads(path)


def test_a_link(folder, tmp_path):
    path, reads = folder
    array = largest_array(path)
    array.rename(tmp_path / "elsewhere.npy")
    array.symlink_to(tmp_path / "elsewhere.npy")
    with pytest.raises(DamagedFile, match="not an ordinary file"):
        reads(path)


def test_a_manifest_that_is_a_link(folder, tmp_path):
    path, reads = folder
    (path / "manifest.json").rename(tmp_path / "m.json")
    (path / "manifest.json").symlink_to(tmp_path / "m.json")
    with pytest.raises(DamagedFile, match="not an ordinary file"):
        reads(path)


def test_a_pickle_in_place_of_an_array(folder, tmp_path, monkeypatch):
    path, reads = folder
    monkeypatch.setenv("HARMED", str(tmp_path / "harmed"))
    np.save(largest_array(path), np.array([Harm()], dtype=object), allow_pickle=True)
    with pytest.raises(DamagedFile):
        reads(path)
    largest_array_bytes = pickle.dumps(Harm())
    for array in path.glob("*.npy"):
        array.write_bytes(largest_array_bytes)
    with pytest.raises(DamagedFile, match="no header of an array"):
        reads(path)
    assert not (tmp_path / "harmed").exists()


def test_a_size_that_would_take_all_memory(folder):
    path, reads = folder
    array = largest_array(path)
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**3)}
    with open(array, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)

    def enlarge(manifest):
        entries = manifest["arrays"] if "shards" not in manifest else [
            part for entry in manifest["shards"] for part in entry.values()
        ]  # fmt: skip
        for entry in entries:
            if entry["file"] == array.name:
                entry.update({"dtype": "<f8", "shape": [10**9, 10**3]})

    changed(path, enlarge)
    with pytest.raises(DamagedFile, match=r"8\.0 TB"):
        reads(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(format_version=99), "format version 99"),
        (lambda m: m.update(format="something"), "of the format 'something'"),
        (lambda m: m.update(arrays=7), r"arrays|settings|is damaged"),
    ],
)
def test_a_manifest_of_something_else(folder, change, says):
    path, reads = folder
    changed(path, change)
    with pytest.raises(DamagedFile, match=says):
        reads(path)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"format": "influencekit'])
def test_a_manifest_that_is_no_json(folder, text):
    path, reads = folder
    (path / "manifest.json").write_text(text)
    with pytest.raises(DamagedFile):
        reads(path)


def test_a_folder_without_manifest(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no manifest\.json"):
        load(tmp_path, MODEL)
    with pytest.raises(FileNotFoundError, match=r"has no manifest\.json"):
        AttributionIndex.open(tmp_path / "none", MODEL)


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "subprocess:Popen",
        "influencekit.index.files._decode:Path",
        "influencekit.base:copy",
        "influencekit.utils._files:whole_file",
        "influencekit.gradients._store:tempfile.TemporaryDirectory",
        "influencekit.data._mapped:MappedFile",
        "torch.nn.modules.linear:Tensor",
        "builtins:eval",
        "",
    ],
)
def test_a_manifest_can_name_own_classes_only(name, products):
    changed(products, lambda m: m["state"].update(fitted_={"class": name, "state": {}}))
    with pytest.raises(DamagedFile, match="names the class"):
        load(products, MODEL)


@pytest.mark.parametrize(
    "tree",
    [
        {"function": "os:getcwd"},
        {"function": "influencekit.gradients._store:_to_file"},
        {"partial": {"model": [0, "loss"]}, "args": {"tuple": []}, "keywords": {"dict": []}},
        {"method": "mkdir", "of": {"model": [0, "loss"]}},
        {"method": "__class__", "of": {"model": [0, "loss"]}},
        {"model": [0, "__class__"]},
        {"model": [0, "forward"]},
        {"array": 10**6},
        {"array": -1},
        {"ref": 12345},
        {"unknown": 1},
        {"sparse": "__doc__", "shape": [1, 1], "parts": []},
        {"torch_dtype": "nn"},
        [1, 2],
    ],
)
def test_a_manifest_can_run_nothing(tree, products):
    changed(products, lambda m: m["state"].update(fitted_=tree))
    with pytest.raises(DamagedFile):
        load(products, MODEL)


def test_shards_that_do_not_fit_together(whole, tmp_path):
    shutil.copytree(whole / "index", tmp_path / "f")
    changed(tmp_path / "f", lambda m: m.update(dim=m["dim"] + 1))
    with pytest.raises(DamagedFile, match="its map gives 5 numbers of 1 blocks"):
        AttributionIndex.open(tmp_path / "f", MODEL)


def shard(m, number=0, part="coordinates"):
    return m["shards"][number][part]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(generation=float("inf")),
        lambda m: m.update(generation=10**400),
        lambda m: m.update(generation=-1),
        lambda m: m.update(shards=[]),
        lambda m: m.update(shards=[m["shards"][0]] * 2),
        lambda m: m.update(models=7),
        lambda m: m.update(dim=float("nan")),
        lambda m: shard(m).update(shape=[]),
        lambda m: shard(m).update(shape=[-40, -5]),
        lambda m: shard(m).update(shape=[10**30, 5]),
        lambda m: shard(m).update(dtype="O"),
        lambda m: shard(m).update(file="coordinates-\u202e000000.npy"),
        lambda m: shard(m).update(file="../coordinates-000000.npy"),
        lambda m: m["shards"][0].update(coordinates=shard(m, 1)),
    ],
)
def test_a_manifest_of_odd_numbers_and_mixed_files(change, whole, tmp_path):
    shutil.copytree(whole / "index", tmp_path / "f")
    changed(tmp_path / "f", change)
    with pytest.raises(DamagedFile, match="is damaged"):
        AttributionIndex.open(tmp_path / "f", MODEL)


def test_scales_that_no_row_has(whole, tmp_path):
    for i, odd in enumerate((np.nan, -1.0)):
        folder = tmp_path / str(i)
        shutil.copytree(whole / "index", folder)
        file = folder / "factors-000000.npy"
        factors = np.load(file)
        factors[3, 0] = odd
        np.save(file, factors)
        changed(folder, lambda m: shard(m, part="factors").pop("crc32"))
        with pytest.raises(DamagedFile, match=r"factors-000000\.npy is damaged: it has odd scales"):
            AttributionIndex.open(folder, MODEL)


def test_a_state_without_names(products):
    changed(products, lambda m: m.update(state=[1]))
    with pytest.raises(DamagedFile, match="its state has no names"):
        load(products, MODEL)
