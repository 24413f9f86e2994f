"""The house rules, checked: imports, docstrings, size, and what no file may hold."""

import ast
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from numpydoc.validate import validate

import influencekit

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "influencekit"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in SOURCES}

PRIVATE_SKLEARN = "influencekit/utils/validation.py"
ESTIMATOR_CHECKS = "influencekit/utils/estimator_checks.py"  # pickles what it has just made
MAX_LINES = 400
MAX_MODULES = 15

#: numpydoc's names: no docstring, unknown section, order of sections, bad directive, summary,
#: parameters (missing, unknown, order), returns and yields
RULES = {"GL06", "GL07", "GL08", "GL10", "SS01", "SS03", "PR01", "PR02", "PR03", "RT01", "YD01"}
#: a method may be understood from its class: what it says must be true, not complete
METHOD_RULES = {"GL06", "GL07", "GL08", "GL10", "SS01", "PR02", "PR03"}


def rooms():
    """The package, its public modules, and the checks for attributors written elsewhere."""
    names = [m.name for m in pkgutil.iter_modules(influencekit.__path__)]
    yield from ["influencekit", *(f"influencekit.{n}" for n in names if not n.startswith("_"))]
    yield "influencekit.utils.estimator_checks"


def public_objects():
    """Pairs of dotted name and object: classes and functions of every ``__all__``, once each."""
    seen = set()
    for room in rooms():
        module = importlib.import_module(room)
        for name in getattr(module, "__all__", []):
            value = getattr(module, name)
            own = getattr(value, "__module__", "").startswith("influencekit")
            if own and id(value) not in seen and (inspect.isclass(value) or callable(value)):
                seen.add(id(value))
                yield f"{room}.{name}", value


def public_methods(name, cls):
    for method, value in vars(cls).items():
        function = getattr(value, "__func__", value)
        if not method.startswith("_") and inspect.isfunction(function):
            yield f"{name}.{method}"


def complaints(name, rules):
    found = validate(name)
    return [
        f"{name}: {code} {text}"
        for code, text in found["errors"]
        if code in rules and not (code == "PR01" and are_attributes(text, found["docstring"]))
    ]


def are_attributes(text, docstring):
    """Whether the missing parameters are a record's fields, which "Attributes" describes."""
    attributes = docstring.partition("\nAttributes\n")[2]
    lines = re.findall(r"^\s*(\S.*?) :", attributes, re.MULTILINE)
    described = {name for line in lines for name in line.split(", ")}
    return all(name in described for name in quoted(text))


def quoted(text):
    return re.findall(r"'([^']+)'", text)


def nodes(*kinds):
    """Pairs of place ("file:line") and node of the given kinds, over the whole package."""
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, kinds):
                yield f"{file}:{node.lineno}", node


def imported(node):
    """Dotted names that an import statement brings in."""
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [alias.name for alias in node.names]


def test_rooms_import_one_way():
    command = "from importlinter.cli import lint_imports_command as main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def imports_of_files():
    """From every module of the package to the modules of its own room that it imports."""
    modules = {file[: -len(".py")].replace("/", "."): tree for file, tree in TREES.items()}
    found = {}
    for name, tree in modules.items():
        room = ".".join(name.split(".")[:2])
        dotted = {
            part
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for full in imported(node)
            for part in (full, full.rpartition(".")[0])
        }
        found[name] = {m for m in modules if m in dotted and m.startswith(f"{room}.")}
    return found


def circles(graph):
    """Names that reach themselves, by taking away those that nothing is left to import of."""
    left = dict(graph)
    while ends := [name for name, others in left.items() if not others & left.keys()]:
        for name in ends:
            del left[name]
    while ends := [name for name in left if not any(name in others for others in left.values())]:
        for name in ends:
            del left[name]
    return sorted(left)


def test_no_files_of_a_room_import_in_a_circle():
    """Nor inside a function, nor for hints only: the circle would be in the reader's head."""
    graph = imports_of_files()
    assert sum(map(len, graph.values())) > 100
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"c"}}) == ["b", "c"]
    assert circles(graph) == []


@pytest.mark.parametrize("room", list(rooms()))
def test_names_in_all_exist_once(room):
    module = importlib.import_module(room)
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(module, name)] == []


def test_public_names_have_numpydoc():
    found = [text for name, _ in public_objects() for text in complaints(name, RULES)]
    assert not found, "\n".join(found)


def test_public_methods_have_docstrings():
    found = []
    for name, value in public_objects():
        if not inspect.isclass(value):
            continue
        for method in public_methods(name, value):
            if not inspect.getdoc(getattr(value, method.rsplit(".", 1)[1])):
                found.append(f"{method}: no docstring, own or inherited")
            elif getattr(value, method.rsplit(".", 1)[1]).__doc__:
                found += complaints(method, METHOD_RULES)
    assert not found, "\n".join(found)


def test_no_assert_statement():
    """Python -O drops them, so they can guard nothing."""
    assert [place for place, _ in nodes(ast.Assert)] == []


def test_private_scikit_learn_in_one_file():
    private = re.compile(r"sklearn\.(.*\.)?_\w")
    found = [
        f"{place} {name}"
        for place, node in nodes(ast.Import, ast.ImportFrom)
        for name in imported(node)
        if private.match(name) and not place.startswith(PRIVATE_SKLEARN)
    ]
    assert found == []


def test_no_private_output_wrapping_elsewhere():
    found = [
        place
        for place, node in nodes(ast.Attribute)
        if node.attr == "_sklearn_output_config" and not place.startswith(PRIVATE_SKLEARN)
    ]
    assert found == []


def test_files_are_short():
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in SOURCES}
    assert {file: n for file, n in lengths.items() if n > MAX_LINES} == {}


def test_folders_are_small():
    """A folder that a reader can look over: no more than fifteen modules at its top level."""
    folders = {p.parent for p in SOURCES}
    counts = {str(d.relative_to(ROOT)): len([*d.glob("_[!_]*.py")]) for d in folders}
    assert {folder: n for folder, n in counts.items() if n > MAX_MODULES} == {}


def test_nothing_is_unpickled():
    """Files from others are read with allow_pickle=False and torch.load with weights_only=True."""
    unpicklers = {"pickle", "cloudpickle", "dill"}
    found = [
        place
        for place, node in nodes(ast.Import, ast.ImportFrom)
        for name in imported(node)
        if name.split(".")[0] in unpicklers and ast.unparse(node) != "from pickle import Pickler"
    ]  # a Pickler only writes
    for place, node in nodes(ast.Call):
        called = ast.unparse(node.func)
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        unsafe = called == "joblib.load" or keywords.get("allow_pickle") == "True"
        unsafe |= called == "torch.load" and keywords.get("weights_only") != "True"
        if unsafe:
            found.append(place)
    # a user's model, read where the command line is told --trust
    allowed = (ESTIMATOR_CHECKS, "influencekit/cli/_models.py")
    assert [place for place in found if not place.startswith(allowed)] == []


def test_the_package_is_imported_without_its_extras():
    """Packages that pyproject.toml lists as extras are asked for when something needs them."""
    extras = ["pandas", "matplotlib", "dask", "transformers", "folktables", "xgboost", "lightgbm"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({extras}))\n"
        f"for room in {list(rooms())}: __import__(room)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_no_device_is_named():
    device = re.compile(r"(cuda|mps|xpu|hip)(:\d+)?")
    found = [
        place
        for place, node in nodes(ast.Constant)
        if isinstance(node.value, str) and device.fullmatch(node.value)
    ]
    found += [place for place, node in nodes(ast.Attribute) if device.fullmatch(node.attr)]
    assert found == []


def text_files():
    """Files of the repository, but for what tools make."""
    made = re.compile(
        r"\.(?!ci$|gitignore$|pre-commit-config)|.*\.egg-info$"
        r"|(_build|auto_examples|build|demo_output|dist|generated|__pycache__)$"
    )
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not made.match(name)]
        for path in (Path(folder, name) for name in names if not made.match(name)):
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_no_path_of_a_machine_and_no_package_host():
    path = re.compile(r"(?<![\w.~:/}])/(home|root|work|opt|Users|mnt|tmp)/\w|[A-Z]:\\Users")
    host = re.compile(r"https?://[^\s/]*(pypi|pythonhosted|download\.pytorch)")
    found = [
        f"{file.relative_to(ROOT)}:{i}: {line.strip()}"
        for file, text in text_files()
        for i, line in enumerate(text.splitlines(), 1)
        if path.search(line) or host.search(line)
    ]
    assert found == []


def test_hooks_of_commits_run_the_tools_of_make_lint_and_fetch_nothing():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: (.*)", hooks) == ["local"]
    assert set(re.findall(r"language: (.*)", hooks)) == {"system"}
    tools = [entry.replace(" --force-exclude", "") for entry in re.findall(r"entry: (.*)", hooks)]
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    linters = re.findall(r"\$\(BIN\)/((?:ruff|mypy)[^.\n]*)", lint)
    assert [tool.removeprefix(".venv/bin/") for tool in tools] == [one.strip() for one in linters]


def test_the_version_is_said_alike():
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited[1] == influencekit.__version__


def test_the_rules_look_at_something():
    """A search over nothing would pass for ever."""
    assert len(SOURCES) > 20
    assert len(dict(public_objects())) > 20
    assert {"README.md", "Makefile", "run"} <= {path.name for path, _ in text_files()}
