"""Baselines: the training loss, and random scores."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import Dataset

from influencekit import LossBaseline, RandomBaseline, as_task


def data(rng, n=40):
    X = rng.normal(size=(n, 3))
    return X, (X[:, 0] + 0.5 * rng.normal(size=n) > 0).astype(int)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_loss_is_the_negative_log_likelihood_by_hand(rng, class_weight):
    X, y = data(rng)
    y[:30] = 0
    model = LogisticRegression(class_weight=class_weight).fit(X, y)
    loss = -np.log(model.predict_proba(X)[np.arange(len(y)), y])
    weights = np.ones(len(y))
    if class_weight == "balanced":
        weights = len(y) / (2 * np.bincount(y))[y]
    expected = -loss * weights / weights.mean()
    fitted = LossBaseline().fit(model, X, y)
    scores = fitted.score(X[:4], y[:4])
    np.testing.assert_allclose(scores, np.tile(expected, (4, 1)), rtol=1e-6)
    np.testing.assert_allclose(fitted.self_influence(), expected, rtol=1e-6)


def test_a_wrong_label_is_the_first_opponent(rng):
    X, y = data(rng)
    model = LogisticRegression().fit(X, y)
    worst = int(np.argmax(X[:, 0]))
    y[worst] = 0
    opponents, _ = LossBaseline().fit(model, X, y).top_k(X[:1], y[:1], k=1, opponents=True)
    assert opponents[0, 0] == worst


def random_scores(rng, n=150, m=60, **options):
    X, y = data(rng, n)
    model = LogisticRegression().fit(X, y)
    Xq, yq = data(np.random.default_rng(9), m)
    return RandomBaseline(**options).fit(model, X, y), Xq, yq


def test_random_scores_are_standard_normal_and_uncorrelated(rng):
    fitted, Xq, yq = random_scores(rng, random_state=0)
    scores = fitted.score(Xq, yq)
    assert stats.kstest(scores.ravel(), "norm").pvalue > 1e-3
    for matrix in (scores, scores.T):
        correlations = np.corrcoef(matrix)[np.triu_indices(len(matrix), 1)]
        size = matrix.shape[1]
        assert np.abs(correlations).max() < 5.5 / np.sqrt(size)
        np.testing.assert_allclose(correlations.std(), 1 / np.sqrt(size), rtol=0.1)
    assert len(np.unique(scores)) == scores.size


def test_random_scores_follow_the_seed_and_nothing_else(rng):
    first, Xq, yq = random_scores(np.random.default_rng(0), random_state=0)
    again, _, _ = random_scores(np.random.default_rng(0), random_state=0)
    other, _, _ = random_scores(np.random.default_rng(0), random_state=1)
    expected = first.score(Xq, yq)
    np.testing.assert_array_equal(again.score(Xq[::-1], yq[::-1])[::-1], expected)
    np.testing.assert_array_equal(first.score(Xq[7:9], yq[7:9]), expected[7:9])
    assert abs(np.corrcoef(other.score(Xq, yq).ravel(), expected.ravel())[0, 1]) < 0.05
    unseeded, _, _ = random_scores(np.random.default_rng(0))
    assert not np.allclose(unseeded.score(Xq, yq), expected)


def test_the_label_is_part_of_an_example(rng):
    fitted, Xq, yq = random_scores(rng, random_state=0)
    assert (fitted.score(Xq, 1 - yq) != fitted.score(Xq, yq)).all()
    assert np.isfinite(fitted.score(Xq)).all()


class Sentences(Dataset):
    """Sequences of different lengths, each with its own mask, in a dict."""

    def __init__(self, lengths):
        self.lengths = lengths

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, i):
        tokens = torch.arange(6) * (torch.arange(6) < self.lengths[i])
        return {"tokens": tokens, "labels": torch.tensor(self.lengths[i] % 2)}


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 2)

    def forward(self, tokens):
        return self.embed(tokens).sum(1)


def test_dicts_of_inputs_have_random_scores():
    task = as_task(Bag(), loss=nn.CrossEntropyLoss())
    fitted = RandomBaseline(random_state=0).fit(task, Sentences([1, 2, 3, 4, 5, 6]))
    scores = fitted.score(Sentences([4, 5]))
    assert len(np.unique(scores)) == 12
    np.testing.assert_array_equal(fitted.score(Sentences([5])), scores[1:])


def test_self_influence_is_the_score_of_an_example_on_itself(rng):
    X, y = data(rng)
    fitted = RandomBaseline(random_state=0).fit(LogisticRegression().fit(X, y), X, y)
    np.testing.assert_array_equal(fitted.self_influence(), np.diag(fitted.score(X, y)))
