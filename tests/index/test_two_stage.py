"""Candidates of an index, ordered by a dearer method."""

import numpy as np
import pytest

from influencekit import (
    AdamWInfluence,
    AttributionIndex,
    GradDot,
    GroupAttributor,
    InfluenceFunction,
)
from influencekit.attributors.along_the_run._fitted_trajectory import FittedTrajectory
from influencekit.curvature import ConjugateGradient
from influencekit.index import TwoStage
from influencekit.index import _two_stage as stages
from tests.index._models import X, X_query, net, y, y_query
from tests.training.trajectory.test_adjoint import data, make_run, recorded

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
QUERIES = X_query, y_query


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    attributor = InfluenceFunction(projection_dim=6, random_state=0)
    folder = tmp_path_factory.mktemp("two") / "i"
    return AttributionIndex(attributor, folder, shard_rows=40).fit(net(), X, y)


@pytest.mark.parametrize("opponents", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "rescore", [InfluenceFunction(ConjugateGradient(rtol=1e-9), damping=0.1), GradDot()]
)
def test_candidates_are_ordered_by_the_second_stage(rescore, opponents, index):
    both = TwoStage(index, rescore, n_candidates=20).fit(net(), X, y)
    rows, scores = both.top_k(*QUERIES, k=5, opponents=opponents)
    exact = rescore.fit(net(), X, y).score(*QUERIES)
    candidates = index.top_k(*QUERIES, k=20, opponents=opponents)[0]
    sign = 1 if opponents else -1
    for i in range(len(X_query)):
        own = candidates[i][np.argsort(sign * exact[i, candidates[i]])[:5]]
        np.testing.assert_array_equal(rows[i], own)
    np.testing.assert_allclose(scores, np.take_along_axis(exact, rows, 1), rtol=1e-6)


def test_products_are_taken_with_the_candidates_only(index, monkeypatch):
    both = TwoStage(index, InfluenceFunction("cg", damping=0.1), n_candidates=4).fit(net(), X, y)
    seen, solution = [], stages.ConjugateGradientCurvature.solution
    monkeypatch.setattr(
        stages.ConjugateGradientCurvature,
        "solution",
        lambda self, *rest: (seen.append(len(self.problem.train)), solution(self, *rest))[1],
    )
    both.top_k(X_query[:2], y_query[:2], k=2)
    assert len(seen) == 1
    assert seen[0] <= 8


def test_all_rows_as_candidates_miss_nothing(index):
    both = TwoStage(index, GradDot(), n_candidates=len(X)).fit(net(), X, y)
    assert both.recall_at_k(*QUERIES, k=10) == 1.0
    few = TwoStage(index, GradDot(), n_candidates=10).fit(net(), X, y)
    found, exact = few.top_k(*QUERIES, k=10)[0], GradDot().fit(net(), X, y).top_k(*QUERIES, k=10)[0]
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)]
    assert few.recall_at_k(*QUERIES, k=10) == np.mean(shares) < 1


@pytest.mark.parametrize("order", ["finite", "derivative"])
def test_adamw_replays_the_candidates(order, tmp_path, monkeypatch):
    run = make_run("adamw")
    _, task, trajectory = recorded(run)
    queries = data(1, 2)
    index = AttributionIndex(GradDot(), tmp_path / "i").fit(task, run.X, run.y)
    rescore = AdamWInfluence(trajectory, removal_order=order)
    both = TwoStage(index, rescore, n_candidates=5).fit(task, run.X, run.y)
    exact = both.rescore_.score(*queries)
    pushed, replayed = FittedTrajectory._pushed, []
    monkeypatch.setattr(
        FittedTrajectory,
        "_pushed",
        lambda self, *rest: (replayed.append(len(rest[-1])), pushed(self, *rest))[1],
    )
    rows, scores = both.top_k(*queries, k=3)
    candidates = index.top_k(*queries, k=5)[0]
    assert replayed == ([len(np.unique(candidates))] if order == "finite" else [])
    assert len(np.unique(candidates)) < len(run.X)
    for own, found, values, all_scores in zip(candidates, rows, scores, exact, strict=True):
        best = own[np.argsort(-all_scores[own])[:3]]
        np.testing.assert_array_equal(found, best)
        np.testing.assert_allclose(values, all_scores[best], rtol=1e-10)
    top = np.argsort(-exact, axis=1)[:, :3]
    shares = [len(np.intersect1d(a, b)) / 3 for a, b in zip(rows, top, strict=True)]
    assert both.recall_at_k(*queries, k=3) == pytest.approx(np.mean(shares))


def test_what_does_not_fit_together_is_refused(index):
    with pytest.raises(ValueError, match="rescore: got an attributor that scores groups"):
        TwoStage(index, GroupAttributor(GradDot())).fit(net(), X, y)
    with pytest.raises(ValueError, match="its index has 90 rows, and X has 50"):
        TwoStage(index, GradDot()).fit(net(), X[:50], y[:50])
    with pytest.raises(ValueError, match="k: got 30; accepted are integers from 1 to n_candidates"):
        TwoStage(index, GradDot(), n_candidates=20).fit(net(), X, y).top_k(*QUERIES, k=30)
