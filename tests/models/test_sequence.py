"""Cross-entropy of every token, against loops over tokens and automatic differentiation."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from influencekit.exceptions import ResourceError
from influencekit.models import CrossEntropy, SequenceCrossEntropy, Task, as_task, resolve_output
from influencekit.models._predict import predict

N, T, V = 4, 5, 3
OUTPUTS = torch.randn(N, T, V, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([[0, 1, 2, 0, 1], [2, 1, -100, 0, 2], [1, 1, 0, -100, -100], [-100] * 5])
CASES = [(r, s) for r in ("tokens", "mean", "sum") for s in (False, True)]


def tokens(i, shift):
    """(outputs, label) of every scored token of example i."""
    pairs = [(t, t + 1) for t in range(T - 1)] if shift else [(t, t) for t in range(T)]
    return [(OUTPUTS[i, a], int(TARGETS[i, b])) for a, b in pairs if TARGETS[i, b] != -100]


def collected(function, i, reduction, shift):
    values = [function(z, c) for z, c in tokens(i, shift)]
    if not values:
        return 0.0
    return float(sum(values)) / (1 if reduction == "sum" else len(values))


@pytest.mark.parametrize(("reduction", "shift"), CASES)
def test_outputs_are_those_of_a_loop_over_tokens(reduction, shift):
    loss = SequenceCrossEntropy(reduction, shift=shift)
    task = Task(nn.Linear(1, 1), loss)

    def margin(z, c):
        p = torch.softmax(z, 0)[c]
        return torch.log(p / (1 - p))

    functions = {
        "neg_loss": lambda z, c: torch.log_softmax(z, 0)[c],
        "margin": margin,
        "logit": lambda z, c: z[c],
    }
    for name, function in functions.items():
        found = resolve_output(task, name, True)(OUTPUTS, TARGETS)
        expected = [collected(function, i, reduction, shift) for i in range(N)]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    single = [loss(OUTPUTS[i : i + 1], TARGETS[i : i + 1]) for i in range(N)]
    torch.testing.assert_close(loss(OUTPUTS, TARGETS), torch.cat(single))
    mapped = torch.func.vmap(lambda z, t: loss(z[None], t[None])[0])(OUTPUTS, TARGETS)
    torch.testing.assert_close(loss(OUTPUTS, TARGETS), mapped)


@pytest.mark.parametrize("shift", [False, True])
def test_objective_of_every_reduction(shift):
    every = [(z, c) for i in range(N) for z, c in tokens(i, shift)]
    losses = torch.stack([F.cross_entropy(z, torch.tensor(c)) for z, c in every])
    whole = {r: Task(nn.Linear(1, 1), SequenceCrossEntropy(r, shift=shift)) for r, _ in CASES}

    def objective(task):
        weights = task.example_weights(TARGETS)
        own = task.loss(OUTPUTS, TARGETS)
        weights = torch.ones(N) if weights is None else weights
        return (weights * own).sum() / weights.sum()

    torch.testing.assert_close(objective(whole["tokens"]), losses.mean())
    torch.testing.assert_close(objective(whole["sum"]), losses.sum() / N)
    counts = [len(tokens(i, shift)) for i in range(N)]
    assert whole["tokens"].example_weights(TARGETS).tolist() == counts
    if not shift:  # torch's own criterion, which ignores -100
        expected = F.cross_entropy(OUTPUTS.flatten(0, 1), TARGETS.flatten())
        torch.testing.assert_close(objective(whole["tokens"]), expected)


@pytest.mark.parametrize(("reduction", "shift"), CASES)
def test_factor_and_coordinates(reduction, shift):
    loss = SequenceCrossEntropy(reduction, shift=shift)
    factor, coordinates = loss.hessian_factor(OUTPUTS, TARGETS)
    for i in range(N):

        def one(z, i=i):
            return loss(z.view(1, T, V), TARGETS[i : i + 1])[0]

        flat = OUTPUTS[i].flatten()
        hessian, gradient = torch.func.hessian(one)(flat), torch.func.grad(one)(flat)
        torch.testing.assert_close(factor[i] @ factor[i].T, hessian, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(factor[i] @ coordinates[i], gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", ["tokens", "sum"])
def test_sampled_gradients_have_the_hessian_as_second_moment(reduction):
    loss, n_samples = SequenceCrossEntropy(reduction, shift=True), 20_000
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.rand(N, n_samples, *shape, dtype=torch.float64, generator=generator)

    samples = loss.sampled_gradients(OUTPUTS, TARGETS, draw).flatten(2)
    factor = loss.hessian_factor(OUTPUTS, TARGETS).factor
    hessians = factor @ factor.mT
    moments = samples.mT @ samples / n_samples
    scale = float(hessians.abs().max())
    torch.testing.assert_close(moments, hessians, rtol=0, atol=0.03 * scale)
    assert float(samples[3].abs().max()) == 0  # no token has a loss
    assert float(samples[0, :, -V:].abs().max()) == 0  # the last output is for no label


def test_large_hessians_are_refused_with_a_way_out():
    outputs, targets = torch.zeros(1, 64, 512), torch.zeros(1, 64, dtype=torch.long)
    with pytest.raises(ResourceError, match=r"32,704 gradients.*'ekfac'.*'fisher'.*rows='fisher'"):
        SequenceCrossEntropy().hessian_factor(outputs, targets)


def test_predicted_labels_and_probabilities():
    best = OUTPUTS.argmax(-1)
    assert torch.equal(SequenceCrossEntropy().predicted_targets(OUTPUTS), best)
    shifted = SequenceCrossEntropy(shift=True)
    found = shifted.predicted_targets(OUTPUTS)
    assert torch.equal(found[:, 1:], best[:, :-1])
    assert bool((found[:, 0] == -100).all())
    task = as_task(nn.Linear(2, V).double(), loss=SequenceCrossEntropy())
    assert predict(task, torch.zeros(N, T, 2, dtype=torch.float64)).shape == (N, T)
    torch.testing.assert_close(
        task.loss.predict_proba(OUTPUTS).sum(-1), torch.ones(N, T, dtype=torch.float64)
    )


def test_wrong_use_is_told():
    with pytest.raises(ValueError, match="reduction: got 'none'"):
        SequenceCrossEntropy("none")
    with pytest.raises(ValueError, match="labels \\(n_examples, n_tokens\\)"):
        SequenceCrossEntropy()(OUTPUTS, TARGETS[:, :2])
    with pytest.raises(ValueError, match="SequenceCrossEntropy"):
        CrossEntropy()(OUTPUTS, TARGETS)
    assert repr(SequenceCrossEntropy("sum", shift=True)) == (
        "SequenceCrossEntropy(reduction='sum', ignore_index=-100, shift=True)"
    )
