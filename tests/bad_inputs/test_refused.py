"""Bad inputs: none is taken in silence, and none ends in an error of torch, numpy or Python.

Each row says what is done and what the error or the warning must say: the argument, and what
was got. All of them also say what is accepted or what to do.
"""

import pytest

from tests.bad_inputs import (
    _functions,
    _groups,
    _indexes,
    _inputs,
    _models,
    _numbers,
    _targets,
    _unused,
)
from tests.bad_inputs._outcome import outcome

TABLES = (_inputs, _targets, _models, _functions, _groups, _unused, _indexes, _numbers)
ROWS = [row for table in TABLES for row in table.ROWS]


@pytest.mark.parametrize(("use", "said"), [pytest.param(*row, id=name) for name, *row in ROWS])
def test_is_refused_or_warned_of(use, said):
    kind, message = outcome(use, said)
    assert kind == "clear", f"{kind}: {message}"


def test_there_are_three_hundred_of_different_names():
    names = [row[0] for row in ROWS]
    assert len(set(names)) == len(names) >= 300
