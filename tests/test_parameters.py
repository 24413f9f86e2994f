"""One order of parameters everywhere: what means the same stands at the same place."""

import inspect

import pytest

from influencekit.base import BaseAttributor
from tests.test_architecture import public_objects

#: What an attributor's own parameters are followed by, in this order.
SHARED = (
    "output", "layers", "engine", "batch_size", "max_memory", "on_nan", "cache_dir", "n_jobs",
    "random_state", "verbose",
)  # fmt: skip
#: What every function and class has last.
LAST = SHARED[SHARED.index("on_nan") :]
OWN = ("damping", "projection_dim", "projection", *SHARED)

PUBLIC = {
    name: inspect.signature(value).parameters
    for name, value in public_objects()
    if not (inspect.isclass(value) and issubclass(value, (tuple, BaseException)))
}
ATTRIBUTORS = {
    name: PUBLIC[name]
    for name, value in public_objects()
    if inspect.isclass(value) and issubclass(value, BaseAttributor)
}


def names(parameters):
    return [p.name for p in parameters.values() if p.kind is not p.VAR_KEYWORD]


def in_order(given, order):
    return [name for name in given if name in order] == [name for name in order if name in given]


@pytest.mark.parametrize("name", ATTRIBUTORS)
def test_an_attributor_has_its_own_parameters_first_and_the_shared_ones_in_order(name):
    given = names(ATTRIBUTORS[name])
    assert in_order(given, OWN), given
    n_shared = sum(one in SHARED for one in given)
    assert all(one in SHARED for one in given[len(given) - n_shared :]), given


@pytest.mark.parametrize("name", ATTRIBUTORS)
def test_an_attributor_takes_two_parameters_by_position_at_most(name):
    parameters = ATTRIBUTORS[name].values()
    assert sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters) <= 2


@pytest.mark.parametrize("name", PUBLIC)
def test_how_a_call_is_run_stands_last(name):
    given = names(PUBLIC[name])
    assert in_order(given, SHARED), given
    n_last = sum(one in LAST for one in given)
    assert all(one in LAST for one in given[len(given) - n_last :]), given
    assert all(PUBLIC[name][one].kind is inspect.Parameter.KEYWORD_ONLY
               for one in ("verbose", "n_jobs", "cache_dir") if one in given), given  # fmt: skip


def test_the_rules_look_at_something():
    assert len(ATTRIBUTORS) >= 15 and len(PUBLIC) >= 100
