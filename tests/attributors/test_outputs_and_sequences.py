"""Explained outputs of several regression targets, of chosen classes, and of sequences."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn

from influencekit import (
    FurtherTraining,
    GradCos,
    GradDot,
    InfluenceFunction,
    TracIn,
    as_task,
)
from influencekit.curvature import CURVATURES
from influencekit.models import SequenceCrossEntropy
from tests._shared.marks import NOT_TRAINED
from tests._shared.nets import tanh_net

D, N, M = 4, 14, 3
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(N, D)), RNG.normal(size=(N, 2))
X_TEST, Y_TEST = RNG.normal(size=(M, D)), RNG.normal(size=(M, 2))


def net(d_out=2):
    torch.manual_seed(0)
    return tanh_net(D, 5, d_out)


def gradients(module, function, X, targets):
    """Gradients (n, p) of ``function(outputs (1, ...), targets (1, ...))`` by torch.func."""
    values = {k: p.detach() for k, p in module.named_parameters()}

    def one(values, x, t):
        return function(torch.func.functional_call(module, values, (x[None],)), t[None]).sum()

    rows = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0))(
        values, torch.as_tensor(X), torch.as_tensor(targets)
    )
    return torch.cat([g.flatten(1) for g in rows.values()], dim=1)


def close(found, expected):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10 * abs(expected).max())


def squared_error(outputs, targets):
    return (outputs - targets).square().mean(1)


#: explained output by name, and the function of its own that a reader would write
REGRESSION_OUTPUTS = {
    "neg_loss": ("neg_loss", lambda z, t: -squared_error(z, t)),
    "auto": ("auto", lambda z, t: -squared_error(z, t)),
    "first target": (lambda z, t: z[:, 0], lambda z, t: z[:, 0]),
    "difference": (
        lambda z, t: (z[:, 1] - z[:, 0]).tanh(),
        lambda z, t: (z[:, 1] - z[:, 0]).tanh(),
    ),
    "error of one": (lambda z, t: -(z - t)[:, 1].abs(), lambda z, t: -(z - t)[:, 1].abs()),
}


@pytest.mark.parametrize("name", REGRESSION_OUTPUTS)
@NOT_TRAINED
def test_nets_with_several_targets(name):
    output, function = REGRESSION_OUTPUTS[name]
    module = net()
    task = as_task(module, loss=nn.MSELoss())
    train = gradients(module, squared_error, X, Y)
    test = gradients(module, function, X_TEST, Y_TEST)
    scores = GradDot(output=output).fit(task, X, Y).score(X_TEST, Y_TEST)
    close(scores, -test @ train.T)
    scores = GradCos(output=output).fit(task, X, Y).score(X_TEST, Y_TEST)
    close(scores, -nn.functional.cosine_similarity(test[:, None], train[None], dim=2))
    attributor = InfluenceFunction(damping=0.1, output=output).fit(task, X, Y)
    close(attributor.score(X_TEST, Y_TEST), dense_influence(module, test, train))


def dense_influence(module, test, train, damping=0.1):
    """``-<∇f, (GGN + λI)⁻¹ ∇loss> / n`` with the mean over two targets of the squared error."""
    jacobians = torch.stack(
        [gradients(module, lambda z, t, k=k: z[:, k], X, Y) for k in range(2)], dim=1
    )
    # the loss is the mean over 2 targets of (z - t)²: its output Hessian is the identity
    ggn = torch.einsum("nkp,nkq->pq", jacobians, jacobians) / N
    inverse = torch.linalg.inv(ggn + damping * torch.eye(len(ggn), dtype=torch.float64))
    return -test @ inverse @ train.T / N


def test_ridge_with_several_targets_is_leave_one_out():
    model = Ridge(alpha=0.5).fit(X, Y)
    attributor = InfluenceFunction(damping=0.0, output=lambda z, t: z[:, 1]).fit(model, X, Y)
    scores = attributor.score(X_TEST, Y_TEST)
    design = np.column_stack([X, np.ones(N)])
    inverse = np.linalg.inv(design.T @ design + 0.5 * np.diag([1.0] * D + [0.0]))
    hat = np.einsum("ni,ij,nj->n", design, inverse, design)
    exact = np.empty((M, N))
    for j in range(N):
        rest = np.arange(N) != j
        without = Ridge(alpha=0.5).fit(X[rest], Y[rest])
        exact[:, j] = model.predict(X_TEST)[:, 1] - without.predict(X_TEST)[:, 1]
    close(scores / (1 - hat), exact)
    # the other target's error plays no part in it
    other = np.column_stack([RNG.normal(size=N), Y[:, 1]])
    again = InfluenceFunction(damping=0.0, output=lambda z, t: z[:, 1])
    close(again.fit(Ridge(alpha=0.5).fit(X, other), X, other).score(X_TEST), scores)


def test_prediction_needs_one_target():
    with pytest.raises(ValueError, match=r"outputs\[:, 0\]"):
        GradDot(output="prediction").fit(Ridge().fit(X, Y), X, Y).score(X_TEST)


CLASS_CONDITIONAL = {
    "GradDot": GradDot,
    "GradCos": GradCos,
    "TracIn": TracIn,
    "FurtherTraining": partial(FurtherTraining, lr=0.1, n_repeats=1, left_out=3, random_state=0),
    **{c: partial(InfluenceFunction, c, 0.1, random_state=0) for c in CURVATURES},
}


@pytest.mark.parametrize("name", CLASS_CONDITIONAL)
def test_the_logit_of_a_chosen_class(name):
    make = CLASS_CONDITIONAL[name]
    labels = np.array(["a", "b", "c"])[np.arange(N) % 3]
    model = LogisticRegression().fit(X, labels)
    by_name = make(output="logit").fit(model, X, labels)
    for position, label in enumerate(model.classes_):
        chosen = by_name.score(X_TEST, np.full(M, label))
        own = make(output=lambda z, t, k=position: z[:, k]).fit(model, X, labels)
        close(chosen, own.score(X_TEST))
    assert abs(by_name.score(X_TEST, ["a"] * M) - by_name.score(X_TEST, ["b"] * M)).max() > 1e-3
    predicted = by_name.score(X_TEST, model.predict(X_TEST))
    close(by_name.score(X_TEST), predicted)


# -- sequences ----------------------------------------------------------------------------------

V, T = 5, 6


class TinyLanguageModel(nn.Module):
    """Causal: the outputs at a token depend on it and on those before."""

    def __init__(self, tied):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(V, 4)
        self.mix = nn.Linear(4, 4)
        self.norm = nn.RMSNorm(4)
        self.head = nn.Linear(4, V, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, x):
        x = self.norm(self.mix(self.embedding(x)).tanh().cumsum(1))
        return self.head(x)


def sequences(n, seed):
    rng = np.random.default_rng(seed)
    tokens, targets = rng.integers(0, V, (n, T)), rng.integers(0, V, (n, T))
    targets[np.arange(T) >= rng.integers(1, T + 1, size=(n, 1))] = -100
    return tokens, targets


def token_loss(outputs, targets):
    """Mean cross-entropy over an example's own tokens."""
    log_p = torch.log_softmax(outputs, -1)
    used = (targets != -100).to(outputs.dtype)
    given = log_p.gather(2, targets.clamp_min(0)[:, :, None])[:, :, 0]
    return -(given * used).sum(1) / used.sum(1)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("reduction", ["tokens", "mean", "sum"])
@NOT_TRAINED
def test_scores_of_sequences(tied, reduction):
    module = TinyLanguageModel(tied).double()
    task = as_task(module, loss=SequenceCrossEntropy(reduction))
    (tokens, targets), (tokens_test, targets_test) = sequences(N, 1), sequences(M, 2)
    train = gradients(module, token_loss, tokens, targets)
    test = -gradients(module, token_loss, tokens_test, targets_test)
    count, count_test = (
        (torch.as_tensor(t) != -100).sum(1).double() for t in (targets, targets_test)
    )
    weights = torch.ones(N, dtype=torch.float64)
    if reduction == "tokens":
        weights = count / count.mean()
    if reduction == "sum":
        train, test = train * count[:, None], test * count_test[:, None]

    scores = GradDot().fit(task, tokens, targets).score(tokens_test, targets_test)
    close(scores, -test @ train.T * weights)
    scores = GradCos().fit(task, tokens, targets).score(tokens_test, targets_test)
    close(scores, -nn.functional.cosine_similarity(test[:, None], train[None], dim=2))
    curvatures = {
        "fisher": torch.einsum("np,n,nq->pq", train, weights / N, train),
        "ggn": token_ggn(module, tokens, targets, reduction),
    }
    for name, matrix in curvatures.items():
        attributor = InfluenceFunction(name, damping=0.1).fit(task, tokens, targets)
        inverse = torch.linalg.inv(matrix + 0.1 * torch.eye(len(matrix), dtype=torch.float64))
        expected = -test @ inverse @ train.T * weights / N
        close(attributor.score(tokens_test, targets_test), expected)


def token_ggn(module, tokens, targets, reduction):
    """Sum over tokens of ``Jᵀ (diag p - p pᵀ) J`` with each token's weight in the objective."""
    values = {k: p.detach() for k, p in module.named_parameters()}
    total = 0.0
    used = torch.as_tensor(targets) != -100
    for i in range(N):
        x = torch.as_tensor(tokens[i : i + 1])

        def forward(values, x=x):
            return torch.func.functional_call(module, values, (x,))[0]

        jacobian = torch.func.jacrev(forward)(values)
        jacobian = torch.cat([j.flatten(2) for j in jacobian.values()], dim=2)
        p = torch.softmax(forward(values), -1)
        shares = {"tokens": int(used.sum()), "mean": N * int(used[i].sum()), "sum": N}
        share = 1 / shares[reduction]
        for t in range(T):
            if used[i, t]:
                hessian = torch.diag(p[t]) - torch.outer(p[t], p[t])
                total = total + share * jacobian[t].T @ hessian @ jacobian[t]
    return total


def test_margin_and_logit_of_sequences():
    module = TinyLanguageModel(True).double()
    task = as_task(module, loss=SequenceCrossEntropy())
    (tokens, targets), (tokens_test, targets_test) = sequences(N, 1), sequences(M, 2)
    train = gradients(module, token_loss, tokens, targets)
    count = torch.as_tensor(targets != -100).sum(1).double()

    def mean_logit(z, t):
        used = (t != -100).to(z.dtype)
        return (z.gather(2, t.clamp_min(0)[:, :, None])[:, :, 0] * used).sum(1) / used.sum(1)

    def mean_margin(z, t):
        p = torch.softmax(z, -1)
        return mean_logit(torch.log(p / (1 - p)), t)

    for output, function in (("logit", mean_logit), ("margin", mean_margin)):
        test = gradients(module, function, tokens_test, targets_test)
        scores = GradDot(output=output).fit(task, tokens, targets).score(tokens_test, targets_test)
        close(scores, -test @ train.T * count / count.mean())


def test_masked_tokens_change_nothing():
    module = TinyLanguageModel(False).double()
    task = as_task(module, loss=SequenceCrossEntropy())
    tokens, targets = sequences(N, 1)
    expected = GradDot().fit(task, tokens, targets).score(tokens, targets)
    wide = np.pad(tokens, ((0, 0), (0, 3))), np.pad(targets, ((0, 0), (0, 3)), constant_values=-100)
    close(GradDot().fit(task, *wide).score(*wide), expected)
    # causal: what stands where nothing is scored any more is not looked at
    other = np.where(np.flip(np.flip(targets, 1) != -100, 1), tokens, 0)
    close(GradDot().fit(task, other, targets).score(other, targets), expected)


def test_wrong_labels_of_sequences_are_told():
    task = as_task(TinyLanguageModel(False).double(), loss=SequenceCrossEntropy())
    tokens, targets = sequences(N, 1)
    for bad, message in (
        (np.where(targets == -100, V, targets), f"got the label {V}"),
        (targets[:, :-1], r"shape \(14, 5\)"),
        (targets[:, 0], r"shape \(14,\)"),
        (targets.astype(float), "float"),
        (np.full_like(targets, -100), "no token is in the loss"),
    ):
        with pytest.raises(ValueError, match=message):
            GradDot().fit(task, tokens, bad)
    flat = as_task(nn.Linear(D, 3).double(), loss=SequenceCrossEntropy())
    with pytest.raises(ValueError, match="every token"):
        GradDot().fit(flat, X, np.zeros((N, 1), dtype=int))
