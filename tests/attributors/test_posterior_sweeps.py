"""Sweeps along trainings on subsets, trainings until it is enough, and paired differences."""

import numpy as np
import pytest
from scipy.stats import spearmanr, trim_mean
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from influencekit import GradDot, InfluenceFunction, SGDInfluence, SubsetPosterior, as_task
from influencekit.attributors.posterior import _sweeps
from influencekit.attributors.posterior._sweeps import Sweeps
from influencekit.data import make_examples
from influencekit.training import retrain_on_subsets
from influencekit.training.subsets import _engines
from tests.training._training_nets import Logits, make_data, make_net

X, Y = make_data()


def unit(scores):
    return scores / np.linalg.norm(scores, axis=1, keepdims=True)


@pytest.mark.parametrize("n_trainings", [7, 60])
def test_half_of_the_weight_is_on_trainings_with_the_row(n_trainings):
    rng = np.random.RandomState(0)
    masks = rng.rand(n_trainings, 6) < 0.5
    masks[:, 0], masks[:, 1] = True, False
    scores, lengths = rng.randn(n_trainings, 3, 6), rng.rand(n_trainings, 3)
    prior = rng.randn(3, 6)
    average = np.mean if n_trainings < 50 else lambda a, axis: trim_mean(a, 0.2, axis)
    expected = np.zeros((3, 6))
    for row in range(6):
        halves = [scores[masks[:, row], :, row], scores[~masks[:, row], :, row]]
        expected[:, row] = np.mean([average(h, axis=0) for h in halves if len(h)], axis=0)
    sweeps = Sweeps(masks, scores, lengths)
    np.testing.assert_allclose(sweeps.mean(), expected)
    np.testing.assert_allclose(sweeps.with_prior(None), expected * lengths.mean(0)[:, None])
    mixed = unit(n_trainings * expected + 5 * unit(prior))
    found = sweeps.with_prior(prior)
    np.testing.assert_allclose(found, mixed * np.linalg.norm(prior, axis=1)[:, None])


@pytest.fixture(scope="module")
def halves():
    net = make_net(Logits, lr=0.2, train_split=None).fit(X, Y)
    options = {"n_subsets": 5, "random_state": 0, "output": "margin", "record": "trajectory"}
    return net, retrain_on_subsets(net, X, Y, X[:5], Y[:5], **options)


def test_sweeps_are_derivatives_along_each_training(halves, monkeypatch):
    net, runs = halves
    task = as_task(net)
    examples = make_examples(task, X, Y), make_examples(task, X[:5], Y[:5])
    monkeypatch.setattr(_sweeps, "STRIDE", 1)
    sweeps = _sweeps.sweep_runs(net, runs, *examples, "margin", 0)
    for s in (0, 3):
        one = SGDInfluence(runs.states[s][0], rows="all", output="margin")
        scores = one.fit(runs.run(net, s), X, Y).score(X[:5], Y[:5])
        np.testing.assert_allclose(sweeps.scores[s], unit(scores), rtol=1e-9)
        np.testing.assert_allclose(sweeps.lengths[s], np.linalg.norm(scores, axis=1), rtol=1e-9)
    monkeypatch.setattr(_sweeps, "STRIDE", 3)
    fewer = _sweeps.sweep_runs(net, runs, *examples, "margin", 0)
    cosines = (fewer.scores * sweeps.scores).sum(-1)
    assert cosines.min() > 0.9 and cosines.max() < 1 - 1e-9


def test_a_posterior_learns_from_sweeps(halves):
    net, runs = halves
    given = {"X_query": X[:5], "y_query": Y[:5], "subset_outputs": runs}
    prior = InfluenceFunction(damping=0.1, output="margin")
    plain = SubsetPosterior(prior, random_state=0).fit(net, X, Y, **given)
    swept = SubsetPosterior(prior, scores="sweep", random_state=0).fit(net, X, Y, **given)
    alone = SubsetPosterior(None, scores="sweep", output="margin").fit(net, X, Y, **given)
    each = [one.score(X[:5], Y[:5]) for one in (plain, swept, alone)]
    assert not np.allclose(each[0], each[1]) and not np.allclose(each[1], each[2])
    # without recorded trajectories there is nothing to go along
    del given["subset_outputs"]
    for record in (None, "checkpoints"):
        others = retrain_on_subsets(
            net, X, Y, X[:5], Y[:5], n_subsets=3, random_state=0, record=record
        )
        with pytest.raises(ValueError, match="subset_outputs: scores='sweep'"):
            SubsetPosterior(prior, scores="sweep").fit(net, X, Y, **given, subset_outputs=others)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))
    X, y = X[order], y[order]
    return LogisticRegression(max_iter=500).fit(X[:40], y[:40]), X[:40], y[:40], X[40:48], y[40:48]


@pytest.mark.parametrize(
    ("target", "n_trainings"),
    [
        ({"target_lds": 0.0}, 20),
        ({"target_std_error": 1e-6, "max_trainings": 50}, 50),
        ({"target_lds": 1.0, "target_std_error": None, "max_trainings": 30}, 30),
    ],
)
def test_trains_until_it_is_enough(iris, target, n_trainings, tmp_path, monkeypatch):
    model, X, y, Q, q = iris
    posterior = SubsetPosterior(
        InfluenceFunction(), n_trainings="auto", random_state=0, cache_dir=tmp_path, **target
    ).fit(model, X, y, X_query=Q, y_query=q)
    masks = posterior.subset_outputs_.masks
    assert len(masks) == n_trainings and len(np.unique(masks, axis=0)) == n_trainings
    # what was trained is found again
    monkeypatch.setattr(_engines, "run_jobs", lambda *nothing: iter(()))
    again = SubsetPosterior(**posterior.get_params(deep=False))
    again.fit(model, X, y, X_query=Q, y_query=q)
    np.testing.assert_array_equal(again.score(Q, q), posterior.score(Q, q))


def test_a_paired_difference_says_who_is_ahead(iris):
    model, X, y, Q, q = iris
    given = {"X_query": Q, "y_query": q}
    good = SubsetPosterior(InfluenceFunction(), n_trainings=30, random_state=0)
    good.fit(model, X, y, **given)
    given["subset_outputs"] = good.subset_outputs_
    bad = SubsetPosterior(None, random_state=1).fit(model, X, y, **given)
    difference, error = good.lds_difference(bad)
    expected = good.cross_validated_lds_ - bad.cross_validated_lds_
    np.testing.assert_allclose(difference, expected)
    assert difference > 2 * error > 0
    np.testing.assert_allclose(bad.lds_difference(good), (-difference, error), rtol=1e-9)
    assert good.lds_difference(good) == (0.0, 0.0)
    # scores of another attributor, against the same outputs
    scores = GradDot().fit(model, X, y).score(Q, q)
    sums, outputs = good.subset_outputs_.masks @ scores.T, good.subset_outputs_.outputs[:, 0]
    own = np.mean([spearmanr(sums[:, i], outputs[:, i])[0] for i in range(len(Q))])
    found = good.lds_difference(scores)[0]
    np.testing.assert_allclose(found, good.cross_validated_lds_ - own)


def test_differences_need_the_same_trainings(iris):
    model, X, y, Q, q = iris
    given = {"X_query": Q, "y_query": q}
    one, other = (
        SubsetPosterior(InfluenceFunction(), random_state=s).fit(model, X, y, **given)
        for s in range(2)
    )
    with pytest.raises(ValueError, match="other: this SubsetPosterior did not learn"):
        one.lds_difference(other)
    with pytest.raises(ValueError, match="other: got scores of shape"):
        one.lds_difference(np.zeros((2, 40)))
    few = SubsetPosterior(InfluenceFunction(), n_trainings=5, random_state=0)
    with pytest.raises(ValueError, match="n_trainings: an LDS needs 20"):
        few.fit(model, X, y, **given).lds_difference(one)
