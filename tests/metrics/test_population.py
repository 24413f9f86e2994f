"""Population Pearson LDS: closed form, enumeration, sampling."""

from itertools import combinations

import numpy as np
import pytest

from influencekit.metrics import UndefinedCorrelationWarning, linear_datamodeling_score
from influencekit.metrics._population import (
    PopulationMoments,
    enumerate_subsets,
    population_moments,
    population_pearson_lds,
    population_pearson_lds_by_enumeration,
)


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    masks = enumerate_subsets(10, 4)
    weights, pairs = rng.normal(size=(5, 10)), rng.normal(size=(5, 10, 10))
    members = masks.astype(float)
    outputs = members @ weights.T + np.einsum("si,qij,sj->sq", members, pairs, members) + 3.0
    return outputs, masks, rng.normal(size=(5, 10)) + weights


def test_enumeration_is_complete():
    masks = enumerate_subsets(6, 2)
    members = {tuple(np.flatnonzero(mask)) for mask in masks}
    assert members == set(combinations(range(6), 2)) and masks.shape == (15, 6)


@pytest.mark.parametrize("subset_size", [1, 3, 4, 9])
def test_closed_form_equals_enumeration(subset_size):
    rng = np.random.default_rng(subset_size)
    masks = enumerate_subsets(10, subset_size)
    outputs = rng.normal(size=(len(masks), 7)) + 5
    scores = rng.normal(size=(7, 10)) - 2  # a constant shift of the scores must not matter
    by_enumeration = population_pearson_lds_by_enumeration(outputs, masks, scores)
    closed = population_pearson_lds(scores, population_moments(outputs, masks))
    np.testing.assert_allclose(closed.per_query, by_enumeration.per_query, rtol=0, atol=1e-12)
    sums = scores @ masks.T
    expected = [np.corrcoef(outputs[:, i], sums[i])[0, 1] for i in range(7)]
    np.testing.assert_allclose(closed.per_query, expected, rtol=0, atol=1e-12)


def test_sampled_pearson_converges_to_it(problem):
    outputs, masks, scores = problem
    exact = population_pearson_lds(scores, population_moments(outputs, masks)).per_query
    rng = np.random.default_rng(1)
    errors = []
    for n_subsets in (200, 20_000):
        picked = rng.integers(len(masks), size=n_subsets)
        sampled = linear_datamodeling_score(
            outputs[picked], masks[picked], scores, correlation="pearson"
        )
        errors.append(np.abs(sampled.per_query - exact).max())
    assert errors[1] < 0.02 and errors[1] < errors[0]


def test_q_is_minus_the_covariance_and_sums_to_zero(problem):
    outputs, masks, _ = problem
    moments = population_moments(outputs, masks)
    for query in range(5):
        joint = np.cov(outputs[:, query], masks.T.astype(float), bias=True)
        np.testing.assert_allclose(moments.q[query], -joint[0, 1:], atol=1e-12)
        assert moments.output_variance[query] == pytest.approx(joint[0, 0])
    np.testing.assert_allclose(moments.q.sum(axis=1), 0, atol=1e-12)
    assert moments.subset_size == 4


def test_best_scores_are_minus_q(problem):
    outputs, masks, scores = problem
    moments = population_moments(outputs, masks)
    best = population_pearson_lds(-moments.q, moments).per_query
    others = np.random.default_rng(2).normal(size=(200, 5, 10))
    for other in others:
        assert (population_pearson_lds(other, moments).per_query <= best + 1e-12).all()
    linear = masks @ scores.T  # an output linear in membership is predicted exactly
    exact = population_pearson_lds(scores, population_moments(linear, masks))
    np.testing.assert_allclose(exact.per_query, 1.0, atol=1e-12)


def test_undefined_queries(problem):
    outputs, masks, scores = problem
    outputs[:, 0], scores[3] = 0.1, 0.7
    with pytest.warns(UndefinedCorrelationWarning, match="2 of 5"):
        closed = population_pearson_lds(scores, population_moments(outputs, masks))
    with pytest.warns(UndefinedCorrelationWarning, match="2 of 5"):
        slow = population_pearson_lds_by_enumeration(outputs, masks, scores)
    np.testing.assert_allclose(closed.per_query, slow.per_query, atol=1e-12)
    assert np.isnan(closed.per_query).tolist() == [True, False, False, True, False]


def test_errors(problem):
    outputs, masks, scores = problem
    with pytest.raises(ValueError, match="`subset_size` must be from 1 to"):
        enumerate_subsets(5, 5)
    with pytest.raises(ValueError, match=r"40 choose 20 = 137,846,528,820 .*`max_subsets`"):
        enumerate_subsets(40, 20)
    twice = np.concatenate([masks[:-1], masks[:1]])
    mixed = np.concatenate([masks[:-1], ~masks[:1]])
    for wrong in (twice, mixed, np.ones_like(masks)):
        with pytest.raises(ValueError, match="`masks` must be all subsets of one size"):
            population_moments(outputs, wrong)
    with pytest.raises(ValueError, match="`masks` must be all subsets of one size"):
        population_moments(outputs[1:], masks[1:])
    with pytest.raises(ValueError, match="`scores` must have shape"):
        population_pearson_lds(scores.T, population_moments(outputs, masks))
    with pytest.raises(ValueError, match=r"`moments.output_variance`"):
        population_pearson_lds(scores, PopulationMoments(np.ones((5, 10)), np.ones(4), 4))
