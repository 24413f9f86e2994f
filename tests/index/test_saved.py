"""Fitted attributors in folders: the same scores, nothing pickled, and clear refusals."""

import io
import json
import os
import pickletools
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

import influencekit
from influencekit import (
    TRAK,
    GradCos,
    GradDot,
    GroupAttributor,
    InfluenceFunction,
    LossBaseline,
    SurrogateLambdaSearchCV,
    TracIn,
)
from influencekit.exceptions import VersionWarning
from influencekit.index import load, save
from influencekit.index.files import _fingerprints
from influencekit.index.files._folder import MARK
from influencekit.utils._files import unfinished_name
from tests.index._models import X, X_query, influence_by_hand, linear, net, y, y_query

ATTRIBUTORS = {
    "GradDot": GradDot(),
    "GradCos": GradCos(),
    "LossBaseline": LossBaseline(),
    "TRAK": TRAK(projection_dim=8, random_state=0),
    "ggn": InfluenceFunction(),
    "projected": InfluenceFunction(projection_dim=8, random_state=0),
    "cg": InfluenceFunction("cg", damping=0.1),
    "ekfac": InfluenceFunction("ekfac"),
    "logra": InfluenceFunction("logra", random_state=0),
    "datainf": InfluenceFunction("datainf"),
    "arnoldi": InfluenceFunction("arnoldi", random_state=0),
    "search": SurrogateLambdaSearchCV(InfluenceFunction(), random_state=0),
    "groups": GroupAttributor(InfluenceFunction()),
}
#: One of each kind of state; the others are alike.
QUICK = {"GradDot", "TRAK", "ggn", "ekfac", "cg", "groups"}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in ATTRIBUTORS]
)
def test_a_loaded_attributor_gives_the_same_bits(name, tmp_path):
    model = net()
    fitted = ATTRIBUTORS[name].fit(model, X, y)
    scores, own = fitted.score(X_query, y_query), fitted.self_influence()
    save(fitted, tmp_path)
    loaded = load(tmp_path, model)
    assert type(loaded) is type(fitted)
    np.testing.assert_array_equal(loaded.score(X_query, y_query), scores)
    np.testing.assert_array_equal(loaded.self_influence(), own)
    assert loaded.get_params(deep=False).keys() == fitted.get_params(deep=False).keys()


def test_tensors_keep_their_order_in_memory_which_decides_the_bits_of_products(tmp_path):
    fitted = InfluenceFunction().fit(net(), X, y)
    assert not fitted.curvature_.basis.is_contiguous()  # eigenvectors stand in columns
    save(fitted, tmp_path)
    loaded = load(tmp_path, net()).curvature_.basis
    assert loaded.stride() == fitted.curvature_.basis.stride()
    np.testing.assert_array_equal(loaded, fitted.curvature_.basis)


def test_scores_of_a_loaded_attributor_are_those_computed_by_hand(tmp_path):
    model = linear()
    save(InfluenceFunction(output="neg_loss").fit(model, X, y), tmp_path)
    expected = influence_by_hand(model, X, y, X_query, y_query, len(X))
    np.testing.assert_allclose(load(tmp_path, model).score(X_query, y_query), expected, rtol=1e-6)


def test_a_list_of_models_is_saved_with_each_of_its_parts(tmp_path):
    models = [net(0), net(1)]
    fitted = TracIn([0.1, 0.3]).fit(models, X, y)
    save(fitted, tmp_path)
    loaded = load(tmp_path, models)
    np.testing.assert_array_equal(loaded.score(X_query, y_query), fitted.score(X_query, y_query))
    with pytest.raises(ValueError, match=r"model: got 3 model\(s\)"):
        load(tmp_path, [*models, net(2)])
    with pytest.raises(ValueError, match="one model where"):
        load(tmp_path, models[0])


def test_rows_that_were_named_keep_their_names(tmp_path):
    frame = pd.DataFrame(X, columns=list("abcd"), index=[f"r{i}" for i in range(len(X))])
    model = net().__class__((5,), max_iter=60, random_state=0).fit(frame, y)
    fitted = InfluenceFunction().fit(model, frame, y)
    save(fitted, tmp_path)
    loaded = load(tmp_path, model)
    first = fitted.top_k(frame[:2], y[:2], k=2, as_frame=True)
    pd.testing.assert_frame_equal(loaded.top_k(frame[:2], y[:2], k=2, as_frame=True), first)
    assert list(loaded.get_feature_names_out()[:2]) == ["r0", "r1"]


def test_no_file_of_a_folder_is_a_pickle(tmp_path):
    save(InfluenceFunction("logra", random_state=0).fit(net(), X, y), tmp_path)
    names = {path.suffix for path in tmp_path.iterdir()}
    assert names == {".json", ".npy"}
    for path in tmp_path.glob("*.npy"):
        np.load(path, allow_pickle=False)
        with pytest.raises(Exception, match=r"."):
            list(pickletools.genops(path.read_bytes()))
    assert not zipfile.is_zipfile(io.BytesIO((tmp_path / "manifest.json").read_bytes()))


@pytest.mark.parametrize(
    ("attributor", "named"),
    [(GradDot(output=lambda outputs, _: outputs[:, 0]), r"GradDot\.output: got the function")],
)
def test_what_has_no_safe_form_is_refused_by_name(attributor, named, tmp_path):
    with pytest.raises(TypeError, match=named):
        save(attributor.fit(net(), X, y), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_attributor_of_another_package_is_refused(tmp_path):
    class Mine(GradDot):
        pass

    with pytest.raises(TypeError, match="Mine: got a class of another package"):
        save(Mine().fit(net(), X, y), tmp_path)


def test_what_a_killed_process_wrote_is_written_again(tmp_path, monkeypatch):
    fitted, whole = GradDot().fit(net(), X, y), tmp_path / "whole"
    save(fitted, whole)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    killed, running = tmp_path / "killed", tmp_path / "running"
    for folder, number in ((killed, process.pid), (running, os.getpid())):
        shutil.copytree(whole, folder)
        (folder / "manifest.json").unlink()
        (folder / unfinished_name(MARK).replace(f"-{os.getpid()}-", f"-{number}-")).touch()
    save(fitted, killed)
    assert sorted(p.name for p in killed.iterdir()) == sorted(p.name for p in whole.iterdir())
    np.testing.assert_array_equal(
        load(killed, net()).score(X_query, y_query), fitted.score(X_query, y_query)
    )
    with pytest.raises(FileExistsError, match="is not empty"):
        save(fitted, running)
    (killed / "manifest.json").unlink()  # files of somebody, beside half of another file
    (killed / unfinished_name().replace(f"-{os.getpid()}-", f"-{process.pid}-")).touch()
    with pytest.raises(FileExistsError, match="is not empty"):
        save(fitted, killed)
    assert (killed / "0.npy").exists()


def test_another_model_is_refused(tmp_path):
    save(InfluenceFunction().fit(net(), X, y), tmp_path)
    with pytest.raises(ValueError, match="not the one that the folder was written for"):
        load(tmp_path, net(1))


def test_another_scaler_before_the_same_weights_is_another_model(tmp_path):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipe = make_pipeline(StandardScaler(), linear().__class__()).fit(X, y)
    save(InfluenceFunction().fit(pipe, X, y), tmp_path)
    load(tmp_path, pipe)
    pipe[0].mean_ = pipe[0].mean_ + 1.0
    with pytest.raises(ValueError, match="preprocessing differ"):
        load(tmp_path, pipe)


def test_a_folder_of_another_version_warns_as_scikit_learn_does(tmp_path, monkeypatch):
    model = net()
    fitted = GradDot().fit(model, X, y)
    with monkeypatch.context() as patch:
        patch.setattr(_fingerprints, "__version__", "0.0.1")
        save(fitted, tmp_path)
    with pytest.warns(VersionWarning, match=r"written with influencekit 0\.0\.1 \(now"):
        load(tmp_path, model)
    assert json.loads((tmp_path / "manifest.json").read_text())["format_version"] == 1
    assert influencekit.__version__ != "0.0.1"


def test_a_folder_with_files_is_not_written_to(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty"):
        save(GradDot().fit(net(), X, y), tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_what_is_loaded_can_change_its_damping_without_changing_the_files(tmp_path):
    model = net()
    fitted = InfluenceFunction().fit(model, X, y)
    save(fitted, tmp_path)
    loaded = load(tmp_path, model).set_damping(0.3)
    expected = fitted.set_damping(0.3).score(X_query, y_query)
    np.testing.assert_array_equal(loaded.score(X_query, y_query), expected)
    assert load(tmp_path, model).damping_ != 0.3
