"""Models of trees are read as they predict, and refused by name where they cannot be."""

from inspect import signature

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from influencekit import InfluenceFunction, TreeInfluence, as_task, retrain_on_subsets
from influencekit.exceptions import HeldOutRowsWarning, UnsupportedModelError
from influencekit.models._predict import predict, predict_proba
from influencekit.models.trees._task import tree_task

IRIS = load_iris(return_X_y=True)
TWO = load_breast_cancer(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)


@pytest.mark.parametrize("data", [IRIS, TWO], ids=["three", "two"])
@pytest.mark.parametrize(
    "model",
    [
        DecisionTreeClassifier(max_depth=3),
        RandomForestClassifier(8),
        ExtraTreesClassifier(8),
        GradientBoostingClassifier(n_estimators=5),
        HistGradientBoostingClassifier(max_iter=5),
    ],
)
def test_classes(model, data):
    X, y = data
    names = np.array(["a", "b", "c"])[y]
    task = tree_task(model.fit(X, names))
    np.testing.assert_allclose(predict_proba(task, X), model.predict_proba(X), atol=1e-12)
    np.testing.assert_array_equal(predict(task, X), model.predict(X))


@pytest.mark.parametrize(
    "model",
    [
        DecisionTreeRegressor(max_depth=3),
        RandomForestRegressor(8),
        GradientBoostingRegressor(n_estimators=5),
        HistGradientBoostingRegressor(max_iter=5),
    ],
)
def test_numbers(model):
    X, y = DIABETES
    np.testing.assert_allclose(predict(tree_task(model.fit(X, y)), X), model.predict(X))


def test_frames_with_categories_and_missing_values():
    X = pd.DataFrame(DIABETES[0].copy(), columns=[f"c{i}" for i in range(10)])
    X["side"] = pd.Categorical(np.where(X.c0 > 0, "left", "right"))
    X.loc[::5, "c2"] = np.nan
    X.index = [f"row{i}" for i in range(len(X))]
    model = HistGradientBoostingRegressor(
        max_iter=8, categorical_features="from_dtype", early_stopping=False
    ).fit(X, DIABETES[1])
    np.testing.assert_allclose(predict(tree_task(model), X), model.predict(X))
    influence = TreeInfluence().fit(model, X, DIABETES[1])
    assert influence.score(X[:3], DIABETES[1][:3]).shape == (3, 442)
    assert list(influence.get_feature_names_out()[:2]) == ["row0", "row1"]


@pytest.mark.parametrize(
    "model", [GradientBoostingRegressor(n_estimators=3), RandomForestRegressor(3, random_state=0)]
)
def test_columns_of_frames_are_taken_in_the_order_of_the_fit(model):
    X = pd.DataFrame(DIABETES[0], columns=list("abcdefghij"))
    influence = TreeInfluence().fit(model.fit(X, DIABETES[1]), X, DIABETES[1])  # and no warning
    with pytest.raises(ValueError, match="order"):
        influence.score(X[list("jihgfedcba")][:2])


def test_at_the_end_of_a_pipeline_and_of_a_search():
    X, y = IRIS
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.05, np.nan, X)
    forest = RandomForestClassifier(10, random_state=0)
    inside = SimpleImputer().fit_transform(X)
    expected = TreeInfluence().fit(forest.fit(inside, y), inside, y).score(inside[:4], y[:4])
    pipeline = make_pipeline(SimpleImputer(), RandomForestClassifier(10, random_state=0))
    search = GridSearchCV(pipeline, {"randomforestclassifier__max_depth": [None]}, cv=2)
    for model in (pipeline.fit(X, y), search.fit(X, y)):
        found = TreeInfluence().fit(model, X, y).score(X[:4], y[:4])
        np.testing.assert_allclose(found, expected)


def test_rows_that_early_stopping_held_out_score_zero():
    X, y = TWO
    model = HistGradientBoostingClassifier(max_iter=8, early_stopping=True, random_state=3)
    model.fit(X, y)
    with pytest.warns(HeldOutRowsWarning):
        influence = TreeInfluence().fit(model, X, y)
    assert len(influence.train_rows_) == 512
    other = GradientBoostingClassifier(n_estimators=8, n_iter_no_change=3, random_state=3)
    with pytest.warns(HeldOutRowsWarning):
        influence = TreeInfluence().fit(other.fit(X, y), X, y)
    kept = train_test_split(np.arange(len(X)), test_size=0.1, random_state=3, stratify=y)[0]
    np.testing.assert_array_equal(influence.train_rows_, np.sort(kept))


def test_early_stopping_on_data_of_its_own_holds_no_row_out():
    X, y = DIABETES
    model = HistGradientBoostingRegressor(max_iter=8, early_stopping=True, random_state=0)
    if "X_val" not in signature(model.fit).parameters:
        pytest.skip("this scikit-learn takes no validation data")
    model.fit(X[:300], y[:300], X_val=X[300:], y_val=y[300:])
    for method in ("leaf", "kernel"):
        assert len(TreeInfluence(method).fit(model, X[:300], y[:300]).train_rows_) == 300


def test_balanced_classes_with_early_stopping_are_refused_by_name():
    model = HistGradientBoostingClassifier(
        max_iter=8, early_stopping=True, class_weight="balanced", random_state=0
    ).fit(*TWO)
    with pytest.warns(HeldOutRowsWarning):
        assert TreeInfluence().fit(model, *TWO).method_ == "kernel"
    with (
        pytest.warns(HeldOutRowsWarning),
        pytest.raises(UnsupportedModelError, match="class_weight='balanced' together"),
    ):
        TreeInfluence("leaf").fit(model, *TWO)


@pytest.mark.slow
def test_class_weights_of_histogram_trees_go_by_the_number_of_the_class():
    X, y = TWO
    model = HistGradientBoostingClassifier(max_iter=5, class_weight={0: 1.0, 1: 5.0})
    plain, named = (TreeInfluence().fit(model.fit(X, v), X, v) for v in (y, y + 1))
    np.testing.assert_allclose(named.score(X[:3], y[:3] + 1), plain.score(X[:3], y[:3]))
    named = TreeInfluence().fit(model.fit(X, np.array(["b", "m"])[y]), X, np.array(["b", "m"])[y])
    np.testing.assert_allclose(named.score(X[:3]), plain.score(X[:3]))


def test_gradients_are_not_looked_for_in_trees():
    model = RandomForestClassifier(3).fit(*IRIS)
    for ask in (as_task, lambda m: InfluenceFunction().fit(m, *IRIS)):
        with pytest.raises(UnsupportedModelError, match=r"influencekit\.TreeInfluence"):
            ask(model)
    for other in (LogisticRegression(max_iter=1000), AdaBoostClassifier()):
        with pytest.raises(UnsupportedModelError, match="not a tree model"):
            TreeInfluence().fit(other.fit(*IRIS), *IRIS)


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (GradientBoostingRegressor(loss="huber"), DIABETES, "loss is 'huber'"),
        (GradientBoostingClassifier(loss="exponential"), TWO, "loss is 'exponential'"),
        (HistGradientBoostingRegressor(loss="poisson"), DIABETES, "loss is 'poisson'"),
        (
            HistGradientBoostingRegressor(loss="quantile", quantile=0.5),
            DIABETES,
            "loss is 'quantile'",
        ),
        (GradientBoostingRegressor(init=DecisionTreeRegressor()), DIABETES, "init="),
        (GradientBoostingRegressor(subsample=0.5), DIABETES, "random_state"),
    ],
)
def test_refused_by_name(model, data, words):
    few = {"max_iter": 3} if hasattr(model, "max_iter") else {"n_estimators": 3}
    model.set_params(**few).fit(*data)
    for method in ("leaf", "kernel") if "loss" in words else ("leaf",):
        with pytest.raises(UnsupportedModelError, match=words):
            TreeInfluence(method).fit(model, *data)


def test_boosting_that_starts_at_a_model_of_rows_is_refused_by_every_method():
    X, y = DIABETES
    model = GradientBoostingRegressor(n_estimators=3, init=LinearRegression()).fit(X, y)
    drawn = DummyClassifier(strategy="stratified")
    other = GradientBoostingClassifier(n_estimators=3, init=drawn).fit(*TWO)
    for method in ("auto", "leaf", "kernel", "boostin"):
        for fitted, data in ((model, DIABETES), (other, TWO)):
            with pytest.raises(UnsupportedModelError, match="init="):
                TreeInfluence(method).fit(fitted, *data)


@pytest.mark.parametrize("data", [IRIS, TWO], ids=["three", "two"])
def test_boosting_that_starts_at_a_constant_of_ones_own(data):
    X, y = data
    for strategy in ("uniform", "most_frequent", "prior"):
        model = GradientBoostingClassifier(n_estimators=3, init=DummyClassifier(strategy=strategy))
        task = tree_task(model.fit(X, y))
        np.testing.assert_allclose(predict_proba(task, X), model.predict_proba(X), atol=1e-12)
    start = DummyRegressor(strategy="quantile", quantile=0.1)
    numbers = GradientBoostingRegressor(n_estimators=3, init=start).fit(*DIABETES)
    task = tree_task(numbers)
    np.testing.assert_allclose(predict(task, DIABETES[0]), numbers.predict(DIABETES[0]))
    assert TreeInfluence().fit(numbers, *DIABETES).method_ == "kernel"


def test_a_forest_of_one_class():
    X, _ = IRIS
    forest = RandomForestClassifier(3).fit(X, np.full(150, "a"))
    assert not TreeInfluence().fit(forest, X, np.full(150, "a")).score(X[:2]).any()


def test_balanced_subsamples_of_all_rows_are_balanced():
    X, y = TWO
    forest = ExtraTreesClassifier(4, class_weight="balanced_subsample", max_depth=3).fit(X, y)
    weights = TreeInfluence("axil").fit(forest, X, y).label_weights(X[:5])
    np.testing.assert_allclose(weights @ y, forest.predict_proba(X[:5])[:, 1], atol=1e-12)


def test_several_columns_of_labels_are_refused():
    X, y = IRIS
    model = RandomForestClassifier(3).fit(X, np.c_[y, y])
    with pytest.raises(UnsupportedModelError, match="2 columns of labels"):
        TreeInfluence().fit(model, X, y)


def test_other_data_than_those_of_the_fit_are_refused():
    X, y = DIABETES
    model = GradientBoostingRegressor(n_estimators=5).fit(X, y)
    for part in ((X[:-1], y[:-1]), (X, y + 1)):
        with pytest.raises(UnsupportedModelError, match="do not follow from the training rows"):
            TreeInfluence().fit(model, *part)
    forest = RandomForestRegressor(5, random_state=0).fit(X, y)
    for part in ((X[:200], y[:200]), (X, y + 1)):
        with pytest.raises(UnsupportedModelError, match=r"training rows|exactly as the model"):
            TreeInfluence().fit(forest, *part)
    clipped = HistGradientBoostingRegressor(
        max_iter=20, monotonic_cst=[0, 0, 1, -1, 1, -1, 0, 0, 1, 1], early_stopping=False
    ).fit(X, y)
    with pytest.raises(UnsupportedModelError, match="monotone"):
        TreeInfluence().fit(clipped, X, y)
    assert TreeInfluence("kernel").fit(clipped, X, y).method_ == "kernel"


@pytest.mark.parametrize(
    ("method", "forest"),
    [
        ("auto", RandomForestRegressor(5, criterion="absolute_error", random_state=0)),
        ("kernel", RandomForestRegressor(5, random_state=0)),
        ("auto", RandomForestClassifier(5, class_weight="balanced_subsample", random_state=0)),
    ],
)
def test_kernels_of_bootstraps_need_the_rows_in_their_order(method, forest):
    X, y = TWO if hasattr(forest, "predict_proba") else DIABETES
    X, y = X[:200], y[:200]
    forest.fit(X, y)
    assert TreeInfluence(method).fit(forest, X, y).method_ == "kernel"
    with pytest.raises(UnsupportedModelError, match="in the same order"):
        TreeInfluence(method).fit(forest, X[::-1], y[::-1])
    weights = np.arange(200) % 3
    forest.fit(X, y, sample_weight=weights)
    TreeInfluence(method).fit(forest, X, y, sample_weight=weights)


@pytest.mark.parametrize("bootstrap", [False, True])
def test_forests_of_balanced_classes_and_weighted_rows(bootstrap):
    X, y = TWO
    w = np.arange(len(y)) % 3
    forest = RandomForestClassifier(
        4, class_weight="balanced", bootstrap=bootstrap, max_depth=3, random_state=0
    ).fit(X, y, sample_weight=w)
    influence = TreeInfluence("axil").fit(forest, X, y, sample_weight=w)
    said = influence.label_weights(X[:5]) @ y
    np.testing.assert_allclose(said, forest.predict_proba(X[:5])[:, 1], atol=1e-12)


def test_models_of_trees_are_retrained_on_subsets():
    X, y = TWO
    model = RandomForestClassifier(5, random_state=0)
    masks = np.zeros((2, 400), dtype=bool)
    masks[0, :200] = masks[1, 200:] = True
    found = retrain_on_subsets(model, X[:400], y[:400], X[400:], y[400:], masks=masks, n_repeats=1)
    assert found.outputs.shape == (2, 1, 169)
    assert np.isfinite(found.outputs).all() and (found.outputs <= 0).all()
