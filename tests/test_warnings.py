"""A warning that a test does not expect fails it: the settings of pytest, tried on small tests."""

import subprocess
import sys
from pathlib import Path

import pytest

from influencekit.exceptions import InfluenceKitWarning

ROOT = Path(__file__).parents[1]

TESTS = """
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from influencekit import InfluenceFunction
from influencekit.exceptions import InfluenceKitWarning, NotStationaryWarning, warn_user

OURS = [InfluenceKitWarning, *InfluenceKitWarning.__subclasses__()]
X, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2


def attribute():
    model = LogisticRegression().fit(X, y)
    model.coef_ += 1.0  # no longer where its training ended
    InfluenceFunction(damping=0.1).fit(model, X, y)


@pytest.mark.parametrize("category", OURS, ids=lambda category: category.__name__)
def test_each_of_ours(category):
    warn_user("something", category)

def test_by_an_attributor():
    attribute()

def test_training_that_did_not_converge():
    LogisticRegression(C=1e6, max_iter=1).fit(X, y)

def test_division_by_zero():
    np.ones(1) / np.zeros(1)

def test_expected():
    with pytest.warns(NotStationaryWarning):
        attribute()

@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
def test_allowed():
    attribute()
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Outcome of each of the small tests, by name."""
    file = tmp_path_factory.mktemp("warnings") / "test_small.py"
    file.write_text(TESTS)
    settings = ["-c", ROOT / "pyproject.toml", "--rootdir", file.parent, "-p", "no:cacheprovider"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rA",
            "--tb=no",
            "--disable-warnings",
            *settings,
            file,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    lines = [line.split() for line in done.stdout.splitlines() if "test_small.py::" in line]
    return {line[1].split("::")[1]: line[0] for line in lines}


def test_unexpected_warnings_fail(outcomes):
    ours = [InfluenceKitWarning, *InfluenceKitWarning.__subclasses__()]
    assert {name for name, outcome in outcomes.items() if outcome == "FAILED"} == {
        "test_by_an_attributor",
        "test_training_that_did_not_converge",
        "test_division_by_zero",
        *(f"test_each_of_ours[{category.__name__}]" for category in ours),
    }


def test_expected_warnings_pass(outcomes):
    passed = {name for name, outcome in outcomes.items() if outcome == "PASSED"}
    assert passed == {"test_expected", "test_allowed"}
