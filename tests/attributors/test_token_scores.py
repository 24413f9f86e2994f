"""Scores of single tokens of the test texts: right one by one, and summing to the text's score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from influencekit import TRAK, GradCos, GradDot, InfluenceFunction, as_task
from influencekit.exceptions import UnsupportedModelError
from influencekit.groups import GroupAttributor
from influencekit.models import SequenceCrossEntropy

V, T, N, Q = 9, 5, 12, 3


class Model(nn.Module):
    """Next tokens from the sum of the tokens before."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.head = nn.Embedding(V, 4), nn.Linear(4, V)

    def forward(self, ids):
        return self.head(torch.tanh(self.tokens(ids).cumsum(1)))


IDS = torch.tensor(np.random.default_rng(0).integers(0, V, (N + Q, T)))
LABELS = IDS.clone()
LABELS[torch.tensor([1, 4, N, N + 1]), torch.tensor([2, 3, 4, 1])] = -100
X, Y, X_QUERY, Y_QUERY = IDS[:N], LABELS[:N], IDS[N:], LABELS[N:]


def task_of(reduction="tokens", shift=True):
    net = Model().double()
    return as_task(net, loss=SequenceCrossEntropy(reduction, shift=shift)), net


def rows_by_autograd(net, ids, labels):
    """Gradient of the log probability of each token of one text that has a label, by place."""
    logits, found = net(ids[None])[0], {}
    for t in range(1, T):
        if labels[t] != -100:
            loss = F.cross_entropy(logits[t - 1], labels[t])
            grads = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
            found[t] = torch.cat([g.flatten() for g in grads])
    return found


@pytest.mark.parametrize("reduction", ["tokens", "mean", "sum"])
def test_each_token_by_autograd(reduction):
    task, net = task_of(reduction)
    attributor = GradDot().fit(task, X, Y)
    got = attributor.score(X_QUERY, Y_QUERY, by="token")
    tokens = [rows_by_autograd(net, x, y) for x, y in zip(X, Y, strict=True)]
    counts = np.array([len(some) for some in tokens], dtype=float)
    rows = torch.stack([sum(some.values()) for some in tokens]).numpy()
    weights = {"tokens": 1 / counts.mean(), "mean": 1 / counts, "sum": 1.0}[reduction]
    rows = rows * np.broadcast_to(weights, N)[:, None]
    want = np.zeros((Q, N, T))
    for i in range(Q):
        own = rows_by_autograd(net, X_QUERY[i], Y_QUERY[i])
        for t, row in own.items():
            want[i, :, t] = rows @ row.numpy() / (1 if reduction == "sum" else len(own))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * abs(want).max())
    np.testing.assert_allclose(got.sum(2), attributor.score(X_QUERY, Y_QUERY), rtol=1e-9)
    assert (got[:, :, 0] == 0).all()  # nothing predicts the first token


@pytest.mark.parametrize(
    "attributor",
    [InfluenceFunction("ekfac", damping=0.1), TRAK(0.1, projection_dim=16, random_state=0)],
)
@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
def test_tokens_sum_to_the_text(attributor):
    task, _ = task_of()
    attributor.fit(task, X, Y)
    tokens = attributor.score(X_QUERY, Y_QUERY, by="token")
    whole = attributor.score(X_QUERY, Y_QUERY)
    np.testing.assert_allclose(tokens.sum(2), whole, rtol=1e-6, atol=1e-6 * abs(whole).max())


def test_without_labels_the_tokens_are_the_models_own():
    task, net = task_of(shift=False)
    attributor = GradDot().fit(task, X, Y)
    tokens = attributor.score(X_QUERY, by="token")
    own = net(X_QUERY).argmax(-1)
    np.testing.assert_allclose(tokens, attributor.score(X_QUERY, own, by="token"))
    assert tokens.shape == (Q, N, T) and (tokens != 0).all()


def test_several_models_and_groups():
    tasks = [task_of()[0], task_of("mean")[0]]
    several = GradDot().fit(tasks, X, Y).score(X_QUERY, Y_QUERY, by="token")
    each = [GradDot().fit(t, X, Y).score(X_QUERY, Y_QUERY, by="token") for t in tasks]
    np.testing.assert_allclose(several, sum(each) / 2)
    groups = np.arange(N) % 2
    grouped = GroupAttributor(GradDot()).fit(tasks[0], X, Y, groups=groups)
    got = grouped.score(X_QUERY, Y_QUERY, by="token")
    np.testing.assert_allclose(got[:, 1], each[0][:, groups == 1].sum(1))


def test_what_has_no_tokens_is_refused():
    task, _ = task_of()
    with pytest.raises(ValueError, match="GradCos are not sums over the tokens"):
        GradCos().fit(task, X, Y).score(X_QUERY, Y_QUERY, by="token")
    with pytest.raises(ValueError, match="by: got 'tokens'"):
        GradDot().fit(task, X, Y).score(X_QUERY, Y_QUERY, by="tokens")
    whole = GroupAttributor(GradDot(), property="mean_neg_loss").fit(
        task, X, Y, groups=np.arange(N) % 2
    )
    with pytest.raises(ValueError, match="have no tokens"):
        whole.score(X_QUERY, Y_QUERY, by="token")
    plain = as_task(nn.Linear(2, 3), loss=nn.CrossEntropyLoss())
    data = torch.randn(4, 2), torch.arange(4) % 3
    with pytest.raises(UnsupportedModelError, match="not a sum over tokens"):
        GradDot().fit(plain, *data).score(*data, by="token")
