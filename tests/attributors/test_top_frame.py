"""``top_k(as_frame=True)``: the strongest training rows as a table to read."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influencekit import (
    GradDot,
    GroupAttributor,
    InfluenceFunction,
    SurrogateLambdaSearchCV,
    as_task,
)
from influencekit.groups import LabelGrouper

COLUMNS = ["mean radius", "mean texture", "worst area"]


@pytest.fixture(scope="module")
def table():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X, y = X.iloc[:80][COLUMNS], y.iloc[:80].rename("benign")
    X.index = y.index = [f"patient {i}" for i in range(80)]
    return X, y


@pytest.fixture(scope="module")
def model(table):
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(*table)


def test_each_row_is_the_training_row_of_its_position(table, model):
    X, y = table
    attributor = GradDot().fit(model, X, y)
    for opponents in (False, True):
        rows, scores = attributor.top_k(X[:3], y[:3], k=4, opponents=opponents)
        frame = attributor.top_k(X[:3], y[:3], k=4, opponents=opponents, as_frame=True)
        assert list(frame.columns) == ["query", "rank", "row", "score", "y", *COLUMNS]
        assert frame["query"].tolist() == np.repeat(X.index[:3], 4).tolist()
        assert frame["rank"].tolist() == [1, 2, 3, 4] * 3
        assert frame["row"].tolist() == X.index[rows.ravel()].tolist()
        np.testing.assert_array_equal(frame["score"], scores.ravel())
        np.testing.assert_array_equal(frame[COLUMNS], X.iloc[rows.ravel()])
        np.testing.assert_array_equal(frame["y"], y.iloc[rows.ravel()])


def test_positions_stand_where_data_have_no_labels(table):
    X, y = table[0].to_numpy(), table[1].to_numpy()
    model = LogisticRegression(max_iter=5000).fit(X, y)
    attributor = GradDot().fit(model, X, y)
    rows, _ = attributor.top_k(X[:2], k=2)
    frame = attributor.top_k(X[:2], k=2, as_frame=True)
    assert list(frame.columns) == ["query", "rank", "row", "score", "y", "x0", "x1", "x2"]
    assert frame["query"].tolist() == [0, 0, 1, 1]
    assert frame["row"].tolist() == rows.ravel().tolist()


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.LambdaPathWarning")
def test_a_search_and_groups_have_it_too(table, model):
    X, y = table
    search = SurrogateLambdaSearchCV(InfluenceFunction("fisher"), [0.1, 1.0, 10.0], random_state=0)
    frame = search.fit(model, X, y).top_k(X[:1], y[:1], k=2, as_frame=True)
    np.testing.assert_array_equal(frame[COLUMNS], X.loc[frame["row"]])
    groups = np.array(["a", "b", "c", "d"]).repeat(20)
    grouped = GroupAttributor(GradDot(), LabelGrouper(groups)).fit(model, X, y)
    rows, _ = grouped.top_k(X[:1], y[:1], k=2)
    frame = grouped.top_k(X[:1], y[:1], k=2, as_frame=True)
    assert list(frame.columns) == ["query", "rank", "row", "score"]
    assert frame["row"].tolist() == grouped.get_feature_names_out()[rows[0]].tolist()


def test_columns_of_the_data_never_hide_those_of_the_table(table):
    X = table[0].set_axis(["score", "rank", "y"], axis=1)
    y = table[1].rename("y")
    frame = GradDot().fit(Ridge().fit(X, y), X, y).top_k(X[:1], y[:1], k=1, as_frame=True)
    assert frame.columns.is_unique
    assert list(frame.columns)[-3:] == ["score (X)", "rank (X)", "y (X)"]


def test_what_has_no_rows_to_show_shows_none(table):
    X, y = sparse.csr_matrix(table[0].to_numpy()), table[1].to_numpy()
    attributor = GradDot().fit(LogisticRegression(max_iter=5000).fit(X, y), X, y)
    frame = attributor.top_k(X[:1], y[:1], k=1, as_frame=True)
    assert list(frame.columns) == ["query", "rank", "row", "score", "y"]


def test_tensors_of_several_axes_are_flat():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 2))
    X, y = torch.randn(9, 2, 3), torch.arange(9) % 2
    frame = (
        GradDot()
        .fit(as_task(net, loss=torch.nn.CrossEntropyLoss()), X, y)
        .top_k(X[:1], y[:1], k=3, as_frame=True)
    )
    np.testing.assert_array_equal(
        frame[[f"x{i}" for i in range(6)]], X.flatten(1).numpy()[frame["row"]]
    )
    assert isinstance(frame, pd.DataFrame)
