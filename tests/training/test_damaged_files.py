"""Archives that unpack to much more than they hold; flipped bits are in tests/flips."""

import io
import zipfile

import numpy as np
import pytest

from influencekit.exceptions import ResourceError
from influencekit.training._cache import OutputCache
from tests.flips._stores import STORES, VALUES

FILES = {
    "cache entry": "key/chunk.npz",
    "SubsetOutputs": "truth.npz",
    "recording": "trajectory.npz",
}


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


@pytest.mark.filterwarnings("ignore:cache_dir")
@pytest.mark.parametrize("kind", FILES)
def test_an_archive_that_unpacks_to_much_is_not_unpacked(tmp_path, monkeypatch, kind):
    store, path = STORES[kind], tmp_path / FILES[kind]
    store.write(tmp_path)
    bomb(path, path, 2**26)
    monkeypatch.setattr("influencekit.utils._archives.free_memory", lambda: 2**24)
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "open", None)
        if store.error:
            with pytest.raises(
                ResourceError, match=rf"(path|folder): .*{path.name} .*unpacks to 67"
            ):
                store.read(tmp_path)
            return
        assert OutputCache(tmp_path, "key").load("chunk", VALUES.shape) is None
    np.testing.assert_array_equal(store.read(tmp_path)[0], VALUES)
