"""Ground truth of the atlas: files that are read as they were written, and nothing worse."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from influencekit.datasets import load_ground_truth
from influencekit.datasets._truth_files import packed, read_truth, unpacked, write_truth
from influencekit.utils._archives import DamagedFile

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed with the package
pytest.importorskip("benchmarks.atlas", reason="benchmarks/ is not part of this tree")
from benchmarks.__main__ import main  # noqa: E402
from benchmarks.atlas import command, make, slow  # noqa: E402
from benchmarks.atlas.cells import CELLS, TINY  # noqa: E402
from benchmarks.harness import results  # noqa: E402

NAME = "iris-tiny"
TRUTHS = ROOT / "benchmarks" / "atlas" / "truths"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with one small ground truth, made as the others are."""
    found = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "N_SETS", 4)
        patch.setattr(make, "N_GROUPS", 6)
        make.truth_of(NAME, TINY[NAME], found)
    return found


@pytest.fixture(scope="module")
def truth(home):
    return load_ground_truth(NAME, data_home=home)


@pytest.fixture
def changed(home, tmp_path):
    """A copy of the files, with other entries or arrays."""

    def change(recipe=None, arrays=None, text=None):
        for path in home.iterdir():
            shutil.copy(path, tmp_path)
        own = tmp_path / f"{NAME}.json"
        if text is not None or recipe is not None:
            entries = {**json.loads(own.read_text()), **(recipe or {})}
            signed = {k: v for k, v in entries.items() if k != "sha256"}
            digest = hashlib.sha256(json.dumps(signed, sort_keys=True).encode()).hexdigest()
            entries = {**signed, "sha256": digest}
            own.write_text(text if text is not None else json.dumps(entries))
        if arrays is not None:
            with np.load(tmp_path / f"{NAME}.npz") as found:
                kept = {**found, **arrays}
            np.savez(tmp_path / f"{NAME}.npz", **{k: v for k, v in kept.items() if v is not None})
        return load_ground_truth(NAME, data_home=tmp_path)

    return change


def margins(model, X, y):
    """Logarithm of the odds of the label."""
    p = model.predict_proba(X)[np.arange(len(y)), y]
    return np.log(p) - np.log1p(-p)


def refit(truth, rows):
    return LogisticRegression(C=1.0, max_iter=2000).fit(truth.X[rows], truth.y[rows])


# ---- what is in a file ------------------------------------------------------------------------


def test_the_model_is_the_one_that_learned_from_the_rows(truth):
    own = refit(truth, np.arange(len(truth.X)))
    np.testing.assert_allclose(truth.model.coef_, own.coef_, rtol=1e-6)
    np.testing.assert_array_equal(truth.model.predict(truth.X), own.predict(truth.X))


@pytest.mark.parametrize("kind", ["halves", "without", "groups"])
def test_outputs_are_those_of_models_without_these_rows(truth, kind):
    question = getattr(truth, kind)
    for mask, outputs in list(zip(question.masks, question.outputs, strict=True))[:3]:
        assert 0 < mask.sum() < len(mask)
        own = margins(refit(truth, mask), truth.X_query, truth.y_query)
        np.testing.assert_allclose(outputs.mean(axis=0), own, rtol=1e-3, atol=1e-3)


def test_changes_are_those_of_single_rows(truth):
    rows = np.arange(len(truth.X))
    whole = margins(refit(truth, rows), truth.X_query, truth.y_query)
    row = truth.left_out[0]
    own = margins(refit(truth, rows != row), truth.X_query, truth.y_query)
    np.testing.assert_allclose(truth.changes[:, 0], whole - own, atol=1e-4)


def test_planted_rows_are_wrong_or_copies_and_the_model_learned_them(truth):
    planted = truth.planted()
    assert (planted.y[planted.flipped] != truth.y[planted.flipped]).all()
    np.testing.assert_array_equal(planted.X[planted.copied],
                                  truth.X_query[planted.copied_queries])  # fmt: skip
    others = np.setdiff1d(np.arange(len(truth.X)), np.r_[planted.flipped, planted.copied])
    np.testing.assert_array_equal(planted.X[others], truth.X[others])
    own = refit(planted, np.arange(len(planted.X)))
    np.testing.assert_allclose(planted.model.coef_, own.coef_, rtol=1e-6)
    assert len(planted.halves.masks) == 0


def test_masks_are_packed_and_back():
    masks = np.random.default_rng(0).random((3, 21)) < 0.5
    np.testing.assert_array_equal(unpacked(packed(masks), 21), masks)


def test_what_is_written_is_read(home, tmp_path):
    recipe, arrays = read_truth(home, NAME)
    write_truth(tmp_path, recipe, arrays)
    again = read_truth(tmp_path, NAME)
    assert again[0] == recipe and again[1].keys() == arrays.keys()
    assert all((again[1][k] == v).all() and again[1][k].dtype == v.dtype for k, v in arrays.items())


def test_a_net_comes_with_its_weights_and_eight_checkpoints():
    truth = load_ground_truth("iris-mlp")
    state = truth.model.module_.state_dict()
    assert len(truth.checkpoints) == 8 and truth.checkpoints[0].keys() == state.keys()
    weights = [
        np.asarray(state[f"layers.{i}.{kind}"]) for i in (0, 2) for kind in ("weight", "bias")
    ]
    logits = np.maximum(truth.X_query @ weights[0].T + weights[1], 0) @ weights[2].T + weights[3]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(truth.model.predict_proba(truth.X_query), shares, atol=1e-5)


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../secret", "a/b", "", 3, "A", "iris-tiny.json", "-x"])
def test_a_name_is_no_path(name, home):
    with pytest.raises(ValueError, match=r"name: got .*such as 'wine-linear'"):
        load_ground_truth(name, data_home=home)


def test_a_missing_truth_is_told_with_those_that_exist(home):
    with pytest.raises(OSError, match=r"There are .*iris-tiny.*Did you mean 'iris-tiny'"):
        load_ground_truth("iris-tini", data_home=home)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"format": 3}, "format 3, this version reads 1 and 2"),
        ({"name": "other"}, "recipe is that of 'other'"),
        ({"n_train": 61}, "train has shape"),
        ({"output": "__class__"}, "output '__class__'"),
        ({"n_train": 0}, "0 and 8 rows"),
        ({"n_train": "60"}, "no n_train of type int"),
        ({"source": "os"}, "made of 'os', which this version cannot read"),
        ({"source": "wine"}, "means differ"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(recipe, said, changed):
    with pytest.raises(ValueError, match=said):
        changed(recipe)


@pytest.mark.parametrize(
    "model",
    [{"kind": "os.system"}, {"kind": "logistic", "solver": 3}, {"kind": "logistic", "C": "x"},
     {"kind": "mlp", "sizes": [4, 10**9, 3], "optimizer": "sgd"}, {"kind": "logistic", "C": True},
     {"kind": "mlp", "sizes": [4, 3], "optimizer": "__import__"},
     {"kind": "mlp", "sizes": [9999, 9999, 3], "optimizer": "sgd"},
     {"kind": "cnn", "shape": [3], "n_classes": 2, "optimizer": "sgd"}],
)  # fmt: skip
def test_a_recipe_names_no_other_model_or_parameter(model, changed):
    found = changed({"model": model})
    with pytest.raises(ValueError, match=r"iris-tiny is damaged \(its recipe"):
        found.new_model()


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 5000, '"' + "x" * 2**19 + '"'])
def test_a_recipe_that_is_none_is_refused(text, changed):
    with pytest.raises(ValueError, match=r"is not (JSON|a recipe)"):
        changed(text=text)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"train": None}, "no array train"),
        ({"train": np.array([print], dtype=object)}, "damaged"),
        ({"halves.masks": np.zeros((12, 9), np.uint8)}, "n_bytes is 8"),
        ({"halves.outputs": np.full((12, 1, 8), np.nan)}, "not finite"),
        (
            {"single.rows": np.arange(30) + 40},
            "single.rows has positions that are not from 0 to 59",
        ),
        ({"single.rows": np.arange(30) - 1}, "single.rows has positions that are not from 0 to 59"),
        ({"train": np.arange(60) + 2**40}, "train has positions"),
        ({"train": np.arange(60) - 1}, "train has positions"),
        ({"train": np.arange(60) + 100}, "iris has 150 rows"),
        ({"__class__": np.zeros(1)}, "'__class__' that no truth has"),
        ({"checkpoints.x.layers": np.zeros(1)}, "that no truth has"),
        ({"train": np.arange(60)}, "means differ"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, said, changed):
    with pytest.raises(ValueError, match=said):
        changed(arrays=arrays)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"weights.coef_": np.zeros((3, 9))}, "damaged"),
        ({"weights.coef_": None}, "damaged"),
        ({"weights.coef_": np.zeros((3, 4))}, "does not predict what it did"),
    ],
)
def test_weights_of_another_model_are_refused(arrays, said, changed):
    with pytest.raises(ValueError, match=said):
        _ = changed(arrays=arrays).model


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(home, tmp_path, monkeypatch):
    from influencekit.datasets import _truth_files
    from influencekit.exceptions import ResourceError

    monkeypatch.setattr(_truth_files, "LARGEST_ARRAYS", 1000)
    with pytest.raises(ResourceError, match="unpacks to"):
        load_ground_truth(NAME, data_home=home)


def test_cut_files_are_refused(home, tmp_path):
    for path in home.iterdir():
        shutil.copy(path, tmp_path)
    cut = (tmp_path / f"{NAME}.npz").read_bytes()[:-100]
    (tmp_path / f"{NAME}.npz").write_bytes(cut)
    with pytest.raises(ValueError, match="damaged"):
        load_ground_truth(NAME, data_home=tmp_path)


def test_a_flipped_bit_of_a_recipe_is_seen(home, tmp_path):
    for path in home.iterdir():
        shutil.copy(path, tmp_path)
    own, (recipe, _) = tmp_path / f"{NAME}.json", read_truth(home, NAME)
    content = own.read_bytes()
    for place in range(3, len(content), 11):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        own.write_bytes(flipped)
        try:
            found, _ = read_truth(tmp_path, NAME)
        except ValueError:
            continue
        assert found == recipe, f"byte {place}"  # a blank between entries


def test_a_recipe_of_the_first_format_has_no_checksum(home, tmp_path):
    recipe, arrays = read_truth(home, NAME)
    write_truth(tmp_path, recipe, arrays)
    own = tmp_path / f"{NAME}.json"
    first = {**{k: v for k, v in json.loads(own.read_text()).items() if k != "sha256"}, "format": 1}
    own.write_text(json.dumps(first))
    assert read_truth(tmp_path, NAME)[0] == first


def test_nothing_is_written_that_would_not_be_read(home, tmp_path):
    recipe, arrays = read_truth(home, NAME)
    with pytest.raises(DamagedFile, match="not finite"):
        write_truth(tmp_path, recipe, {**arrays, "predictions": arrays["predictions"] * np.inf})
    assert not list(tmp_path.iterdir())


# ---- scores of a method ------------------------------------------------------------------------

METHOD = '''
import numpy as np


def nearness(truth):
    """Near rows of the same label speak for a prediction."""
    far = ((truth.X_query[:, None] - truth.X[None]) ** 2).sum(-1)
    same = truth.y_query[:, None] == truth.y[None]
    return np.where(same, 1.0, -1.0) / (1 + far)


def wrong_shape(truth):
    return np.zeros((3, 3))
'''


@pytest.fixture
def scored(home, tmp_path, monkeypatch):
    """Runs ``atlas score`` on the small ground truth with a module from outside."""
    (tmp_path / "outside.py").write_text(METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("INFLUENCEKIT_DATA", str(home))

    def score(function, folder):
        words = f"atlas score --method outside:{function} --only {NAME} --folder {folder}"
        main(words.split())
        return json.loads((folder / f"{function}.json").read_text())["cells"][NAME]

    return score


def test_a_method_from_outside_gets_the_same_score_twice(scored, truth, tmp_path, monkeypatch):
    first, second = (scored("nearness", tmp_path / folder)["row"] for folder in "ab")
    costs = ("seconds", "cpu_seconds", "peak_mb")
    assert {k: v for k, v in first.items() if k not in costs} == {
        k: v for k, v in second.items() if k not in costs
    }
    import outside

    scores = outside.nearness(truth)
    own = [spearmanr(truth.halves.outputs[:, 0, i], truth.halves.masks @ scores[i])[0]
           for i in range(len(scores))]  # fmt: skip
    assert first["lds"] == pytest.approx(np.mean(own), abs=1e-12)
    assert first["lds_error"] == pytest.approx(np.std(own, ddof=1) / len(own) ** 0.5, abs=1e-12)
    planted = truth.planted()
    means = outside.nearness(planted).mean(axis=0)
    wrong = np.isin(np.arange(len(means)), planted.flipped)
    below = means[wrong][:, None] < means[~wrong]
    assert first["wrong_labels"] == pytest.approx(below.mean(), abs=1e-12)


def test_the_slow_tier_trains_without_the_first_rows(truth):
    scores = np.zeros((8, 60))
    first = np.argsort(-(truth.X @ np.ones(4)), kind="stable")[:3]  # 5 % of 60 rows
    scores[:, first] = 1
    kept = np.setdiff1d(np.arange(60), first)
    before, after = (margins(refit(truth, rows), truth.X_query, truth.y_query)
                     for rows in (np.arange(60), kept))  # fmt: skip
    found = slow.brittleness(truth, scores)
    spread = np.std([margins(refit(truth, mask), truth.X_query, truth.y_query)
                     for mask in truth.halves.masks], axis=0)  # fmt: skip
    assert found["fall"] == pytest.approx(np.mean((before - after) / spread), abs=1e-3)
    assert found["turned"] == np.mean(after[before > 0] < 0)


def test_a_method_that_fails_is_shown_with_its_reason(scored, tmp_path):
    status = scored("wrong_shape", tmp_path / "c")["status"]
    assert status == "failed: ValueError: scores have shape (3, 3), a row for each query is (8, 60)"


def test_a_method_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SystemExit, match="--method: 'nowhere:f' is not to be had"):
        main(["atlas", "score", "--method", "nowhere:f", "--folder", str(tmp_path)])


# ---- what is in the repository -----------------------------------------------------------------


def test_the_ground_truth_of_the_repository_is_small_and_whole():
    names = [path.stem for path in TRUTHS.glob("*.json")]
    assert set(names) <= set(CELLS)
    for name in names:
        recipe, _ = read_truth(TRUTHS, name)
        assert recipe["license"] and 0 < recipe["noise_ceiling"] <= 1
    assert sum(path.stat().st_size for path in TRUTHS.iterdir()) < 30 * 2**20


def test_the_results_of_the_docs_are_the_scores_of_the_methods():
    document = command.merged(sorted(command.SCORES.glob("*.json")))
    assert document == results.read(results.path_of("atlas"))
