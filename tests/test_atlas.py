"""The atlas: parts of a ground truth, limits, tables, and what is in the repository."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from influencekit.datasets import load_ground_truth
from influencekit.datasets._truth_files import check_truth, read_truth
from influencekit.utils._archives import DamagedFile

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed with the package
pytest.importorskip("benchmarks.atlas", reason="benchmarks/ is not part of this tree")
from benchmarks.__main__ import main  # noqa: E402
from benchmarks.atlas import choice, command, others, ours, score  # noqa: E402
from benchmarks.atlas.cells import CELLS  # noqa: E402
from benchmarks.harness.limit import OverLimit, limit  # noqa: E402

COSTS = ("seconds", "cpu_seconds", "peak_mb")


# ---- parts of a ground truth -------------------------------------------------------------------


def test_outputs_of_further_training_are_those_of_a_plain_loop():
    truth = load_ground_truth("iris-mlp")
    mask, epochs = truth.further.masks[0], truth.recipe["parts"]["further"]["epochs"]
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    state = truth.model.module_.state_dict()
    net.load_state_dict({k.removeprefix("layers."): v for k, v in state.items()})
    optimizer = torch.optim.SGD(net.parameters(), lr=truth.recipe["model"]["lr"], momentum=0.9)
    rows = TensorDataset(*(torch.as_tensor(a[mask]) for a in (truth.X, truth.y)))
    torch.manual_seed(1)
    for _ in range(epochs):
        for X, y in DataLoader(rows, batch_size=32, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(X), y).backward()
            optimizer.step()
    p = net(torch.as_tensor(truth.X_query)).double().softmax(1).detach().numpy()
    p = p[np.arange(len(p)), truth.y_query]
    np.testing.assert_allclose(truth.further.outputs[0, 0], np.log(p / (1 - p)), atol=1e-3)


def test_the_shortcut_is_in_its_rows_and_the_queries_and_the_model_learned_it():
    truth = load_ground_truth("iris-linear")
    shown = truth.shortcut()
    largest = truth.X.max()
    assert (shown.X[shown.marked, -1] == largest).all() and (shown.X_query[:, -1] == largest).all()
    assert (truth.y[shown.marked] != 0).all()
    assert (shown.y[shown.marked] == 0).all() and (shown.y_query == 0).all()
    others_of = np.setdiff1d(np.arange(len(shown.X)), shown.marked)
    np.testing.assert_array_equal(shown.X[others_of], truth.X[others_of])
    own = LogisticRegression(C=1.0, max_iter=2000).fit(shown.X, shown.y)
    np.testing.assert_allclose(shown.model.coef_, own.coef_, rtol=1e-6)
    told = truth.recipe["parts"]["shortcut"]["learned"]
    assert told == pytest.approx((own.predict(shown.X_query) == 0).mean(), abs=1e-3)
    found = score.marked_rows(shown, np.eye(len(shown.X))[shown.marked].sum(0) * np.ones((26, 1)))
    assert found["shortcut"] == 1 and len(shown.X_query) == 26


def test_a_truth_without_a_shortcut_says_so():
    truth = load_ground_truth("iris-linear")
    truth._arrays.pop("shortcut.marked")
    with pytest.raises(ValueError, match="no shortcut is planted in iris-linear"):
        truth.shortcut()


def test_texts_come_with_what_was_planted(data_home):
    truth = load_ground_truth("sst2-tfidf-linear", data_home=data_home)
    texts, queries = truth.texts()
    assert len(texts) == len(truth.X) and len(queries) == len(truth.X_query)
    copied = truth.planted().texts()[0]
    for row, query in zip(truth.copied, truth.copied_queries, strict=True):
        assert copied[row] == queries[query]
    marked, shown = truth.shortcut().texts()
    assert sum(text.startswith("shortcut ") for text in marked) == len(truth.marked)
    assert all(text.startswith("shortcut ") for text in shown)
    with pytest.raises(ValueError, match="the rows of iris-linear are not texts"):
        load_ground_truth("iris-linear").texts()


def test_a_method_of_texts_says_why_it_has_no_score():
    with pytest.raises(score.NotForThisModel, match="the rows are not texts"):
        others.bm25(load_ground_truth("iris-linear"))


def test_the_hidden_layer_is_that_of_the_net():
    truth = load_ground_truth("iris-mlp")
    weight, bias = (np.asarray(truth.model.module_.state_dict()[f"layers.0.{k}"], dtype=float)
                    for k in ("weight", "bias"))  # fmt: skip
    Q, X = (np.maximum(rows @ weight.T + bias, 0) for rows in (truth.X_query, truth.X))
    cosines = (Q / np.linalg.norm(Q, axis=1)[:, None]) @ (X / np.linalg.norm(X, axis=1)[:, None]).T
    signs = np.where(truth.y_query[:, None] == truth.y, 1, -1)
    np.testing.assert_allclose(ours.hidden_layer(truth), cosines * signs, atol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"shortcut.queries": None}, "no array shortcut.queries"),
        ({"shortcut.label": np.zeros(2)}, r"shortcut.label has shape \(2,\), not \(1,\)"),
        ({"shortcut.marked": np.array([100])}, "shortcut.marked has positions"),
        ({"further.masks": np.zeros((50, 12), np.uint8)}, "n_bytes is 13"),
        ({"further.outputs": np.zeros((49, 2, 40))}, "n_further is 50"),
    ],
)
def test_a_part_that_does_not_fit_is_refused(arrays, said):
    recipe, found = read_truth(ROOT / "benchmarks/atlas/truths", "iris-mlp")
    found = {k: v for k, v in {**found, **arrays}.items() if v is not None}
    with pytest.raises(DamagedFile, match=said):
        check_truth(recipe, found, "iris-mlp")


def test_few_rows_have_no_hundredth_that_is_left_out():
    truth = load_ground_truth("linnerud-linear")
    found = score.rows_left_out(truth, ours.graddot(truth))
    assert "run_1" not in found and -1 <= found["run_10"] <= 1 and len(truth.X) == 15


# ---- limits, and the same score twice ----------------------------------------------------------


def test_what_takes_too_long_is_stopped_with_its_limit():
    def method():
        while True:
            with contextlib.suppress(Exception):  # as a method may
                sum(range(1000))

    with pytest.raises(OverLimit, match=r"not done after 0\.1 s of CPU time"), limit(0.1):
        method()


def test_a_cell_over_its_limit_has_that_as_its_reason(tmp_path, monkeypatch):
    text = "def forever(truth):\n    while True:\n        pass\n"
    (tmp_path / "too_long.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    words = (
        f"atlas score --method too_long:forever --only iris-linear --limit 0.3 --folder {tmp_path}"
    )
    main(words.split())
    found = json.loads((tmp_path / "forever.json").read_text())["cells"]["iris-linear"]
    assert found == {"status": "over the limit: not done after 0.3 s of CPU time"}


@pytest.mark.parametrize(
    ("name", "slow"),
    [("TRAK", False), pytest.param("RunAverage", False, marks=pytest.mark.slow),
     pytest.param("GradDot", True, marks=pytest.mark.slow),
     pytest.param("SGDInfluence, AdamWInfluence", False, marks=pytest.mark.slow)],
)  # fmt: skip
def test_the_same_method_has_the_same_score_to_the_last_digit(name, slow):
    first, second = (
        score.row_of(ours.METHODS[name], load_ground_truth("iris-mlp"), slow) for _ in range(2)
    )
    assert {k: v for k, v in first.items() if k not in COSTS} == {
        k: v for k, v in second.items() if k not in COSTS
    }
    assert all(np.isfinite(v) for k, v in first.items())


@pytest.mark.slow
def test_two_processes_write_the_same_scores(tmp_path):
    rows = []
    for folder in ("a", "b"):
        words = ["atlas", "score", "--method", "benchmarks.atlas.ours", "--only", "iris-*",
                 "--folder", str(tmp_path / folder)]  # fmt: skip
        subprocess.run([sys.executable, "-m", "benchmarks", *words], cwd=ROOT, check=True,
                       capture_output=True)  # fmt: skip
        rows.append({path.name: json.loads(path.read_text())["cells"]
                     for path in (tmp_path / folder).glob("*.json")})  # fmt: skip
    for found in rows:
        for cells in found.values():
            for cell in cells.values():
                for cost in COSTS:
                    cell.get("row", {}).pop(cost, None)
    assert rows[0] == rows[1] and len(rows[0]) == len(ours.METHODS)


def test_a_row_is_only_given_what_it_lacks():
    truth = load_ground_truth("iris-linear")
    calls = []

    def method(given):
        calls.append(len(given.X_query))
        return ours.graddot(given)

    whole = score.row_of(method, truth)
    assert whole["shortcut"] > 0.5 and len(calls) == 3
    kept = {k: v for k, v in whole.items() if "shortcut" not in k}
    again = score.row_of(method, truth, done=kept)
    assert again == whole and len(calls) == 5


# ---- tables ------------------------------------------------------------------------------------


def rows_of(**values):
    """Rows of truths a-linear and b-linear, by method."""
    return [{"method": method, "truth": f"{name}-linear", "lds_over_ceiling": value}
            for method, pair in values.items()
            for name, value in zip("ab", pair, strict=True)]  # fmt: skip


def test_the_best_of_a_budget_has_most_truths_and_differences_are_paired():
    rows = rows_of(KNNShapley=(0.2, 0.4), TRAK=(0.5, 0.5), GradDot=(0.9, None))
    rows += rows_of(**{"x: y": (0.6, 0.7)})
    kinds = {"linear": lambda truth: truth.endswith("-linear")}
    assert choice.best(rows, ("TRAK", "GradDot"), "lds_over_ceiling")[0] == "TRAK"
    line = choice.which_method(rows, kinds).rows[0]
    assert line[:4] == ["linear", "retrained on halves", "KNNShapley: 0.30 ± 0.10 (2)",
                        "TRAK: 0.50 ± 0.00 (2)"]  # fmt: skip
    gains = choice.what_more_buys(rows, kinds).rows[0]
    assert gains[2] == "0.20 ± 0.10 (2/2)" and gains[-1] == "x: y: 0.15 ± 0.05 (2/2)"


def test_one_truth_of_a_kind_has_the_error_over_its_queries():
    row = {"method": "TRAK", "truth": "a-llama", "lds_over_ceiling": 0.5, "lds_error": 0.09,
           "ceiling": 0.9, "facts": 0.7, "facts_error": 0.2}  # fmt: skip
    kinds = {"language model": lambda truth: truth.endswith("-llama")}
    found = {line[1]: line[3] for line in choice.which_method([row], kinds).rows}
    assert found == {
        "retrained on halves": "TRAK: 0.50 ± 0.10",
        "facts to trace": "TRAK: 0.70 ± 0.20",
    }


# ---- what is in the repository -----------------------------------------------------------------


def test_every_method_has_a_score_or_a_reason_on_every_truth():
    made = sorted(path.stem for path in (ROOT / "benchmarks/atlas/truths").glob("*.json"))
    assert set(made) == set(CELLS)
    for name in (*ours.METHODS, *others.METHODS):
        path = command.SCORES / f"{command.file_name(name)}.json"
        cells = json.loads(path.read_text())["cells"]
        assert sorted(cells) == made, f"{name}: {set(made) - set(cells)}"
