"""Boosting of other libraries trained again, where they are installed: ``make test-slow``."""

import numpy as np
import pytest
from sklearn.base import clone

from influencekit import retrain_on_subsets
from influencekit.applications import DatasetPruner, NoisyLabelDetector, removal_curve

pytestmark = pytest.mark.slow

rng = np.random.default_rng(0)
X = rng.normal(size=(120, 4))
Y = (X[:, 0] > 0.3).astype(int) + (X[:, 1] > 0)
VALUES = X[:, 0] ** 2 + X[:, 1]
TRAIN, QUERY = slice(0, 90), slice(90, 120)

LIBRARIES = {
    "xgboost": ("XGB", {"n_estimators": 5, "n_jobs": 1, "subsample": 0.7}, "random_state"),
    "lightgbm": (
        "LGBM",
        {"n_estimators": 5, "n_jobs": 1, "subsample": 0.7, "subsample_freq": 1, "verbose": -1},
        "random_state",
    ),
    "catboost": (
        "CatBoost",
        {"iterations": 5, "verbose": 0, "allow_writing_files": False, "thread_count": 1},
        "random_seed",
    ),
}


def model(name, kind, **more):
    prefix, options, seed = LIBRARIES[name]
    library = pytest.importorskip(name)
    return getattr(library, prefix + kind)(**options, **more), seed


def data(y):
    return X[TRAIN], y[TRAIN], X[QUERY], y[QUERY]


@pytest.mark.parametrize("name", LIBRARIES)
def test_outputs_are_those_of_plain_refits(name):
    options = {"n_subsets": 2, "subset_fraction": 0.8, "random_state": 0}
    for kind, y in (("Classifier", Y), ("Regressor", VALUES)):
        booster, seed = model(name, kind)
        truth = retrain_on_subsets(booster, *data(y), **options)
        for mask, seeds, got in zip(truth.masks, truth.seeds, truth.outputs, strict=True):
            alone = clone(booster).set_params(**{seed: int(seeds[0])})
            alone.fit(X[TRAIN][mask], y[TRAIN][mask])
            if y is Y:
                p = np.asarray(alone.predict_proba(X[QUERY]))
                expected = np.log(p[np.arange(30), Y[QUERY]].astype(float))
            else:
                scale = 1.0 if name == "catboost" else 0.5
                expected = -scale * np.square(y[QUERY] - alone.predict(X[QUERY]).astype(float))
            np.testing.assert_array_equal(got[0], expected)


@pytest.mark.parametrize("name", LIBRARIES)
def test_tools_take_them(name):
    booster, _ = model(name, "Classifier")
    curve = removal_curve(booster, *data(Y), X[TRAIN, 0], fractions=[0.2], random_state=0)
    assert 0.5 < curve.nothing.mean() <= 1
    detector = NoisyLabelDetector(booster, method="loss", cv=3, random_state=0)
    assert len(DatasetPruner(booster, detector).fit(X, Y).sample_indices_) < 120


@pytest.mark.parametrize("name", ["xgboost", "catboost"])
def test_early_stopping_is_refused_before_training(name):
    booster, _ = model(name, "Classifier", early_stopping_rounds=3)
    with pytest.raises(ValueError, match="early_stopping_rounds=None"):
        retrain_on_subsets(booster, *data(Y), n_subsets=2)
