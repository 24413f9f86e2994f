"""A bit that changes in the rows of an index is found, and its shard is written again."""

import numpy as np
import pytest

from influencekit import AttributionIndex, GradDot
from influencekit.index import _build
from influencekit.utils._archives import DamagedFile
from tests.index._models import X, X_query, linear, y, y_query

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
MODEL = linear()


def index(folder):
    return AttributionIndex(GradDot(), folder, shard_rows=40, dtype="int8")


@pytest.fixture
def folder(tmp_path):
    index(tmp_path / "i").fit(MODEL, X, y)
    return tmp_path / "i"


def flip(path, at=-1):
    """Change one bit, by default of the last number."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))
    return bytes(content)


@pytest.mark.parametrize("name", ["coordinates-000001.npy", "factors-000002.npy"])
def test_a_flipped_bit_in_a_shard_is_found_by_name(name, folder):
    flip(folder / name)
    with pytest.raises(DamagedFile, match=rf"{name} is damaged.*fit\(model, X, y\) on this folder"):
        AttributionIndex.open(folder, MODEL)
    rows = np.load(folder / name)
    opened = AttributionIndex.open(folder, MODEL, verify=False)  # asked for
    own = opened.fitted_[0].shards[int(name[-5])]
    found = own.coordinates if "coordinates" in name else own.ratios
    np.testing.assert_array_equal(found.numpy()[-1, -1], rows[-1, -1])


def test_fit_writes_damaged_shards_again(folder):
    names = sorted(path.name for path in folder.iterdir())
    good = {name: (folder / name).read_bytes() for name in names if name.endswith(".npy")}
    expected = AttributionIndex.open(folder, MODEL).score(X_query, y_query)
    flip(folder / "coordinates-000001.npy")
    (folder / "factors-000002.npy").unlink()
    index(folder).fit(MODEL, X, y)
    assert sorted(path.name for path in folder.iterdir()) == names
    assert {name: (folder / name).read_bytes() for name in good} == good
    opened = AttributionIndex.open(folder, MODEL)
    np.testing.assert_array_equal(opened.score(X_query, y_query), expected)


def test_a_build_that_goes_on_writes_damaged_shards_again(folder, tmp_path, monkeypatch):
    write, made, alive = _build.write_shard, [], []

    def writes(folder, name, *rest):
        if name == "000002" and not alive:
            raise KeyboardInterrupt
        made.append(name)
        return write(folder, name, *rest)

    monkeypatch.setattr(_build, "write_shard", writes)
    with pytest.raises(KeyboardInterrupt):
        index(tmp_path / "j").fit(MODEL, X, y)
    flip(tmp_path / "j" / "factors-000000.npy", -9)
    alive.append(True)
    index(tmp_path / "j").fit(MODEL, X, y)
    assert made == ["000000", "000001", "000000", "000002"]
    for path in folder.glob("*.npy"):
        assert (tmp_path / "j" / path.name).read_bytes() == path.read_bytes()


def test_rows_that_are_left_of_a_damaged_shard_are_not_written(folder):
    opened = AttributionIndex.open(folder, MODEL).remove_rows([0])
    flip(folder / "coordinates-000000.npy")
    with pytest.raises(DamagedFile, match=r"coordinates-000000\.npy is damaged"):
        opened.compact()


def test_added_and_compacted_rows_have_checksums(folder):
    AttributionIndex.open(folder, MODEL).add_rows(X[:5], y[:5]).remove_rows([0]).compact()
    paths = sorted(folder.glob("coordinates-*.npy"))
    assert len(paths) == 4
    for path in paths:
        content = path.read_bytes()
        flip(path)
        with pytest.raises(DamagedFile, match=rf"{path.name} is damaged"):
            AttributionIndex.open(folder, MODEL)
        path.write_bytes(content)
    AttributionIndex.open(folder, MODEL)
