"""The reference is complete: autosummary makes a page, or an entry, for every public name."""

import importlib
import importlib.util
import inspect
import re
import shutil
from pathlib import Path

import pytest
from sphinx.application import Sphinx

from tests.test_architecture import rooms

DOCS = Path(__file__).resolve().parents[1] / "docs"
NAMES = [
    (room, name)
    for room in rooms()
    for name in getattr(importlib.import_module(room), "__all__", [])
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Text of every page that autosummary makes of ``docs/api``, by name."""
    spec = importlib.util.spec_from_file_location("docs_api", DOCS / "_api.py")
    api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(api)
    source = tmp_path_factory.mktemp("site")
    shutil.copy(DOCS / "api" / "index.rst", source / "index.rst")
    settings = {
        "extensions": ["sphinx.ext.autosummary"],
        "templates_path": [str(DOCS / "_templates")],
        "autosummary_context": {"api": {room: api.api_of(room) for room in api.rooms()}},
    }
    out = source / "out"
    Sphinx(source, None, out, out, "dummy", settings, status=None, warning=None)
    return {page.stem: page.read_text() for page in (source / "generated").glob("*.rst")}


def entries(page):
    return re.findall(r"^   ([\w.]+)$|^\.\. autodata:: ([\w.]+)$", page, re.MULTILINE)


def test_every_room_has_a_page(pages):
    assert {room for room, _ in NAMES} <= set(pages), "add the module to docs/api/index.rst"


@pytest.mark.parametrize("room", sorted({room for room, _ in NAMES}))
def test_every_public_name_is_listed(pages, room):
    listed = {(a or b).rsplit(".", 1)[-1] for a, b in entries(pages[room])}
    assert listed == {name for r, name in NAMES if r == room}


def test_every_class_and_function_has_one_page(pages):
    homes = {}
    for room, name in NAMES:
        value = getattr(importlib.import_module(room), name)
        if inspect.isclass(value) or inspect.isfunction(value):
            homes.setdefault(id(value), []).append(f"{room}.{name}")
    made = {name for names in homes.values() for name in names if name in pages}
    assert [names for names in homes.values() if len(made.intersection(names)) != 1] == []
    assert len(made) > 90
    assert all(re.search(r"^\.\. auto(class|exception|function)::", pages[n], re.M) for n in made)
