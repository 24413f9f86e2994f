"""What becomes of a flipped bit."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from influencekit.exceptions import InfluenceKitWarning
from tests.flips._stores import Store, files_of

#: Good ends: an error names the file; a cache makes the entry again; nothing depends on the bit.
GOOD = ("refused", "healed", "harmless")


def flips(store: Store, folder: Path, n: int | None, seed: int = 0) -> Counter:
    """Ends of n random flips, or of all, in the files of a store; others than GOOD say where."""
    folder.mkdir(parents=True)
    store.write(folder)
    expected = [np.array(part) for part in store.read(folder)]
    files = files_of(folder)
    starts = np.cumsum([0, *(8 * path.stat().st_size for path in files)])
    found: Counter = Counter()
    for at in np.random.default_rng(seed).permutation(starts[-1])[:n]:
        place = int(np.searchsorted(starts, at, side="right")) - 1
        found[_end(store, folder, files[place], int(at - starts[place]), expected)] += 1
    return found


def _end(store: Store, folder: Path, path: Path, bit: int, expected: list) -> str:
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    _overwrite(path, bytes(damaged))
    try:
        end = _read(store, folder, expected)
    finally:
        _overwrite(path, whole)
    return end if end in GOOD else f"{end} ({path.name}, bit {bit})"


def _read(store: Store, folder: Path, expected: list) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = store.read(folder)
        except store.error as error:
            named = str(folder) in str(error)
            return "refused" if named else f"refused without a name: {error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    if len(found) != len(expected) or not all(map(_same, expected, found)):
        return "silent"
    told = [str(w.message) for w in caught if w.category is InfluenceKitWarning]
    if not told:
        return "harmless"
    healed = len(told) == 1 and "cache_dir" in told[0] and "again" in told[0]
    return "healed" if healed and not store.error else f"warned: {told}"


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _overwrite(path: Path, content: bytes) -> None:
    """Other bytes in a file that may be mapped, so it never becomes shorter than it was."""
    with open(path, "r+b") as file:
        file.write(content)
        os.ftruncate(file.fileno(), len(content))
