"""Temporary files have their place on the disk before they are written: a full one is an error."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.data import make_examples
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent
from influencekit.gradients._store import FeatureStore, on_disk
from tests._shared.marks import NOT_TRAINED

pytestmark = [
    NOT_TRAINED,
    pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system reserves nothing"),
]


def full(_descriptor, _start, _n_bytes):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_files_have_all_their_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    asked, original = [], os.posix_fallocate
    monkeypatch.setattr(
        os, "posix_fallocate", lambda *given: asked.append(given[1:]) or original(*given)
    )
    found = on_disk((100, 10), torch.float64)
    found.fill_(2.0)
    assert asked == [(0, 8_000)]
    assert float(found.sum()) == 2_000
    assert not list(tmp_path.iterdir())


def scored(task, X, y):
    """Scores whose coordinates go to the disk."""
    how = InfluenceFunction("ggn", 0.1, projection_dim=40, max_memory=60_000, random_state=0)
    how.fit(task, X, y)


def held(task, X, y):
    """Gradients that go to the disk."""
    engine, examples = GradientEngine(task, max_memory=100_000), make_examples(task, X, y)
    Gradients(engine, examples, loss_cotangent(task)).held(10_000, spill=True)


@pytest.mark.parametrize("method", ["datainf", "lissa"])
def test_free_disk_decides_about_nothing_but_an_error(method, monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    X, y = torch.randn(90, 1, 8, 8), torch.arange(90) % 3
    task = as_task(net, loss=nn.CrossEntropyLoss())
    usage, spilled = shutil.disk_usage(tempfile.gettempdir()), []
    original = FeatureStore._spill
    monkeypatch.setattr(
        FeatureStore, "_spill", lambda self, f: spilled.append(f) or original(self, f)
    )

    def scores(free):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
        how = InfluenceFunction(method, 10.0, max_memory=150_000, random_state=0)
        return how.fit(task, X, y).score(X[:4], y[:4])

    expected = scores(2**40)
    assert spilled
    np.testing.assert_array_equal(scores(2**21), expected)
    for free in (0, 20_000):
        with pytest.raises(OSError, match=r"max_memory: .* of gradients do not fit .*TMPDIR"):
            scores(free)


@pytest.mark.parametrize("work", [scored, held])
def test_a_full_disk_is_named_and_nothing_is_left(work, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    X, y = torch.randn(240, 1, 8, 8), torch.arange(240) % 3
    task = as_task(net, loss=nn.CrossEntropyLoss())
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"max_memory: .* do not fit .*No space left.*TMPDIR") as said:
        work(task, X, y)
    assert said.value.errno == errno.ENOSPC
    del said
    assert not list(tmp_path.iterdir())
