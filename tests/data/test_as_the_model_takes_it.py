"""What the fitted model predicts on, every tool takes; its first step decides on columns."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from influencekit import GradDot, InfluenceFunction, retrain_on_subsets
from influencekit.applications import (
    DatasetPruner,
    NoisyLabelDetector,
    group_counterfactual,
    removal_curve,
)

RNG = np.random.default_rng(0)
A = RNG.normal(size=(60, 4))
Y = (A[:, 0] + RNG.normal(size=60) > 0).astype(int)
FRAME = pd.DataFrame(A, columns=list("abcd"))
ALL = np.ones((1, 60), bool)


class Product(TransformerMixin, BaseEstimator):
    """A step whose fit keeps nothing."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        X = np.asarray(X)
        return np.c_[X, X[:, 0] * X[:, 1]]


class Late(Product):
    """A step that misses something only when it transforms."""

    def transform(self, X):
        if not hasattr(self, "kept_"):
            raise NotFittedError("no kept_")
        return X


def logistic(*steps):
    return make_pipeline(*steps, LogisticRegression())


def outputs(model, X):
    """Log-probability of the labels by a model trained on all rows again."""
    truth = retrain_on_subsets(model, X, Y, X, Y, masks=ALL, random_state=0)
    return truth.outputs[0, 0]


def own(model, X):
    return model.predict_log_proba(X)[np.arange(60), Y]


@pytest.mark.parametrize(
    "steps", [[Product()], [StandardScaler(), Product()], [Product(), StandardScaler()]]
)
def test_steps_that_keep_nothing(steps):
    model = logistic(*steps).fit(A, Y)
    inner = A
    for step in model[:-1]:
        inner = step.transform(inner)
    expected = GradDot().fit(model[-1], inner, Y).score(inner, Y)
    np.testing.assert_allclose(GradDot().fit(model, A, Y).score(A, Y), expected, rtol=1e-12)
    np.testing.assert_allclose(outputs(model, A), own(model, A), atol=1e-8)


def test_steps_that_keep_nothing_in_applications():
    model = logistic(Product())
    assert len(DatasetPruner(model, GradDot(), random_state=0).fit_resample(A, Y)[0]) < 60
    fitted = model.fit(A, Y)
    curve = removal_curve(fitted, A, Y, A, Y, np.arange(60.0), n_repeats=1, random_state=0)
    assert np.isfinite(curve.curves["scores"]).all()


def test_an_own_step_that_misses_its_fit_is_named():
    model = logistic(Late()).fit
    with pytest.raises(NotFittedError):
        model(A, Y)
    made = make_pipeline(Late(), LogisticRegression().fit(A, Y))
    with pytest.raises(NotFittedError, match="the step Late of the Pipeline is not fitted"):
        GradDot().fit(made, A, Y)
    unfitted = make_pipeline(StandardScaler(), LogisticRegression().fit(A, Y))
    with pytest.raises(NotFittedError, match="refit_transformers=True"):
        outputs(unfitted, A)


OTHER_COLUMNS = {
    "unused missing": lambda f: f[list("ab")],
    "reordered": lambda f: f[list("cbad")],
    "extra": lambda f: f.assign(z="text"),
}


@pytest.mark.parametrize("kind", OTHER_COLUMNS)
def test_columns_that_the_first_step_takes(kind):
    model = logistic(make_column_transformer((StandardScaler(), ["a", "b"]))).fit(FRAME, Y)
    X = OTHER_COLUMNS[kind](FRAME)
    attributor = InfluenceFunction(damping=1e-3).fit(model, FRAME, Y)
    np.testing.assert_array_equal(attributor.score(X, Y), attributor.score(FRAME, Y))
    np.testing.assert_array_equal(
        InfluenceFunction(damping=1e-3).fit(model, X, Y).score(X, Y), attributor.score(FRAME, Y)
    )
    np.testing.assert_allclose(outputs(model, X), own(model, X), atol=1e-8)


def test_columns_by_a_function():
    pick = FunctionTransformer(lambda frame: frame[["a"]].to_numpy())
    model = logistic(pick).fit(FRAME, Y)
    expected = GradDot().fit(model[-1], A[:, :1], Y).score(A[:, :1], Y)
    found = GradDot().fit(model, FRAME, Y).score(FRAME[["d", "a"]], Y)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (make_column_transformer((StandardScaler(), ["a", "b"])), "columns are missing: {'a'}"),
        (StandardScaler(), "missing 'a'"),
    ],
)
def test_columns_that_it_refuses_are_told_in_its_words(step, said):
    attributor = GradDot().fit(logistic(step).fit(FRAME, Y), FRAME, Y)
    with pytest.raises(ValueError, match=r"The error of the step that uses them") as error:
        attributor.score(FRAME[list("bcd")], Y)
    assert said in str(error.value)
    assert "feature_names_in_]" not in str(error.value)


OBJECTS = FRAME.assign(b=A[:, 1] > 0).astype(object)


@pytest.mark.parametrize(
    "X",
    [OBJECTS, OBJECTS.to_numpy(), OBJECTS.to_numpy().tolist(), OBJECTS.map(str)],
    ids=["frame", "array", "list", "texts of numbers"],
)
@pytest.mark.parametrize("kind", ["alone", "pipeline"])
def test_numbers_in_objects(X, kind):
    if isinstance(X, pd.DataFrame) and isinstance(X.iloc[0, 1], str):
        X = X.replace({"True": "1", "False": "0"}).astype(object)
    keep = FunctionTransformer(lambda values: np.asarray(values, dtype=object))
    model = (logistic(keep) if kind == "pipeline" else LogisticRegression()).fit(X, Y)
    numbers = OBJECTS.to_numpy().astype(float)
    expected = GradDot().fit(LogisticRegression().fit(numbers, Y), numbers, Y).score(numbers, Y)
    np.testing.assert_allclose(GradDot().fit(model, X, Y).score(X, Y), expected, rtol=1e-9)


def test_words_in_objects_are_refused():
    X = OBJECTS.assign(a="x").to_numpy()
    model = LogisticRegression().fit(A, Y)
    with pytest.raises(TypeError, match="Encode text"):
        GradDot().fit(model, X, Y)


COLUMN = pd.DataFrame({"label": Y})


@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
def test_a_frame_of_one_column_as_y():
    model = LogisticRegression().fit(FRAME, COLUMN)
    plain = GradDot().fit(LogisticRegression().fit(FRAME, Y), FRAME, Y).score(FRAME, Y)
    for y in (COLUMN, COLUMN.to_numpy()):
        np.testing.assert_array_equal(GradDot().fit(model, FRAME, y).score(FRAME, y), plain)
    truth = retrain_on_subsets(model, FRAME, COLUMN, FRAME, COLUMN, masks=ALL, random_state=0)
    np.testing.assert_allclose(truth.outputs[0, 0], own(model, FRAME), atol=1e-8)
    assert len(DatasetPruner(LogisticRegression(), GradDot()).fit(FRAME, COLUMN).values_) == 60
    detector = NoisyLabelDetector(LogisticRegression(), random_state=0)
    expected = detector.fit(FRAME, Y).label_scores_
    np.testing.assert_array_equal(detector.fit(FRAME, COLUMN).label_scores_, expected)
    people = np.where(A[:, 1] > 0, "a", "b")
    found = group_counterfactual(
        model, FRAME, COLUMN, FRAME, COLUMN, people, sensitive=people, n_repeats=1, random_state=0
    )
    assert np.isfinite(found.without).all()


def test_a_frame_of_one_column_as_the_target_of_a_regression():
    target = pd.DataFrame({"t": A @ [1.0, 2, 0, 0] + RNG.normal(size=60)})
    model = Ridge().fit(FRAME, target)
    expected = GradDot().fit(Ridge().fit(FRAME, target["t"]), FRAME, target["t"])
    found = GradDot().fit(model, FRAME, target).score(FRAME, target)
    np.testing.assert_allclose(found, expected.score(FRAME, target["t"]))


def test_several_columns_of_labels_are_refused():
    with pytest.raises(ValueError, match=re.escape("got shape (60, 2)")):
        GradDot().fit(LogisticRegression().fit(A, Y), A, np.c_[Y, Y])
