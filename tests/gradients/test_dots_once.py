"""Dot products of two sets: each row is made dense once, as precise as the gradients are."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

import influencekit.attributors.first_order._first_order as first_order
from influencekit import GradCos, GradDot, as_task
from influencekit.gradients import _dot
from influencekit.gradients.blocks import _base, _outer
from influencekit.gradients.blocks._base import BlockSpec
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._outer import OuterBlock

N, M = 24, 5
RNG = torch.Generator().manual_seed(0)
IMAGES = torch.randn(N + M, 3, 8, 8, generator=RNG)
LABELS = torch.randint(4, (N + M,), generator=RNG)


def network():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 40, 3, padding=1),
    ]
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(640, 4)).eval()


def by_loop(net, dtype):
    """Products of loss gradients, one example at a time: (M queries, N)."""
    net = net.to(dtype)
    rows = []
    for x, y in zip(IMAGES.to(dtype), LABELS, strict=True):
        loss = nn.functional.cross_entropy(net(x[None]), y[None])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, net.parameters())]))
    rows = torch.stack(rows)
    return (rows[N:] @ rows[:N].T).double()


def fitted(**options):
    task = as_task(network(), loss=nn.CrossEntropyLoss())
    return GradDot(output="neg_loss", **options).fit(task, IMAGES[:N], LABELS[:N])


def scores(**options):
    return torch.as_tensor(fitted(**options).score(IMAGES[N:], LABELS[N:]))


def test_float32_scores_are_as_precise_as_autograd_in_float32():
    exact = by_loop(network(), torch.float64)
    theirs = float((by_loop(network(), torch.float32) - exact).abs().max())
    assert float((scores() - exact).abs().max()) <= 3 * theirs


@pytest.mark.parametrize("batch_size", [None, 2, 7])
def test_held_rows_may_lie_either_way_in_memory(monkeypatch, batch_size):
    expected = scores(batch_size=batch_size)
    seen = []
    plain = _base.add_products
    monkeypatch.setattr(_dot, "_MANY", 2)
    monkeypatch.setattr(
        _outer,
        "add_products",
        lambda left, right, out: (seen.append(right.stride(0)), plain(left, right, out)),
    )
    torch.testing.assert_close(scores(batch_size=batch_size), expected, rtol=1e-5, atol=1e-6)
    assert 1 in seen


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 7}, {"max_memory": "1MB"}])
def test_scores_do_not_depend_on_batches_or_memory(options):
    torch.testing.assert_close(scores(**options), scores(), rtol=1e-5, atol=1e-6)


def test_scores_have_the_same_bits_whether_gradients_are_kept_or_not(monkeypatch):
    expected = scores(batch_size=3)
    monkeypatch.setattr(first_order, "_ROOM", 0)
    assert (scores(batch_size=3) == expected).all()


@pytest.mark.parametrize("batch_size", [2, 5])
def test_a_row_is_made_dense_once(monkeypatch, batch_size):
    made = 0.0

    def counted(original):
        def make(block):
            nonlocal made
            made += block.n_rows * block.b.shape[-1] / 40 if block.spec.name == "3" else 0
            return original(block)

        return make

    attributor = fitted(batch_size=batch_size)
    for name in ("dense", "_dense_weight"):  # the second for some of the outputs at a time
        monkeypatch.setattr(OuterBlock, name, counted(getattr(OuterBlock, name)))
    attributor.score(IMAGES[N:], LABELS[N:])
    checked = 2 * 3 * -(-(N + M) // batch_size)  # a few examples of a batch, and first ones
    assert N + M <= made <= N + M + checked


@pytest.mark.parametrize(("bias", "rows"), [(True, 1), (False, 3)])
def test_dense_rows_of_some_outputs_at_a_time(monkeypatch, bias, rows):
    """Each of several pieces meets its own columns of the other side."""
    monkeypatch.setattr(_outer, "_DENSE_ROWS", 4)
    monkeypatch.setattr(_outer, "_DENSE_PIECE", 8 * 4 * 6 * 3)  # three outputs of four rows
    a, b = torch.randn(7, 5, 6).double(), torch.randn(7, rows, 5, 8).double()
    spec = BlockSpec("layer", (slice(0, 48 + 8 * bias),), 8, 6, bias)
    others = torch.randn(3, 1, spec.width).double()
    out = torch.ones(7 * rows, 3).double()
    _outer.OuterBlock(spec, a, b).add_dot(DenseBlock(spec, others), out)
    dense = torch.einsum("nrto,nti->nroi", b, a).flatten(2)
    dense = torch.cat([dense, b.sum(2)], 2) if bias else dense
    torch.testing.assert_close(out, 1 + dense.flatten(0, 1) @ others[:, 0].T)


@pytest.mark.parametrize("kind", [GradDot, GradCos])
def test_later_queries_do_not_run_the_model_on_training_rows(kind):
    attributor = kind().fit(as_task(network(), loss=nn.CrossEntropyLoss()), IMAGES[:N], LABELS[:N])
    first = attributor.score(IMAGES[N:], LABELS[N:])
    seen = []
    hook = attributor.task_.module.register_forward_pre_hook(
        lambda _, args: seen.append(len(args[0]))
    )
    again = attributor.score(IMAGES[N:], LABELS[N:])
    hook.remove()
    assert (again == first).all()
    assert max(seen) <= M
    assert sum(seen) < N


def test_what_is_kept_for_later_queries_is_not_pickled():
    attributor = fitted()
    before = len(pickle.dumps(attributor))
    expected = attributor.score(IMAGES[N:], LABELS[N:])
    assert len(pickle.dumps(attributor)) <= before + 1000
    assert (pickle.loads(pickle.dumps(attributor)).score(IMAGES[N:], LABELS[N:]) == expected).all()
