"""Figures are drawn without a screen and closed after each test."""

import pytest

matplotlib = pytest.importorskip("matplotlib", reason="displays need matplotlib")
matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    """Close every figure, and check that drawing left the user's settings alone."""
    before = dict(matplotlib.rcParams)
    yield
    changed = {key for key, value in before.items() if matplotlib.rcParams[key] != value}
    matplotlib.pyplot.close("all")
    assert not changed - {"backend"}
