"""SensitivityStudy: every cell is what a fit of its own gives, at the cost of one for many."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from influencekit import (
    TRAK,
    GradDot,
    InfluenceFunction,
    SensitivityStudy,
    SurrogateLambdaSearchCV,
    TracIn,
    lds_scorer,
)
from influencekit.base import Fitted
from influencekit.exceptions import InfluenceKitWarning
from influencekit.metrics import linear_datamodeling_score
from influencekit.models import load_checkpoints
from influencekit.selection._attributor_search import seeded_clone
from influencekit.training import KeepCheckpoints, train_checkpoints
from tests._shared.marks import NOT_TRAINED
from tests.selection import _study
from tests.selection._study import DAMPINGS, make_problem, make_truth

ROOT = Path(__file__).parents[2]

#: The nets are trained for four epochs.
pytestmark = NOT_TRAINED


@pytest.fixture(scope="module")
def truth():
    return make_truth()


@pytest.fixture(scope="module")
def nets():
    return make_problem(3)[0]


@pytest.fixture(scope="module")
def data():
    return make_problem(0)[1]


def fit(attributors, model, data, truth, checkpoints=None, **options):
    study = SensitivityStudy(attributors, **{"random_state": 0} | options)
    return study.fit(model, *data, subset_outputs=truth, checkpoints=checkpoints)


def check_cells(study, attributors, models_at, data, truth):
    """Compare every row with a fresh fit and the scorer; ``models_at(row)`` gives the models."""
    X, y, X_query, y_query = data
    assert len(study.results_)
    for _, row in study.results_.iterrows():
        attributor, axes = attributors[row["attributor"]], study.axes_[row["attributor"]]
        params = {a: row[a] for a in axes if a not in ("checkpoint", "n_models")}
        fitted = seeded_clone(attributor, 0).set_params(**params).fit(models_at(row), X, y)
        expected = lds_scorer(truth)(fitted, X_query, y_query)
        assert row["lds"] == pytest.approx(expected, abs=1e-9), row
        scores = fitted.score(X_query, y_query)
        whole = linear_datamodeling_score(truth.outputs, truth.masks, scores)
        assert row["lds"] == pytest.approx(whole.mean, abs=1e-3)
        assert row["lds_se"] == pytest.approx(whole.standard_error, rel=0.05)
        assert row["error"] == ""


def test_cells_of_several_attributors_equal_fits_of_their_own(nets, data, truth):
    attributors = {
        "IF": InfluenceFunction("fisher"),
        "TRAK": TRAK(),
        "dot": GradDot(),
        "search": SurrogateLambdaSearchCV(InfluenceFunction("ggn", projection_dim=8)),
    }
    grids = {
        "IF": {"damping": ["auto", 0.1], "projection_dim": [None, 10]},
        "TRAK": [{"damping": [1e-3, 0.3], "projection_dim": [10]}, {"projection_dim": [20]}],
        "dot": {},
        "search": {"threshold": [0.45, 0.5], "attributor__curvature": ["fisher"]},
    }
    pairs = {name: (one, grids[name]) if grids[name] else one for name, one in attributors.items()}
    study = fit(pairs, nets[0], data, truth)
    check_cells(study, attributors, lambda row: nets[0], data, truth)
    table = study.results_
    assert list(table["attributor"]) == ["IF"] * 4 + ["TRAK"] * 3 + ["dot"] + ["search"] * 2
    assert list(table["projection_dim"][:4]) == [None, 10, None, 10]
    assert list(table["damping"][4:7]) == [1e-3, 0.3, "auto"]  # the default where not named
    assert pd.isna(table["damping"].iloc[7]) and pd.isna(table["threshold"].iloc[0])
    assert list(np.flatnonzero(table["default"])) == [0, 7]
    fitted = InfluenceFunction("fisher").fit(nets[0], *data[:2])
    assert table["damping_"].iloc[0] == pytest.approx(fitted.damping_)
    xi = fitted.damping_path(*data[2:]).xi([0.1])
    assert table["xi"].iloc[2] == pytest.approx(np.nanmean(xi))
    assert np.isnan(table["xi"].iloc[7])


def test_ensembles_and_tuples_of_checkpoints(nets, data, truth):
    attributors = {"IF": InfluenceFunction("fisher", projection_dim=9), "TRAK": TRAK(0.1, 9)}
    attributors |= {"dot": GradDot(), "TracIn": TracIn()}
    grids = {name: {"n_models": [1, 2, 3]} for name in ("IF", "TRAK", "dot")}
    grids["IF"] = grids["IF"] | {"damping": [0.01, "auto"]}
    epochs = {e: load_checkpoints(nets[0], [s])[0] for e, s in states(nets[0], data).items()}
    grids["TracIn"] = {"checkpoint": ["final", 1, (1, 2)], "n_models": [3]}
    given = {e: [epochs[e], nets[1], nets[2]] for e in (1, 2)}

    def models_at(row):
        if row["attributor"] != "TracIn":
            return nets[: int(row["n_models"])]
        labels = row["checkpoint"] if isinstance(row["checkpoint"], tuple) else [row["checkpoint"]]
        return [m for label in labels for m in (nets if label == "final" else given[label])]

    pairs = {name: (one, grids[name]) for name, one in attributors.items()}
    study = fit(pairs, nets, data, truth, checkpoints=given)
    check_cells(study, attributors, models_at, data, truth)
    chosen = study.results_[study.results_["default"]]
    assert list(chosen["n_models"]) == [3, 3, 3, 3]
    assert list(chosen["attributor"]) == list(attributors)


def states(net, data, epochs=(1, 2)):
    return train_checkpoints(net, *data[:2], epochs, random_state=0)


def count_fits(monkeypatch, *classes):
    count = []
    for cls in classes:
        original = cls._fit

        def counted(self, task, train, original=original):
            count.append(type(self).__name__)
            return original(self, task, train)

        monkeypatch.setattr(cls, "_fit", counted)
    return count


def test_dampings_and_ensemble_sizes_share_fits(nets, data, truth, monkeypatch):
    count = count_fits(monkeypatch, InfluenceFunction, GradDot)
    grid = {"damping": [*DAMPINGS, "auto"], "projection_dim": [6, 8]}
    fit((InfluenceFunction("fisher"), grid), nets[0], data, truth)
    assert count == ["InfluenceFunction"] * 2
    count.clear()
    pairs = {
        "IF": (
            InfluenceFunction("fisher", projection_dim=6),
            {"damping": DAMPINGS, "n_models": [1, 2, 3]},
        ),
        "dot": (GradDot(), {"n_models": [1, 2, 3]}),
    }
    fit(pairs, nets, data, truth)
    assert count == ["InfluenceFunction"] * 3 + ["GradDot"] * 3


def test_training_epochs_are_those_of_one_run(nets, data, truth):
    attributors = {"IF": InfluenceFunction("fisher", projection_dim=9)}
    grid = {"checkpoint": [0, 1, 3, "final"], "damping": [0.01]}
    study = fit({"IF": (attributors["IF"], grid)}, nets[0], data, truth, training_epochs=[0, 1, 3])
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    kept = train_checkpoints(nets[0], *data[:2], [0, 1, 3], random_state=seed)
    models = {e: load_checkpoints(nets[0], [state])[0] for e, state in kept.items()}
    models["final"] = nets[0]
    check_cells(study, attributors, lambda row: models[row["checkpoint"]], data, truth)
    assert study.results_["lds"].nunique() == 4


def test_epochs_that_a_net_kept_are_not_trained_again(nets, data, truth, monkeypatch):
    net = clone(nets[0]).set_params(callbacks=[("keep", KeepCheckpoints([1, 2]))])
    net.fit(*data[:2])
    monkeypatch.setattr("influencekit.selection.study._study_models.train_checkpoints", None)
    attributor = GradDot()
    study = fit((attributor, {"checkpoint": [2]}), net, data, truth, training_epochs=[2])
    model = load_checkpoints(net, [dict(net.callbacks_)["keep"].checkpoints_[2]])[0]
    check_cells(study, {"GradDot": attributor}, lambda row: model, data, truth)


def test_checkpoints_from_state_dicts_and_files(nets, data, truth, tmp_path):
    kept = states(nets[0], data)
    torch.save(kept[2], tmp_path / "two.pt")
    given = {"one": kept[1], "two": tmp_path / "two.pt"}
    study = fit((GradDot(), {"checkpoint": ["one", "two"]}), nets[0], data, truth, given)
    models = dict(zip(["one", "two"], load_checkpoints(nets[0], kept.values()), strict=True))
    check_cells(study, {"GradDot": GradDot()}, lambda r: models[r["checkpoint"]], data, truth)


def test_best_and_sensitivity_by_hand(nets, data, truth):
    grid = {"damping": DAMPINGS, "projection_dim": [5, 20, None]}
    study = fit((InfluenceFunction("fisher"), grid), nets[0], data, truth)
    lds = study.results_["lds"].to_numpy().reshape(4, 3)
    i, j = np.unravel_index(lds.argmax(), lds.shape)
    best = {"damping": DAMPINGS[i], "projection_dim": [5, 20, None][j]}
    assert study.best_params_ == {"InfluenceFunction": best}
    assert study.best_.loc["InfluenceFunction", "lds"] == lds.max()
    first, second = study.sensitivity_.to_dict("records")
    assert first["parameter"] == "damping" and first["best"] == best["damping"]
    assert first["range"] == pytest.approx(lds.max() - lds[:, j].min())
    assert first["worst"] == DAMPINGS[lds[:, j].argmin()]
    assert first["range_tuned"] == pytest.approx(np.ptp(lds.max(axis=1)))
    assert second["range"] == pytest.approx(lds.max() - lds[i].min())
    assert second["range_tuned"] == pytest.approx(np.ptp(lds.max(axis=0)))
    assert second["relative_range"] == pytest.approx(second["range"] / lds.max())
    a, b = study.per_query_[i * 3 + j], study.per_query_[lds[:, j].argmin() * 3 + j]
    assert first["range_se"] == pytest.approx(np.std(a - b, ddof=1) / np.sqrt(20))
    assert (first["n_values"], second["n_values"]) == (4, 3)
    np.testing.assert_allclose(study.per_query_.mean(axis=1), study.results_["lds"])


def test_sensitivity_compares_cells_of_one_grid(nets, data, truth):
    grids = [{"damping": [1e-4, 0.1], "projection_dim": [8]}, {"projection_dim": [8, 12, None]}]
    study = fit((InfluenceFunction("fisher"), grids), nets[0], data, truth)
    lds = study.results_["lds"].to_numpy()  # (1e-4, 8), (0.1, 8), ("auto", 8 | 12 | None)
    damping, dim = study.sensitivity_.to_dict("records")
    assert damping["n_values"] == 3 and dim["n_values"] == 3
    assert damping["range"] == pytest.approx(np.ptp(lds[[0, 1, 2]]))
    assert dim["range"] == pytest.approx(np.ptp(lds[2:]))
    assert dim["range_tuned"] == dim["range"] and damping["range_tuned"] == damping["range"]
    assert dim["worst"] == [8, 12, None][int(lds[2:].argmin())]


class Fragile(InfluenceFunction):
    """Fails as a whole at one projection, and at one damping."""

    def _fit(self, task, train):
        if self.projection_dim == 7:
            raise MemoryError("no memory for 7")
        return super()._fit(task, train)

    def _at(self, fitted, damping):
        if damping == 0.1:
            raise FloatingPointError("diverged")
        return super()._at(fitted, damping)


def test_failing_cells_leave_the_others_alone(nets, data, truth, tmp_path):
    grid = {"projection_dim": [6, 7], "damping": [0.1, 0.01, -1.0]}
    with pytest.warns(InfluenceKitWarning, match="5 of 6 cells failed"):
        study = fit((Fragile("fisher"), grid), nets[0], data, truth, cache_dir=tmp_path)
    table = study.results_.set_index(["projection_dim", "damping"])
    alone = fit(InfluenceFunction("fisher", 0.01, projection_dim=6), nets[0], data, truth)
    assert table["lds"][6, 0.01] == alone.results_["lds"][0]
    assert table["error"][6, 0.01] == ""
    assert "damping" in table["error"][6, -1.0]
    assert table["error"][7, 0.01] == "MemoryError: no memory for 7"
    failed = table.drop((6, 0.01))
    assert failed["lds"].isna().all() and failed["lds_se"].isna().all()
    assert len(list(tmp_path.glob("*/*.npz"))) == 1  # failures are tried again
    assert study.best_params_["Fragile"] == {"projection_dim": 6, "damping": 0.01}


def test_a_damping_that_fails_at_the_shared_fit_fails_alone(nets, data, truth):
    grid = {"damping": [0.1, 0.01]}
    with pytest.warns(InfluenceKitWarning, match="cells failed"):
        study = fit((Fragile("fisher", projection_dim=6), grid), nets[0], data, truth)
    assert list(study.results_["error"] == "") == [False, True]


def test_constant_scores_are_told(nets, data, truth):
    class Zeros(Fitted):
        def scores(self, queries):
            return np.zeros((len(queries), len(data[0])))

    class Zero(GradDot):
        def _fit(self, task, train):
            return Zeros()

    with pytest.warns(InfluenceKitWarning, match="LDS is undefined"):
        study = fit({"zero": Zero(), "dot": GradDot()}, nets[0], data, truth)
    assert study.results_["lds"].isna().tolist() == [True, False]
    assert list(study.best_.index) == ["dot"] and list(study.best_params_) == ["dot"]


@pytest.mark.slow
def test_workers_change_nothing(nets, data, truth, tmp_path):
    grid = {"damping": DAMPINGS, "projection_dim": [6, 8]}
    attributors = {"IF": (InfluenceFunction("fisher"), grid), "dot": GradDot()}
    one = fit(attributors, nets[0], data, truth)
    two = fit(attributors, nets[0], data, truth, n_jobs=2, cache_dir=tmp_path)
    with joblib.parallel_config("threading", n_jobs=2):
        three = fit(attributors, nets[0], data, truth)
    for other in (two, three):
        columns = ["attributor", "damping", "projection_dim", "default", "error"]
        pd.testing.assert_frame_equal(one.results_[columns], other.results_[columns])
        np.testing.assert_allclose(one.per_query_, other.per_query_, atol=1e-9)
    assert len(list(tmp_path.glob("*/*.npz"))) == 9


def start_study(cache_dir, dies):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if dies:
        environment["STUDY_DIES"] = "1"
    command = [sys.executable, _study.__file__, str(cache_dir)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)


@pytest.mark.slow
def test_killed_and_resumed(tmp_path, monkeypatch):
    done = start_study(tmp_path, dies=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    files = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*.npz")}
    assert len(files) == 2  # up to the third damping of the first fit
    count = count_fits(monkeypatch, InfluenceFunction)
    resumed = _study.run(tmp_path)
    assert len(count) == 2
    after = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*.npz")}
    assert len(after) == 8 and {p: after[p] for p in files} == files
    np.testing.assert_allclose(resumed.per_query_, _study.run(None).per_query_, atol=1e-9)
    count.clear()
    again = _study.run(tmp_path)
    assert count == []
    pd.testing.assert_frame_equal(again.results_, resumed.results_)


def changed(data, position):
    data = list(data)
    data[position] = data[position].copy()
    data[position][0] = data[position][1]
    return data


@pytest.mark.parametrize(
    "change", ["nothing", "X", "y", "X_query", "y_query", "truth", "model", "seed", "damping"]
)
def test_a_changed_input_is_computed_again(nets, data, truth, tmp_path, monkeypatch, change):
    X, y, X_query, y_query = data
    y_query = (y_query + 1) % 4 if change == "y_query" else y_query
    attributor = InfluenceFunction("fisher", 0.1, projection_dim=6)
    fit(attributor, nets[0], data, truth, cache_dir=tmp_path)
    count = count_fits(monkeypatch, InfluenceFunction)
    names = ["X", "y", "X_query"]
    other = changed(data, names.index(change)) if change in names else [X, y, X_query, y_query]
    model = nets[1] if change == "model" else nets[0]
    seed = 1 if change == "seed" else 0
    if change == "damping":
        attributor = clone(attributor).set_params(damping=0.2)
    if change == "truth":
        truth = truth.take_queries(slice(None, None, -1))
    fit(attributor, model, other, truth, cache_dir=tmp_path, random_state=seed)
    assert len(count) == (change != "nothing")


def test_epochs_are_found_again_without_training(nets, data, truth, tmp_path, monkeypatch):
    options = {"training_epochs": [1, 2], "cache_dir": tmp_path}
    pair = (GradDot(), {"checkpoint": [1, 2]})
    first = fit(pair, nets[0], data, truth, **options)
    monkeypatch.setattr("influencekit.selection.study._study_models.train_checkpoints", None)
    second = fit(pair, nets[0], data, truth, **options)
    np.testing.assert_array_equal(first.per_query_, second.per_query_)


@pytest.mark.parametrize(
    ("attributors", "error", "message"),
    [
        ({}, ValueError, "at least one attributor"),
        ([], ValueError, "got none"),
        ({1: GradDot()}, ValueError, "with strings as names"),
        ({"a": "GradDot"}, TypeError, "'a' holds str"),
        ((GradDot(), {"damping": [1]}), ValueError, "cannot be set: Invalid parameter 'damping'"),
        ((GradDot(), {"output": ["margin"]}), ValueError, "varies 'output'"),
        ((InfluenceFunction(), {"damping": 0.1}), TypeError, "list of values"),
        ((InfluenceFunction(), {"damping": []}), ValueError, "list of values"),
        ((InfluenceFunction(), {"n_models": [2]}), ValueError, r"n_models=2; fit was given 1"),
        ((GradDot(), {"checkpoint": [7]}), ValueError, r"checkpoint 7; there are \['final'\]"),
    ],
)
def test_bad_grids(nets, data, truth, attributors, error, message):
    with pytest.raises(error, match=message):
        fit(attributors, nets[0], data, truth)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_dir": "x", "random_state": None}, "cache_dir: with random_state=None"),
        ({"training_epochs": [1]}, "none of the grids has the axis 'checkpoint'"),
        ({"training_epochs": [-1]}, "training_epochs: got"),
        ({"training_epochs": [1], "checkpoints": {1: None}}, "give one of them"),
        ({"checkpoints": {}}, "checkpoints: got"),
        ({"correlation": "kendall"}, "correlation"),
    ],
)
def test_bad_options(nets, data, truth, options, message):
    with pytest.raises(ValueError, match=message):
        fit(GradDot(), nets[0], data, truth, **options)


def test_ground_truth_must_fit(nets, data, truth):
    X, y, X_query, y_query = data
    with pytest.raises(ValueError, match="has 80 training rows and 20 queries"):
        fit(GradDot(), nets[0], (X, y, X_query[:5], y_query[:5]), truth)
    with pytest.raises(ValueError, match="explains 'margin'"):
        fit(GradDot("margin"), nets[0], data, truth)
    with pytest.raises(ValueError, match="y_query: got None"):
        fit(GradDot(), nets[0], (X, y, X_query, None), truth)
    with pytest.raises(TypeError, match="subset_outputs: got ndarray"):
        fit(GradDot(), nets[0], data, truth.outputs)
    with pytest.raises(ValueError, match="one for each model"):
        fit((GradDot(), {"checkpoint": [1]}), nets, data, truth, {1: nets[0]})
