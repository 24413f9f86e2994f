"""The steps of docs/new_attributor.md that every attributor of the package has taken."""

import importlib
import inspect
import pkgutil

import pytest

import influencekit
from influencekit import (
    LESS,
    AdamWInfluence,
    AttributionIndex,
    BaseAttributor,
    DVEmb,
    InRunShapley,
    LossBaseline,
    RandomBaseline,
    SGDInfluence,
    attributors,
)
from tests.test_architecture import public_objects
from tests.test_common import ATTRIBUTORS
from tests.values.test_common_checks import VALUES

#: No paper introduces them.
WITHOUT_A_PAPER = {AttributionIndex, LossBaseline, RandomBaseline}
#: They need a recorded run, which the common checks' models have not.
WITH_A_RUN = {AdamWInfluence, DVEmb, InRunShapley, LESS, SGDInfluence}
#: Its folder is used once; ``tests/index`` has checks of its own.
IN_A_FOLDER = {AttributionIndex}


def is_attributor(value):
    return inspect.isclass(value) and issubclass(value, BaseAttributor)


PUBLIC = [value for _, value in public_objects() if is_attributor(value)]
FINAL = [kind for kind in PUBLIC if not inspect.isabstract(kind)]


def written_in_the_room():
    """Attributors of every file of ``influencekit/attributors/``, exported or not."""
    for file in pkgutil.walk_packages(attributors.__path__, f"{attributors.__name__}."):
        module = importlib.import_module(file.name)
        for value in vars(module).values():
            own = is_attributor(value) and value.__module__ == module.__name__
            if own and not inspect.isabstract(value):
                yield value


@pytest.mark.parametrize("kind", sorted({*FINAL, *written_in_the_room()}, key=repr))
def test_is_exported(kind):
    name = kind.__name__
    exported = {*influencekit.__all__, *influencekit.values.__all__}
    assert name in exported, f"export {name} in influencekit/__init__.py, or values/__init__.py"


def test_they_are_found():
    assert len(FINAL) >= 10


@pytest.mark.parametrize("kind", FINAL)
def test_abstract_or_final(kind):
    inherited = [base for base in kind.__mro__[1:] if is_attributor(base)]
    final = [base.__name__ for base in inherited if not inspect.isabstract(base)]
    assert not final, f"{kind.__name__} inherits from {final}; inherit from BaseAttributor"


@pytest.mark.parametrize("kind", [kind for kind in FINAL if kind not in WITH_A_RUN | IN_A_FOLDER])
def test_row_in_the_table_of_common_checks(kind):
    rows = {type(attributor) for attributor in (*ATTRIBUTORS, *VALUES)}
    assert kind in rows, f"add a row for {kind.__name__} to ATTRIBUTORS in tests/test_common.py"


@pytest.mark.parametrize("kind", FINAL)
def test_parameters_are_constrained(kind):
    parameters = list(inspect.signature(kind).parameters)
    missing = set(parameters) - set(kind._parameter_constraints)
    assert not missing, f"{kind.__name__}._parameter_constraints: say what {missing} accept"


@pytest.mark.parametrize("kind", FINAL)
def test_docstring_says_what_it_costs_and_shows_it(kind):
    parts = ["Parameters\n"] if inspect.signature(kind).parameters else []
    parts += ["Attributes\n", "Notes\n", "Cost", "Examples\n"]
    parts += [] if kind in WITHOUT_A_PAPER else ["References\n"]
    missing = [part.strip() for part in parts if part not in inspect.getdoc(kind)]
    assert not missing, f"the docstring of {kind.__name__} has no {missing}"
