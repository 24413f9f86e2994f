"""Progress is silent unless asked for, redraws bars on screens, and writes few lines into logs."""

import io
import sys

import joblib
import pytest
import tqdm.auto
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from influencekit import (
    InfluenceFunction,
    LDSSearch,
    SensitivityStudy,
    retrain_on_subsets,
)
from influencekit.utils import _long_work
from influencekit.utils._long_work import one_notice, progress
from influencekit.utils._torch import with_gradients


class Screen(io.StringIO):
    """An error stream that is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Clock of tqdm that only the test moves."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr("tqdm.std.time", lambda: Clock.now)
    return Clock


def through(clock, n, seconds, **options):
    """Go through n items that take so many seconds each."""
    seen = []
    for item in progress(range(n), "work", 1, **options):
        clock.now += seconds
        seen.append(item)
    return seen


def test_silent_unless_asked_for(capsys):
    assert list(progress(range(5), "work")) == list(range(5))
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_a_line_every_half_minute(capsys, clock):
    assert through(clock, 100, 1.0) == list(range(100))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" after")[0] for line in lines] == [
        f"work: {i} of 100" for i in (30, 60, 90, 100)
    ]
    assert "after 00:30, 01:10 to go" in lines[0] and "\r" not in "".join(lines)


@pytest.mark.parametrize(("leave", "n_lines"), [(True, 1), (False, 0)])
def test_short_loops_leave_at_most_their_end(capsys, clock, leave, n_lines):
    for _ in range(3):
        through(clock, 1000, 0.01, leave=leave)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 * n_lines and all("1000 of 1000" in line for line in lines)


def test_a_log_says_how_far_a_broken_loop_came(capsys, clock):
    def broken():
        for item in progress(range(9), "work", 1):
            clock.now += 1
            if item == 4:
                raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert "work: 4 of 9" in capsys.readouterr().err


def test_unknown_length(capsys, clock):
    for _ in progress(iter(range(4)), "work", 1):
        clock.now += 20
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" after")[0] for line in lines] == ["work: 2 of ?", "work: 4 of ?"]


def test_terminals_and_notebooks_get_bars(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Screen())
    bar = progress(range(3), "work", 1)
    assert isinstance(bar, tqdm.auto.tqdm) and list(bar) == [0, 1, 2]
    assert "\rwork:" in sys.stderr.getvalue() and "3/3" in sys.stderr.getvalue()
    kernel = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    monkeypatch.setattr(sys, "stderr", kernel())
    assert isinstance(progress(range(3), "work", 1), tqdm.auto.tqdm)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr("tqdm.auto.notebook_tqdm", object)  # as with ipywidgets
    assert isinstance(progress(range(3), "work", 1), tqdm.auto.tqdm)


@pytest.fixture
def watch(monkeypatch):
    """Clock of notices and loggers that only the test moves."""

    class Watch:
        now = 1000.0

    monkeypatch.setattr(_long_work.time, "monotonic", lambda: Watch.now)
    return Watch


def silently(watch, n, seconds, description="work"):
    for _ in progress(range(n), description):
        watch.now += seconds


@pytest.mark.parametrize(("n", "seconds", "said"), [(60, 1.0, 0), (80, 1.0, 1), (5, 100, 1)])
def test_more_than_a_minute_is_said_once_where_nothing_is_shown(caplog, watch, n, seconds, said):
    silently(watch, n, seconds)
    notices = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(notices) == said
    assert all("min to go; verbose=1 shows the progress" in one for one in notices)


def test_a_call_of_several_long_loops_says_it_once(caplog, watch):
    @with_gradients
    def call():
        for number in range(3):
            silently(watch, 100, 1.0, f"part {number}")
            with one_notice():
                silently(watch, 100, 1.0, f"inner part {number}")

    call()
    call()
    notices = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert [one.split(" of ")[0] for one in notices] == ["part 0: 5"] * 2
    assert notices[0] == (
        "part 0: 5 of 100 after 5 s, about 1.6 min to go; verbose=1 shows the progress"
    )


def test_loggers_get_a_line_every_half_minute(caplog, watch):
    caplog.set_level("INFO", logger="influencekit.progress")
    with progress(None, "work", total=100) as bar:
        for _ in range(10):
            watch.now += 10
            bar.update(10)
    lines = [r.getMessage() for r in caplog.records if r.levelname == "INFO"]
    assert lines == [f"work: {i} of 100 after {i} s" for i in (30, 60, 90)]


def test_loops_over_workers_and_trials(capsys):
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(X[::2], y[::2])
    data = (model, X[::2], y[::2], X[1::30], y[1::30])
    options = {"n_jobs": 2, "random_state": 0, "verbose": 1}
    with joblib.parallel_config(backend="threading"):
        truth = retrain_on_subsets(*data, n_subsets=6, n_repeats=1, engine="joblib", **options)
    assert "retraining: 6 of 6" in capsys.readouterr().err
    search = LDSSearch(InfluenceFunction("fisher"), n_trials=3, random_state=0, verbose=1)
    search.fit(*data[:3], X_query=data[3], y_query=data[4], subset_outputs=truth)
    assert "trials: 3 of 3" in capsys.readouterr().err
    grid = (InfluenceFunction("fisher"), {"damping": [1e-3, 1e-1], "projection_dim": [None, 4]})
    with joblib.parallel_config(backend="threading"):
        SensitivityStudy(grid, **options).fit(*data, subset_outputs=truth)
    assert "fits: 2 of 2" in capsys.readouterr().err
