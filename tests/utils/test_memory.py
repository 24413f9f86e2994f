"""Amounts of memory as users write them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from influencekit.utils import _long_work
from influencekit.utils._long_work import (
    chunks,
    format_bytes,
    free_memory,
    held_memory,
    memory_limit,
    parse_memory,
    return_freed,
)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (5, 5),
        ("7", 7),
        ("2GB", 2 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("300 kb", 300_000),
        (".5M", 500_000),
    ],
)
def test_accepted_amounts(written, expected):
    assert parse_memory(written) == expected


@pytest.mark.parametrize("written", [0, -3, "", "GB", "2 apples", "1.2.3GB", 1.5, True, "-1GB"])
def test_refused_amounts(written):
    with pytest.raises(ValueError, match="max_memory: got"):
        parse_memory(written)


def test_what_is_free_refuses_and_decides_nothing_else(monkeypatch):
    assert free_memory() > 2**20
    for free in (2**20, 2**45):
        monkeypatch.setattr(_long_work, "free_memory", lambda _device=None, free=free: free)
        assert (parse_memory(None), held_memory(None)) == (2**33, 2**30)
        assert memory_limit(None) == free // 2
        assert parse_memory("3MB") == held_memory("3MB") == memory_limit("3MB") == 3_000_000


def test_format():
    assert [format_bytes(n) for n in (12, 3400, 5.6e9, 7e13)] == [
        "12 B",
        "3.4 kB",
        "5.6 GB",
        "70.0 TB",
    ]


@pytest.mark.parametrize(
    ("n", "each", "budget", "sizes"),
    [
        (10, 1, 4, [4, 4, 2]),
        (10, 3, 13, [4, 4, 2]),
        (3, 5, 4, [1, 1, 1]),  # an item that does not fit stands alone
        (3, 0, 4, [3]),
        (0, 1, 4, []),
    ],
)
def test_chunks_follow_each_other_within_the_budget(n, each, budget, sizes):
    found = list(chunks(n, each, budget))
    assert [part.stop - part.start for part in found] == sizes
    assert [i for part in found for i in range(n)[part]] == list(range(n))


@pytest.mark.skipif(_long_work._glibc() is None, reason="needs glibc")
def test_freed_arrays_go_back_to_the_system():
    arrays = [np.ones(12_500) for _ in range(400)]  # 100 kB each: from the heap
    before = resident()
    del arrays[:-1]  # the last one may keep the heap from shrinking by itself
    return_freed(0)
    assert resident() < before - 3e7
    assert arrays[-1].sum() == 12_500


@pytest.mark.parametrize("at_least", [999, 1000, 1001])
def test_few_freed_arrays_stay(at_least, monkeypatch):
    trimmed = []
    library = SimpleNamespace(
        mallinfo2=lambda: SimpleNamespace(fordblks=1000), malloc_trim=trimmed.append
    )
    monkeypatch.setattr(_long_work, "_glibc", lambda: library)
    return_freed(at_least)
    assert len(trimmed) == (at_least <= 1000)


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
