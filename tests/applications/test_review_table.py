"""The table of rows to look at, and folds that keep groups together."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influencekit import InfluenceFunction
from influencekit.applications import NoisyLabelDetector
from influencekit.report import AttributionReport

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 3)) * [1.0, 50.0, 1.0]
RIGHT = np.where(X[:, 0] > 0, "yes", "no")
Y = np.where(np.arange(90) < 8, np.where(RIGHT == "yes", "no", "yes"), RIGHT)
FRAME = pd.DataFrame(X, columns=list("abc"), index=[f"row {i}" for i in range(90)])


def nearest(Z, row):
    distances = np.square(Z - Z[row]).sum(axis=1)
    return [j for j in np.argsort(distances, kind="stable") if j != row][:5]


@pytest.mark.parametrize("steps", [False, True])
def test_suspected_rows_by_hand(steps):
    model = LogisticRegression()
    model = make_pipeline(StandardScaler(), model) if steps else model
    detector = NoisyLabelDetector(model, contamination=0.1, random_state=0).fit(FRAME, Y)
    table, p = detector.review_table_, detector.probabilities_
    rows = np.argsort(-detector.label_scores_, kind="stable")[:9]
    assert table.index.tolist() == [f"row {i}" for i in rows]
    assert table["row"].tolist() == rows.tolist()
    assert table["given"].tolist() == Y[rows].tolist()
    assert table["likely"].tolist() == np.array(["no", "yes"])[p[rows].argmax(1)].tolist()
    np.testing.assert_allclose(table["confidence"], p[rows].max(1))
    np.testing.assert_allclose(table["score"], detector.label_scores_[rows])
    Z = StandardScaler().fit_transform(X)
    for found in table.itertuples():
        near = nearest(Z, found.row)
        assert found.neighbors.tolist() == near
        assert found.neighbors_given == (Y[near] == found.given).sum()
        assert found.neighbors_likely == (Y[near] == found.likely).sum()


def test_regressors_and_rankings_show_the_first_rows():
    target = X[:, 0] + 0.1 * rng.normal(size=90)
    detector = NoisyLabelDetector(Ridge()).fit(X, target)
    table = detector.review_table_
    assert table["row"].tolist() == detector.ranking_[:20].tolist()
    np.testing.assert_allclose(table["likely"], detector.estimator_.predict(X)[table["row"]])
    assert "confidence" not in table
    near = np.stack(table["neighbors"])
    np.testing.assert_allclose(table["neighbors_mean"], target[near].mean(axis=1))
    ranked = NoisyLabelDetector(LogisticRegression(), method="self_influence").fit(X, Y)
    p = ranked.estimator_.predict_proba(X)[ranked.ranking_[:20]]
    np.testing.assert_allclose(ranked.review_table_["confidence"], p.max(axis=1))


def test_other_inputs_and_a_second_fit():
    detector = NoisyLabelDetector(LogisticRegression(), random_state=0)
    dense = detector.fit(X / [1, 50, 1], Y).review_table_
    detector.fit(sparse.csr_array(X / [1, 50, 1]), RIGHT)
    assert not detector.review_table_.equals(dense)
    text = np.array([f"word{i % 7} {label}" for i, label in enumerate(RIGHT)], dtype=object)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression())
    table = NoisyLabelDetector(model, contamination=0.1).fit(text, Y).review_table_
    assert len(table["neighbors"].iloc[0]) == 5
    assert not hasattr(NoisyLabelDetector(model), "review_table_")
    with pytest.raises(NotFittedError):
        _ = NoisyLabelDetector(model).review_table_
    alone = NoisyLabelDetector(LogisticRegression(), method="self_influence", refit=False)
    alone.fit(X, Y)
    with pytest.raises(AttributeError, match="Set refit=True"):
        _ = alone.review_table_


GROUPS = np.repeat(np.arange(18), 5)


def test_rows_of_a_group_are_held_out_together():
    """The loss out of fold by hand, and that of a splitter which looks at groups."""
    detector = NoisyLabelDetector(LogisticRegression(), method="loss", cv=LeaveOneGroupOut())
    found = detector.fit(X, Y, groups=GROUPS).label_scores_
    for group in range(18):
        own = group == GROUPS
        p = LogisticRegression().fit(X[~own], Y[~own]).predict_proba(X[own])
        expected = -np.log(p[np.arange(5), (Y[own] == "yes").astype(int)])
        np.testing.assert_allclose(found[own], expected, rtol=1e-6)


class Separate(LogisticRegression):
    """Remembers the groups that it learned from, read off the third column."""

    seen: ClassVar[list] = []

    def fit(self, X, y, sample_weight=None):
        self.seen.append(np.unique(X[:, 2]))
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize("method", ["rounds", "validation_influence"])
def test_folds_of_an_int_keep_groups_together(method):
    marked = np.c_[X[:, :2], GROUPS]
    Separate.seen.clear()
    detector = NoisyLabelDetector(Separate(), method=method, refit=False)
    if method == "rounds":
        detector.set_params(n_rounds=0)
    else:
        detector.set_params(attributor=InfluenceFunction("fisher", output="margin"))
    detector.fit(marked, Y, groups=GROUPS)
    held_out = [np.setdiff1d(np.arange(18), groups) for groups in Separate.seen[:5]]
    assert np.sort(np.concatenate(held_out)).tolist() == list(range(18))


@pytest.mark.parametrize(
    ("options", "groups", "said"),
    [
        ({}, GROUPS % 3, "got 3 groups for 5 folds"),
        ({"method": "loss"}, GROUPS, "method='loss' makes none here"),
        ({"method": "self_influence"}, GROUPS, "makes none here"),
        ({}, GROUPS[:-1], "groups: got 89 labels"),
        ({}, np.where(GROUPS == 3, np.nan, GROUPS), "groups: 5 rows have a missing label"),
    ],
)
def test_groups_that_are_refused(options, groups, said):
    with pytest.raises(ValueError, match=said):
        NoisyLabelDetector(LogisticRegression(), **options).fit(X, Y, groups=groups)


def test_a_page_of_the_report():
    model = clone(LogisticRegression()).fit(FRAME, Y)
    attributor = InfluenceFunction().fit(model, FRAME, Y)
    detector = NoisyLabelDetector(LogisticRegression(), contamination=0.1).fit(FRAME, Y)
    options = {"X_train": FRAME, "y_train": Y, "lambda_path": None, "n_shown": 1}
    make = AttributionReport.from_attributor
    page = make(attributor, FRAME[:3], Y[:3], detector=detector, **options).to_html()
    assert "9 of 90 rows are suspected" in page
    for row, near in zip(detector.ranking_[:9], detector.review_table_["neighbors"], strict=True):
        assert f"{row} (row {row})" in page
        assert ", ".join(map(str, near)) in page
    assert "Labels to check" not in make(attributor, FRAME[:3], Y[:3], **options).to_html()
    other = NoisyLabelDetector(LogisticRegression(), method="loss").fit(FRAME[1:], Y[1:])
    with pytest.raises(ValueError, match="was fitted on 89 rows"):
        make(attributor, FRAME[:3], Y[:3], detector=other, **options)
    with pytest.raises(TypeError, match="fitted NoisyLabelDetector"):
        make(attributor, FRAME[:3], Y[:3], detector=model, **options)
