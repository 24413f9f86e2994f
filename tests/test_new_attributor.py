"""The steps of docs/new_attributor.md that every attributor of the package has taken."""

import inspect

import pytest

import influencekit
from influencekit import AdamWInfluence, BaseAttributor, SGDInfluence
from tests.test_architecture import public_objects
from tests.test_common import ATTRIBUTORS

#: They need a recorded run, which the common checks' models have not.
WITH_A_RUN = {AdamWInfluence, SGDInfluence}


def is_attributor(value):
    return inspect.isclass(value) and issubclass(value, BaseAttributor)


PUBLIC = [value for _, value in public_objects() if is_attributor(value)]
FINAL = [kind for kind in PUBLIC if not inspect.isabstract(kind)]


def test_they_are_found():
    assert len(FINAL) >= 10
    assert {kind.__name__ for kind in FINAL} <= set(influencekit.__all__)


@pytest.mark.parametrize("kind", FINAL)
def test_abstract_or_final(kind):
    inherited = [base for base in kind.__mro__[1:] if is_attributor(base)]
    assert [base for base in inherited if not inspect.isabstract(base)] == []


@pytest.mark.parametrize("kind", [kind for kind in FINAL if kind not in WITH_A_RUN])
def test_row_in_the_table_of_common_checks(kind):
    assert kind in {type(attributor) for attributor in ATTRIBUTORS}


@pytest.mark.parametrize("kind", FINAL)
def test_parameters_are_constrained(kind):
    parameters = list(inspect.signature(kind).parameters)
    assert set(parameters) <= set(kind._parameter_constraints)


@pytest.mark.parametrize("kind", FINAL)
def test_docstring_says_what_it_costs_and_shows_it(kind):
    for part in ("Parameters\n", "Attributes\n", "Notes\n", "Cost", "Examples\n"):
        assert part in inspect.getdoc(kind), part
