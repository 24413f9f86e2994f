"""Labels of DataFrames reach the scores, whatever the attributor and the kind of index."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influencekit import GradDot, InfluenceFunction
from influencekit.groups import GroupAttributor
from tests._shared.attributors import asks_queries, trees_for
from tests.test_common import ATTRIBUTORS

N_TRAIN, N_TEST = 50, 6

INDICES = {
    "texts": lambda n, kind: pd.Index([f"{kind}{i}" for i in range(n)], name="who"),
    "numbers": lambda n, kind: pd.Index(np.arange(n)[::-1] + 100),
    "levels": lambda n, kind: pd.MultiIndex.from_product([[kind], range(n)], names=["a", "b"]),
    "duplicates": lambda n, kind: pd.Index([f"{kind}{i // 2}" for i in range(n)]),
    "dates": lambda n, kind: pd.date_range("2020-01-01", periods=n, tz="UTC"),
    "categories": lambda n, kind: pd.CategoricalIndex([f"{kind}{i % 3}" for i in range(n)]),
}


def problem(index="texts", last=None):
    """Pipeline, X, y, X_test and y_test with an index."""
    X, y = load_iris(return_X_y=True, as_frame=True)
    X, y = X[::3].set_axis(INDICES[index](N_TRAIN, "train")), y[::3]
    y.index = X.index
    X_test = X[::9].set_axis(INDICES[index](N_TEST, "test"))
    y_test = y[::9].set_axis(X_test.index)
    model = make_pipeline(StandardScaler(), LogisticRegression() if last is None else last).fit(
        X, y
    )
    return model, X, y, X_test, y_test


@pytest.mark.parametrize(
    "attributor", ATTRIBUTORS, ids=lambda attributor: type(attributor).__name__
)
def test_every_attributor(attributor):
    model, X, y, X_test, y_test = problem(last=trees_for(attributor))
    queries = {"X_query": X_test, "y_query": y_test} if asks_queries(attributor) else {}
    attributor = clone(attributor).set_output(transform="pandas").fit(model, X, y, **queries)
    scores = attributor.transform(X_test, y_test)
    np.testing.assert_array_equal(scores, attributor.score(X_test, y_test))
    assert scores.index.equals(X_test.index) and scores.index.name == "who"
    assert list(scores.columns) == list(X.index)
    indices, values = attributor.top_k(X_test, y_test, k=2)
    names = attributor.get_feature_names_out()[indices]
    for row, test in enumerate(X_test.index):
        np.testing.assert_allclose(scores.loc[test, names[row]], values[row], rtol=1e-5)


@pytest.mark.parametrize("index", INDICES)
def test_kinds_of_index(index):
    model, X, y, X_test, y_test = problem(index)
    attributor = GradDot().set_output(transform="pandas").fit(model, X, y)
    scores = attributor.transform(X_test, y_test)
    pd.testing.assert_index_equal(scores.index, X_test.index)
    assert list(scores.columns) == [str(label) for label in X.index]
    pd.testing.assert_index_equal(attributor.train_index_, X.index)
    scores.columns = attributor.train_index_
    pd.testing.assert_index_equal(scores.columns, X.index)


def test_labels_of_y_where_X_has_none():
    model, X, y, X_test, y_test = problem()
    X, X_test = model[0].transform(X), model[0].transform(X_test)
    attributor = GradDot().set_output(transform="pandas").fit(model[-1], X, y)
    scores = attributor.transform(X_test, y_test)
    assert list(scores.columns) == list(y.index)
    pd.testing.assert_index_equal(scores.index, y_test.index)
    assert list(attributor.transform(X_test).index) == list(range(N_TEST))
    attributor.set_output(transform="default")
    assert isinstance(attributor.transform(X_test, y_test), np.ndarray)


def test_texts_in_a_series():
    texts = pd.Series(["good film", "bad film", "nice", "awful"], index=list("abcd"))
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    attributor = GradDot().set_output(transform="pandas").fit(model, texts, [1, 0, 1, 0])
    scores = attributor.transform(texts[1:3])
    assert list(scores.index) == ["b", "c"] and list(scores.columns) == list("abcd")


@pytest.mark.parametrize("n_models", [1, 2])
def test_ensembles_and_the_global_setting(n_models):
    _, X, y, X_test, y_test = problem()
    with sklearn.config_context(transform_output="pandas"):
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
        scores = InfluenceFunction().fit([model] * n_models, X, y).transform(X_test, y_test)
    assert list(scores.index) == list(X_test.index) and list(scores.columns) == list(X.index)


def test_groups():
    model, X, y, X_test, y_test = problem()
    species = y.map({0: "setosa", 1: "versicolor", 2: "virginica"})
    grouped = GroupAttributor(GradDot()).set_output(transform="pandas")
    scores = grouped.fit(model, X, y, groups=species).transform(X_test, y_test)
    assert list(scores.columns) == ["setosa", "versicolor", "virginica"]
    pd.testing.assert_index_equal(scores.index, X_test.index)
    assert list(grouped.fit(model, X, y).transform(X_test).columns) == list(X.index)
    total = GroupAttributor(GradDot(), property="mean_neg_loss").set_output(transform="pandas")
    scores = total.fit(model, X, y, groups=species).transform(X_test, y_test)
    assert scores.shape == (1, 3) and list(scores.index) == ["mean_neg_loss"]


def test_polars():
    polars = pytest.importorskip("polars")
    model, X, y, X_test, y_test = problem()
    attributor = GradDot().set_output(transform="polars").fit(model, X, y)
    scores = attributor.transform(X_test, y_test)
    assert isinstance(scores, polars.DataFrame) and scores.columns == list(X.index)
    np.testing.assert_array_equal(scores.to_numpy(), attributor.score(X_test, y_test))
