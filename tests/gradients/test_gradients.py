"""Gradients of some examples as one object: order, parts, what is kept and what is noted."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from influencekit.gradients import (
    GradientEngine,
    Gradients,
    ggn_cotangent,
    loss_cotangent,
    sampled_cotangent,
)
from influencekit.gradients._store import FeatureStore
from tests.gradients._reference import (
    TinyExamples,
    autograd_rows,
    integers,
    make_task,
    mlp_problem,
    normal,
    sum_of_squares,
)
from tests.gradients._zoo import CASES


def setting(batch_size=4, **options):
    task, _ = mlp_problem()
    examples = TinyExamples(normal(13, 5), integers(3, 13))
    return task, examples, GradientEngine(task, batch_size=batch_size, **options)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)


@pytest.fixture
def counted(monkeypatch):
    """Examples whose gradients the engine makes, one number a batch."""
    sizes, made = [], GradientEngine.batches

    def batches(*args, **options):
        for features in made(*args, **options):
            sizes.append(len(features))
            yield features

    monkeypatch.setattr(GradientEngine, "batches", batches)
    return sizes


def test_rows_say_which_examples_features_belong_to():
    task, examples, engine = setting()
    expected = autograd_rows(task, examples, ggn_cotangent(task)).unflatten(0, (13, -1))
    gradients = Gradients(engine, examples, ggn_cotangent(task))
    seen = []
    for rows, features in gradients:
        seen.append(rows)
        close(features.materialize().unflatten(0, (len(features), -1)), expected[rows])
    assert seen == [slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 13)]
    assert gradients.n_rows == 13 * gradients.rows_per_example == len(expected.flatten(0, 1))


@pytest.mark.parametrize("spill", [False, True])
@pytest.mark.parametrize("memory", [0, 10**8])
def test_what_is_held_is_made_once(spill, memory, counted):
    task, examples, engine = setting()
    cotangent = loss_cotangent(task)
    expected = autograd_rows(task, examples, cotangent)
    held = Gradients(engine, examples, cotangent).held(memory, spill=spill)
    kept = spill or memory > 0
    assert (held.parts is not None) == kept
    order = torch.tensor([12, 0, 7, 0])
    for _ in range(2):
        close(held.matrix(), expected)
        close(held.take(order).matrix(), expected[order])
        close(held.take(slice(3, 9)).matrix(), expected[3:9])
        close(held.dot(held), expected @ expected.T)
    assert (sum(counted) == 13) == kept
    assert isinstance(held.parts, FeatureStore) == (spill and memory == 0)


def test_maps_are_applied_to_whatever_is_asked_for():
    task, examples, engine = setting()
    expected = autograd_rows(task, examples, loss_cotangent(task))
    doubled = Gradients(engine, examples, loss_cotangent(task)).map(
        lambda features: features.with_blocks(
            {k: b.replace(*b.tensors[:-1], 2 * b.tensors[-1]) for k, b in features.blocks.items()}
        )
    )
    for gradients in (doubled, doubled.held(10**8)):
        close(gradients.matrix(), 2 * expected)
        close(gradients.squared_norms(), 4 * expected.square().sum(1))
        close(gradients.take([5, 2]).matrix(), 2 * expected[[5, 2]])


@pytest.mark.parametrize(
    "make", [ggn_cotangent, partial(sampled_cotangent, n_samples=2, random_state=0)]
)
def test_both_gradients_come_from_one_pass(make, counted):
    task, examples, engine = setting()
    shares, other = normal(13).abs(), make(task)
    expected = autograd_rows(task, examples, loss_cotangent(task))
    others = Gradients(engine, examples, other).matrix()
    counted.clear()
    own = Gradients(engine, examples, loss_cotangent(task), shares=shares)
    beside = own.along(other)
    close(beside.covariance(), others.T @ others)
    close(own.mean(), shares @ expected)
    close(own.squared_norms(), expected.square().sum(1))
    assert sum(counted) == 13
    for rows, some, mine in beside.pairs():
        close(some.materialize(), others.unflatten(0, (13, -1))[rows].flatten(0, 1))
        close(mine.materialize(), expected[rows])


@pytest.mark.parametrize("name", ["conv2d", "embedding", "transformer", "reused"])
def test_pairs_of_every_kind_of_layer(name):
    case = next(case for case in CASES if case.name == name)
    inputs = case.inputs()
    task, examples = (
        make_task(case.module(), sum_of_squares()),
        TinyExamples(inputs, integers(2, len(inputs))),
    )

    def first(outputs, targets):
        return torch.stack([outputs.cos(), outputs.sin()], 1)

    second = loss_cotangent(task)
    engine = GradientEngine(task)
    pairs = Gradients(engine, examples, second).along(first, keep_factors=True)
    for gradients in (pairs, pairs.held_pairs(10**9)):
        [(_, some, own)] = gradients.pairs()
        close(some.materialize(), autograd_rows(task, examples, first))
        close(own.materialize(), autograd_rows(task, examples, second))


def test_a_pass_that_is_broken_off_notes_nothing(counted):
    task, examples, engine = setting()
    own = Gradients(engine, examples, loss_cotangent(task), shares=torch.ones(13).double())
    next(iter(own))
    close(own.mean(), autograd_rows(task, examples, loss_cotangent(task)).sum(0))
    assert sum(counted) == 4 + 13


def test_a_lone_example_is_computed_once():
    """Of one query the size of the gradients need not be assumed from its first example."""
    task, examples = mlp_problem()
    one, passes = examples.take(slice(3, 4)), []
    engine, cotangent = GradientEngine(task), loss_cotangent(task)
    engine.layout(examples)
    gradients = Gradients(engine, one, cotangent)
    hook = task.module.register_forward_pre_hook(lambda *_: passes.append(1))
    found = gradients.matrix()
    assert torch.equal(gradients.map(lambda features: features).matrix(), found)
    assert not passes
    hook.remove()
    assert torch.allclose(found, autograd_rows(task, one, cotangent), atol=1e-12)
    assert torch.allclose(gradients.squared_norms(), found.square().sum(1))
