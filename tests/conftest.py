"""What every room's tests share: one thread, real data by permission, random numbers."""

import os
from pathlib import Path

# before torch and BLAS are loaded: parallel workers would wait for each other's threads
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch

from tests._shared.long import LONG

if os.environ["OMP_NUM_THREADS"] == "1":
    torch.set_num_threads(1)


#: Set by ``make test-device``: "auto" is the accelerator of this machine, where it has one.
DEVICE = "INFLUENCEKIT_DEVICE"


def chosen_device() -> torch.device:
    """Device of the tests that take one; the CPU unless another is asked for."""
    asked = os.environ.get(DEVICE, "cpu")
    if asked != "auto":
        return torch.device(asked)
    found = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if found is None else found


def pytest_report_header():
    """Say on which device the tests run that take one."""
    if DEVICE not in os.environ:
        return []
    device = chosen_device()
    none = " (this machine has no GPU that torch can use)" if device.type == "cpu" else ""
    return [f"tests that take a device run on {device}{none}"]


def pytest_configure(config):
    """Small tables have rows with a high leverage; tests/removal looks at the warning of it."""
    config.addinivalue_line("filterwarnings", "ignore::influencekit.exceptions.LeverageWarning")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Long tests are slow ones, before those that are not asked for are left out."""
    for item in items:
        if item.nodeid.startswith(LONG):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def rng():
    """Generator of random numbers with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def device():
    """The CPU, or with ``make test-device`` this machine's GPU."""
    return chosen_device()


@pytest.fixture(scope="session")
def data_home():
    """Folder with real data sets, named by the environment variable INFLUENCEKIT_DATA."""
    folder = os.environ.get("INFLUENCEKIT_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data: set INFLUENCEKIT_DATA to the folder that holds it")
    return Path(folder)
