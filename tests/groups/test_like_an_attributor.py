"""A group attributor is an attributor: groups of one, searches inside and outside, top groups."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, Ridge

from influencekit import (
    TRAK,
    BaseAttributor,
    GradDot,
    InfluenceFunction,
    LDSSearch,
    SurrogateLambdaSearchCV,
)
from influencekit.groups import GroupAttributor

X, Y = load_iris(return_X_y=True)
TARGETS = X @ [[1.0, 0.0], [2.0, 1.0], [0.0, 3.0], [1.0, 1.0]] + np.random.default_rng(0).normal(
    size=(150, 2)
)
MODELS = {
    "classifier": (LogisticRegression(max_iter=500).fit(X, Y), Y),
    "one target": (Ridge().fit(X, TARGETS[:, 0]), TARGETS[:, 0]),
    "two targets": (Ridge().fit(X, TARGETS), TARGETS),
}
OUTPUTS = {
    "classifier": ["auto", "neg_loss", "margin", "logit"],
    "one target": ["auto", "neg_loss", "prediction", lambda o, _: o[:, 0] ** 2],
    "two targets": ["auto", "neg_loss", lambda o, _: o[:, 1]],
}
CASES = [(name, output) for name in MODELS for output in OUTPUTS[name]]


#: Without targets a loss has no gradient, and of two predictions none is the one meant.
NEEDS_TARGETS = [("one target", "neg_loss"), ("two targets", "neg_loss"), ("two targets", "auto")]


@pytest.mark.parametrize(("name", "output"), CASES)
@pytest.mark.parametrize("targets", [True, False])
def test_groups_of_one_are_trak(name, output, targets):
    model, y = MODELS[name]
    asked = (X[::10], y[::10]) if targets else (X[::10],)
    trak = TRAK(0.1, projection_dim=None, output=output)
    grouped = GroupAttributor(trak, curvature="groups", fisher_form="sum")
    grouped.fit(model, X, y, groups=np.arange(150))
    trak.fit(model, X, y)
    if not targets and (name, output) in NEEDS_TARGETS:
        for one in (grouped, trak):
            with pytest.raises(ValueError, match="output="):
                one.score(*asked)
        return
    found, expected = grouped.score(*asked), trak.score(*asked)
    np.testing.assert_allclose(found, expected, atol=1e-8 * np.abs(expected).max() + 1e-14)


def search(attributor=None):
    attributor = InfluenceFunction("fisher") if attributor is None else attributor
    return LDSSearch(attributor, n_subsets=6, n_trials=2, random_state=0)


QUERIES = {"X_query": X[::7], "y_query": Y[::7]}


@pytest.mark.parametrize("name", ["LDSSearch", "SurrogateLambdaSearchCV"])
def test_a_search_inside_sums_what_it_would_give_alone(name):
    model = MODELS["classifier"][0]
    inside = search() if name == "LDSSearch" else SurrogateLambdaSearchCV(InfluenceFunction())
    grouped = GroupAttributor(inside).fit(model, X, Y, groups=Y, **QUERIES)
    alone = clone(inside).fit(model, X, Y, **QUERIES).score(X[::9], Y[::9])
    expected = np.stack([alone[:, g == Y].sum(1) for g in range(3)], axis=1)
    np.testing.assert_allclose(grouped.score(X[::9], Y[::9]), expected)


def test_a_search_without_queries_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "__call__", None)
    with pytest.raises(ValueError, match="X_query: got None; LDSSearch"):
        GroupAttributor(search()).fit(MODELS["classifier"][0], X, Y, groups=Y)
    with pytest.raises(TypeError, match=r"X_query.*GradDot does not take"):
        GroupAttributor(GradDot()).fit(MODELS["classifier"][0], X, Y, groups=Y, X_query=X)


def test_top_groups_and_names():
    grouped = GroupAttributor(GradDot()).fit(MODELS["classifier"][0], X, Y, groups=Y)
    assert isinstance(grouped, BaseAttributor)
    scores = grouped.score(X[:4], Y[:4])
    rows, values = grouped.top_k(X[:4], Y[:4], k=2)
    np.testing.assert_array_equal(rows, np.argsort(-scores, axis=1)[:, :2])
    np.testing.assert_allclose(values, -np.sort(-scores, axis=1)[:, :2])
    with pytest.raises(ValueError, match="n_groups=3"):
        grouped.top_k(X[:4], Y[:4], k=4)


@pytest.mark.parametrize("curvature", ["points", "groups"])
def test_set_damping_is_a_fresh_fit(curvature):
    model = MODELS["classifier"][0]
    inside = InfluenceFunction("fisher", 0.1)
    grouped = GroupAttributor(inside, curvature=curvature).fit(model, X, Y, groups=Y)
    before = grouped.score(X[:3], Y[:3])
    changed = grouped.set_damping(1.0)
    assert changed.damping_ == 1.0
    fresh = GroupAttributor(InfluenceFunction("fisher", 1.0), curvature=curvature)
    expected = fresh.fit(model, X, Y, groups=Y).score(X[:3], Y[:3])
    np.testing.assert_allclose(changed.score(X[:3], Y[:3]), expected, rtol=1e-9)
    np.testing.assert_allclose(grouped.set_damping(0.1).score(X[:3], Y[:3]), before, rtol=1e-9)
