"""The cache's key sees the code that a training depends on, and no other."""

import importlib
import linecache
import sys
import types

import pytest
from skorch import NeuralNetClassifier

from influencekit.training import retrain_on_subsets
from tests.training._edited_code import HARMFUL, HARMLESS, HELPERS, MAIN
from tests.training._training_nets import make_data

X, Y = make_data(24)


@pytest.fixture
def in_files(tmp_path, monkeypatch):
    """Write the code as two modules of a user's project, and import them as a new process would."""
    monkeypatch.syspath_prepend(tmp_path)

    def load(helpers, main):
        for name, text in [("user_helpers", helpers), ("user_main", main)]:
            sys.modules.pop(name, None)
            if name == "user_main":
                text = "from user_helpers import Base, Gain, nn, strength, torch\n" + text
            (tmp_path / f"{name}.py").write_text(text)
            for old in tmp_path.glob(f"__pycache__/{name}.*"):
                old.unlink()
        linecache.clearcache()
        importlib.invalidate_caches()
        return vars(importlib.import_module("user_main"))

    yield load
    for name in ("user_helpers", "user_main"):
        sys.modules.pop(name, None)


@pytest.fixture
def in_notebook(monkeypatch):
    """Run the code as two cells of a notebook."""
    n_cells = iter(range(100))

    def load(helpers, main):
        notebook = types.ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", notebook)
        names = vars(notebook)
        for text in (helpers, main):
            exec(compile(text, f"<cell {next(n_cells)}>", "exec"), names)
        return names

    return load


def keys(names, what, folder):
    """Folders of the cache after a call with the user's code."""
    options = {"n_subsets": 2, "random_state": 0, "cache_dir": folder}
    if what == "retrain":
        retrain_on_subsets(None, X, Y, X[:3], Y[:3], retrain=names["retrain"], **options)
    else:
        net = NeuralNetClassifier(
            names["Net"], criterion=names["Criterion"], max_epochs=1, batch_size=12, verbose=0
        )
        rows, queries = names["Rows"](X, Y), names["Rows"](X[:3], Y[:3])
        retrain_on_subsets(net, rows, None, queries, None, output=names["output"], **options)
    return sorted(path.name for path in folder.iterdir())


def edited(edit):
    what, where, old, new = edit
    helpers, main = HELPERS, MAIN
    if where == "helpers":
        helpers = HELPERS.replace(old, new)
    else:
        main = MAIN.replace(old, new)
    assert (helpers, main) != (HELPERS, MAIN)
    return what, helpers, main


@pytest.mark.parametrize("load", ["in_files", "in_notebook"])
@pytest.mark.parametrize("edit", HARMFUL)
def test_an_edit_that_changes_the_training_is_noticed(edit, load, request, tmp_path):
    load = request.getfixturevalue(load)
    what, helpers, main = edited(HARMFUL[edit])
    before = keys(load(HELPERS, MAIN), what, tmp_path / "cache")
    after = keys(load(helpers, main), what, tmp_path / "cache")
    assert (len(before), len(after)) == (1, 2)


@pytest.mark.parametrize("load", ["in_files", "in_notebook"])
@pytest.mark.parametrize("edit", HARMLESS)
def test_an_edit_that_changes_nothing_keeps_the_cache(edit, load, request, tmp_path):
    load = request.getfixturevalue(load)
    what, helpers, main = edited(HARMLESS[edit])
    before = keys(load(HELPERS, MAIN), what, tmp_path / "cache")
    assert len(before) == 1
    assert keys(load(helpers, main), what, tmp_path / "cache") == before
