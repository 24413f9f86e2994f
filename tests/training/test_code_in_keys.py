"""The cache's key sees the code that a training depends on, and no other."""

import importlib
import linecache
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetClassifier

from influencekit.training import retrain_on_subsets
from influencekit.training._fingerprint import fingerprint
from tests.training._edited_code import HARMFUL, HARMLESS, HELPERS, MAIN
from tests.training._training_nets import make_data

X, Y = make_data(24)
X32 = X.astype(np.float32)


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


def task_of(names, what):
    """Model, data and options of a retraining by the user's code."""
    if what == "retrain":
        return (None, X, Y, X[:3], Y[:3]), {"retrain": names["retrain"]}
    net = NeuralNetClassifier(
        names["Net"], criterion=names["Criterion"], max_epochs=1, batch_size=12, verbose=0
    )
    rows, queries = names["Rows"](X, Y), names["Rows"](X[:3], Y[:3])
    return (net, rows, None, queries, None), {"output": names["output"]}


def key(names, what):
    """Digest of everything that a retraining by the user's code depends on."""
    data, options = task_of(names, what)
    return fingerprint(*data, options)


def keys(names, what, folder):
    """Folders of the cache after a retraining by the user's code."""
    data, options = task_of(names, what)
    retrain_on_subsets(*data, n_subsets=2, random_state=0, cache_dir=folder, **options)
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
def test_an_edit_that_changes_the_training_is_noticed(edit, load, request):
    load = request.getfixturevalue(load)
    what, helpers, main = edited(HARMFUL[edit])
    assert key(load(HELPERS, MAIN), what) != key(load(helpers, main), what)


@pytest.mark.parametrize("load", ["in_files", "in_notebook"])
@pytest.mark.parametrize("edit", HARMLESS)
def test_an_edit_that_changes_nothing_keeps_the_key(edit, load, request):
    load = request.getfixturevalue(load)
    what, helpers, main = edited(HARMLESS[edit])
    assert key(load(HELPERS, MAIN), what) == key(load(helpers, main), what)


@pytest.mark.slow
@pytest.mark.parametrize("load", ["in_files", "in_notebook"])
@pytest.mark.parametrize("edit", [*HARMFUL, *HARMLESS])
def test_retrained_after_an_edit_only_where_it_matters(edit, load, request, tmp_path):
    load = request.getfixturevalue(load)
    what, helpers, main = edited({**HARMFUL, **HARMLESS}[edit])
    before = keys(load(HELPERS, MAIN), what, tmp_path / "cache")
    after = keys(load(helpers, main), what, tmp_path / "cache")
    assert (len(before), len(after)) == (1, 2 if edit in HARMFUL else 1)


def test_a_function_that_counts_its_calls_keeps_its_key():
    calls, seen = [], set()

    def output(outputs, targets):
        calls.append(1)
        seen.add(len(outputs))
        return outputs[:, 0]

    before = fingerprint(output)
    output(X, Y)
    assert len(calls) == 1 and fingerprint(output) == before


@pytest.mark.parametrize("load", ["in_files", "in_notebook"])
def test_instances_partials_and_methods_count_with_their_code(load, request):
    load = request.getfixturevalue(load)
    text = """
import functools
import numpy as np
class Output:
    power = 1
    def __init__(self, scale):
        self.scale = scale
    def __call__(self, outputs, targets):
        return outputs[:, 0] * 1.0
    def method(self, outputs, targets):
        return self(outputs, targets)
def raised(power, outputs, targets):
    return outputs[:, 0] ** power
made = {
    "instance": Output(1),
    "other instance": Output(2),
    "method": Output(1).method,
    "partial": functools.partial(raised, 2),
    "other partial": functools.partial(raised, 3),
    "vectorized": np.vectorize(functools.partial(raised, 2)),
}
"""
    first = {k: fingerprint(v) for k, v in load(HELPERS, MAIN + text)["made"].items()}
    again = {k: fingerprint(v) for k, v in load(HELPERS, MAIN + text)["made"].items()}
    assert first == again and len(set(first.values())) == len(first)
    for old, new in [("* 1.0", "* 2.0"), ("** power", "* power")]:
        other = load(HELPERS, MAIN + text.replace(old, new))["made"]
        changed = {k for k, v in other.items() if fingerprint(v) != first[k]}
        if old == "* 1.0":
            assert changed == {"instance", "other instance", "method"}
        else:
            assert changed == {"partial", "other partial", "vectorized"}


def test_a_module_imported_inside_a_function_counts(in_files):
    text = (
        "def output(outputs, targets):\n    import user_helpers as h\n    return h.shifted(outputs)"
    )
    first = fingerprint(in_files(HELPERS, MAIN + text)["output"])
    sys.modules.pop("user_helpers")
    assert fingerprint(in_files(HELPERS + "\nNEW = 1", MAIN + text)["output"]) == first
    other = in_files(HELPERS.replace("SCALE = 2.0", "SCALE = 3.0"), MAIN + text)
    assert fingerprint(other["output"]) != first


def test_what_a_net_does_counts_even_where_its_code_is_the_same(monkeypatch, tmp_path):
    """A layer of an installed package that computes something else."""
    net = NeuralNetClassifier(torch.nn.Linear, module__in_features=5, module__out_features=3)
    net.set_params(criterion=torch.nn.CrossEntropyLoss, max_epochs=1, verbose=0)
    for _ in range(2):
        retrain_on_subsets(
            net, X32, Y, X32[:3], Y[:3], n_subsets=1, random_state=0, cache_dir=tmp_path
        )
    assert len(list(tmp_path.iterdir())) == 1
    forward = torch.nn.Linear.forward
    monkeypatch.setattr(torch.nn.Linear, "forward", lambda layer, x: 2 * forward(layer, x))
    retrain_on_subsets(net, X32, Y, X32[:3], Y[:3], n_subsets=1, random_state=0, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_tables_of_compiled_packages_have_keys(tmp_path):
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    file = tmp_path / "table.csv"
    pd.DataFrame({"a": [1.5, 2.5], "b": ["x", "y"]}).to_csv(file, index=False)
    table = pd.read_csv(file)
    key = fingerprint(table, table["a"], table.columns)
    again = pd.read_csv(file)
    assert fingerprint(again, again["a"], again.columns) == key
    again.loc[1, "b"] = "z"
    assert fingerprint(again, again["a"], again.columns) != key


class Pickled(LogisticRegression):
    """An estimator of the user's."""

    def fit(self, X, y):
        return super().fit(X, y)


def test_use_of_a_class_does_not_change_its_key():
    before = fingerprint(Pickled())
    pickle.dumps(Pickled().fit(X, Y))  # which leaves its own note in the class
    assert "__slotnames__" in vars(Pickled)
    assert fingerprint(Pickled()) == before
