"""A few cases of the soak, and faults that it sees."""

import tempfile

import numpy as np
import pytest

from influencekit import BaseAttributor
from tests.soak import __main__ as soak
from tests.soak._case import failures_of
from tests.soak._count import Count

SEEDS = [5, 6, 7, 11, 12, 600_238]

#: A fault in scores, and the law that it breaks.
FAULTS = {
    "autograd": lambda scores: scores * 1.001,
    "finite": lambda scores: np.where(scores == scores.max(), np.nan, scores),
    "permutation": lambda scores: scores * np.arange(1, scores.shape[1] + 1),
    "halves": lambda scores: scores * len(scores),
    "repeated": lambda scores: scores * (1 + 1e-9 * next(COUNT)),
    "unchanged: random numbers of numpy": lambda scores: scores + 0 * np.random.rand(),
}
COUNT = iter(range(10_000))


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """The folder of temporary files, in which other processes would write."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize("seed", SEEDS)
def test_laws_hold(seed):
    assert failures_of(seed) == []


@pytest.mark.parametrize("law", FAULTS)
def test_a_fault_is_seen(law, monkeypatch):
    score = BaseAttributor.score
    monkeypatch.setattr(BaseAttributor, "score", lambda *args: FAULTS[law](score(*args)))
    failures = failures_of(SEEDS[0])
    assert law in [failure["law"] for failure in failures], failures


def test_a_soak_is_counted_and_goes_on(tmp_path, monkeypatch, capsys):
    asked = []

    def found(seed):
        asked.append(seed)
        return [{"seed": seed, "law": "none"}] if seed == 8 else []

    monkeypatch.setattr(soak, "failures_of", found)
    path = tmp_path / "done"
    assert soak.soak(range(7, 10), 60, Count(path)) == 1
    assert "3 cases (seeds 7 to 9), 1 with a failure: 8" in capsys.readouterr().err
    with open(path, "a") as file:
        file.write('{"seed": 10, "fai')  # as a kill leaves it
    assert soak.soak(range(7, 12), 60, Count(path, interval=0)) == 1
    assert asked == [7, 8, 9, 10, 11]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "4 cases (seeds 7 to 10), 1 with a failure: 8"
    assert said[-1] == "5 cases (seeds 7 to 11), 1 with a failure: 8"
    assert len(Count(path).failures) == 5
