"""The reference is complete, and the pages of the docs say what every public name is for."""

import ast
import importlib
import importlib.util
import inspect
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

_spec = importlib.util.spec_from_file_location("docs_api", DOCS / "_api.py")
api = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(api)

#: One dotted name for every public object.
HOMES = sorted(set(api.homes().values()))
AUTHORS = "methods.rst"  # the page for those who write a method of their own
#: The texts where a name may be used or explained.  The design is for readers of the code.
TEXTS = [ROOT / "README.md", *DOCS.glob("*.md"), *(ROOT / "examples").glob("*.py")]
TEXTS.remove(DOCS / "design.md")
#: Classes that methods of engines and runs hand to other files of the package.
INNER = {"Layout", "Rule"}


def found(dotted):
    module, name = dotted.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Text of every page that autosummary makes of ``docs/api``, by name."""
    source = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS / "api", source, ignore=lambda *_: ["generated"], dirs_exist_ok=True)
    settings = {
        "extensions": ["sphinx.ext.autosummary"],
        "templates_path": [str(DOCS / "_templates")],
    }
    out = source / "out"
    Sphinx(source, None, out, out, "dummy", settings, status=None, warning=None)
    return {page.stem: page.read_text() for page in (source / "generated").glob("*.rst")}


def test_every_public_name_stands_on_one_page_of_the_reference():
    counts = Counter(api.listed())
    assert [name for name in HOMES if not counts[name]] == [], "add it to a page of docs/api"
    assert {name: n for name, n in counts.items() if n > 1} == {}
    assert set(counts) - set(HOMES) == set(api.results().values())


def test_every_class_and_function_has_a_page(pages):
    objects = [n for n in api.listed() if inspect.isclass(found(n)) or inspect.isfunction(found(n))]
    assert sorted(pages) == sorted(objects)
    assert len(objects) > 120
    assert all(
        re.search(r"^\.\. auto(class|exception|function)::", t, re.M) for t in pages.values()
    )


def test_pages_of_the_reference_begin_with_a_sentence():
    """The title, its line, an empty line, and text that ends with a period."""
    listed = re.findall(r"^   (\w+)$", (DOCS / "api" / "index.rst").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(p.stem for p in api.PAGES if p.stem != "index")
    for page in api.PAGES:
        title, line, empty, text, *_ = page.read_text().split("\n", 4)
        assert (len(line), set(line), empty) == (len(title), {"="}, ""), page.name
        assert re.match(r"[A-Z]\w+ ", text), page.name


def public_functions():
    """Public functions, and the public methods and properties of public classes."""
    for name in HOMES:
        value = found(name)
        members = inspect.getmembers_static(value) if inspect.isclass(value) else [("", value)]
        for member, function in members:
            function = getattr(function, "fget", getattr(function, "__func__", function))
            function = inspect.unwrap(function) if callable(function) else function
            if inspect.isfunction(function) and not member.startswith("_"):
                yield f"{name}.{member}", function


def test_what_public_functions_return_is_in_the_reference():
    homes = {id(found(name)) for name in api.listed()}
    missing, seen = {}, 0
    for name, function in public_functions():
        for word in re.findall(r"\b[A-Z]\w+", str(function.__annotations__.get("return", ""))):
            value = function.__globals__.get(word)
            if inspect.isclass(value) and value.__module__.startswith("influencekit."):
                seen += 1
                bases = {id(base) for base in value.__mro__}  # of a curvature the base is enough
                if not bases & homes and word not in INNER:
                    missing[word] = name
    assert missing == {}, "list the class below 'What these return' of a page of docs/api"
    assert seen > 50


def test_results_are_not_exported():
    """So a package's ``__all__`` is what a user writes; see CONTRIBUTING.md."""
    exported = {id(found(name)) for name in HOMES}
    for name in api.results().values():
        assert id(found(name)) not in exported
        assert found(name).__module__ == name.rsplit(".", 1)[0]  # where pickle looks


IMPORT = re.compile(r"(?m)^ *(from [\w.]+ )?import (\([^)]*\)|.*)$")
CODE = re.compile(r"(?ms)^```\w*\n(.*?)^```$|`+([^`]+)`+")


def code_words(path):
    """Words of a text's code: blocks and code in its lines, but imports, which only list names."""
    text = path.read_text(encoding="utf-8")
    parts = [a or b for a, b in CODE.findall(text)]
    if path.suffix == ".py":
        nodes = ast.walk(ast.parse(text))
        parts += [ast.unparse(n) for n in nodes if isinstance(n, (ast.Name, ast.Attribute))]
    return {word for part in parts for word in re.findall(r"\w+", IMPORT.sub("", part))}


WORDS = {word for path in TEXTS for word in code_words(path)}


def test_prose_and_imports_do_not_count_as_use(tmp_path):
    page, example = tmp_path / "page.md", tmp_path / "example.py"
    code = "from some import (\n    One,\n    Two,\n)\nfrom other import Three\nFour()\n"
    page.write_text(f"Five and `Six`.\n\n```python\n{code}```\n")
    example.write_text(f'"""Five and ``Six``."""\n\n{code}')
    for path in (page, example):
        assert {"One", "Two", "Three", "Four", "Five", "Six"} & code_words(path) == {"Four", "Six"}


@pytest.mark.parametrize("name", HOMES)
def test_every_public_name_is_used_or_explained(name):
    assert name.rsplit(".", 1)[1] in WORDS, "say in a page or an example what it is for"


def test_the_surface_stays_small():
    """A newcomer can hold the users' names in mind; authors of methods read some more."""
    page = (DOCS / "api" / AUTHORS).read_text()
    authors = {name for name in HOMES if re.search(rf"{re.escape(name)}$", page, re.MULTILINE)}
    assert len(authors) <= 34
    assert len(HOMES) - len(authors) <= 123
