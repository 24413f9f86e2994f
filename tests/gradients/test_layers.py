"""Every kind of layer: factored and materialized gradients equal automatic differentiation's."""

from __future__ import annotations

import pytest
import torch

from influencekit.gradients import GradientEngine, Gradients
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.layers._layout import discover
from tests.gradients._reference import (
    TinyExamples,
    autograd_rows,
    make_task,
    normal,
    sum_of_squares,
)
from tests.gradients._zoo import CASES


def _cotangent(n_rows):
    """Several rows an example, none of them special."""

    def cotangent(outputs, targets):
        rows = [torch.cos(outputs * (r + 1) + r) for r in range(n_rows)]
        return torch.stack(rows, dim=1)

    return cotangent


def _problem(case):
    torch.manual_seed(0)
    task = make_task(case.module(), sum_of_squares())
    return task, TinyExamples(case.inputs())


def _close(found, expected, tolerance=1e-10):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * max(
        1.0, float(expected.abs().max())
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("n_rows", [1, 3])
def test_every_operation_equals_autograd(case, n_rows):
    task, examples = _problem(case)
    cotangent = _cotangent(n_rows)
    reference = autograd_rows(task, examples, cotangent)
    assert float(reference.abs().max()) > 1e-3
    gram = reference @ reference.T
    weights, matrix = normal(4, len(reference)), normal(task.n_parameters, 3)
    for keep_factors in (False, True):
        engine = GradientEngine(task, batch_size=4)
        features = Gradients(engine, examples, cotangent, keep_factors=keep_factors).features()
        _close(features.materialize(), reference)
        for route in ("auto", "factors", "dense"):
            _close(features.dot(features, route=route), gram)
        _close(features.gram(), gram)
        _close(features.squared_norms(), gram.diagonal())
        _close(features.weighted_sums(weights), weights @ reference)
        _close(features.matmul(matrix), reference @ matrix)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_discovery_sends_parameters_where_they_belong(case):
    task, examples = _problem(case)
    layout = discover(task, lambda: next(examples.batches(N_FIRST)).inputs)
    found = tuple(layer.name for layer in layout.layers if layer.has_factors)
    if case.factored:
        assert found == case.factored
    if case.fallback:
        assert set(layout.rest) == set(case.fallback)
    if not case.fallback and case.name != "cross_attention":
        assert layout.rest == ()
    assert layout.rest_vmaps == (case.name not in NO_VMAP)
    columns = [c for spec in layout.specs for c in spec.columns]
    covered = sorted(i for c in columns for i in range(c.start, c.stop))
    assert covered == list(range(task.n_parameters))


N_FIRST = 4
NO_VMAP = {
    "unsupported_under_vmap",
    "embedding_max_norm",
    "embedding_bag_largest",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_module_is_left_as_it_was(case):
    task, examples = _problem(case)
    before = {k: v.clone() for k, v in task.module.state_dict().items()}
    state = torch.random.get_rng_state()
    fast, linear = torch.backends.mha.get_fastpath_enabled(), torch.nn.functional.linear
    Gradients(GradientEngine(task), examples, _cotangent(2)).features()
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in task.module.modules())
    assert all(torch.equal(v, before[k]) for k, v in task.module.state_dict().items())
    assert all(p.grad is None for p in task.module.parameters())
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.nn.functional.linear is linear


def test_small_kernels_on_images_are_multiplied_out_unless_factors_are_wanted():
    case = next(c for c in CASES if c.name == "conv2d")
    task, examples = _problem(case)
    engine = GradientEngine(task)
    dense = Gradients(engine, examples, _cotangent(1)).features().blocks["0"]
    factors = Gradients(engine, examples, _cotangent(1), keep_factors=True).features().blocks["0"]
    assert isinstance(dense, DenseBlock)
    assert factors.a.shape == (6, 16, 18)
    assert factors.b.shape == (6, 1, 16, 5)
    reference = autograd_rows(task, examples, _cotangent(1))
    mixed = GradientFeatures({"0": dense}, 6, 1, task.n_parameters)
    kept = GradientFeatures({"0": factors}, 6, 1, task.n_parameters)
    _close(mixed.dot(kept), reference @ reference.T)
    _close(kept.dot(mixed), reference @ reference.T)
    _close(GradientFeatures.cat([mixed, kept]).materialize(), torch.cat([reference, reference]))


def test_what_is_taken_one_by_one_is_named(caplog):
    case = next(case for case in CASES if case.name == "unsupported_under_vmap")
    task, examples = _problem(case)
    with caplog.at_level("WARNING", logger="influencekit.gradients"):
        discover(task, lambda: next(examples.batches(2)).inputs)
    assert "scale" in caplog.text
    assert "one example at a time" in caplog.text


@pytest.mark.parametrize("name", ["vision", "positions_of_one_text", "never_called"])
def test_broadcast_parameters_take_no_pass_of_their_own(name, monkeypatch):
    monkeypatch.setattr("influencekit.gradients._engine.dense_rows", None)
    task, examples = _problem(next(case for case in CASES if case.name == name))
    cotangent = _cotangent(1)
    features = Gradients(GradientEngine(task, batch_size=4), examples, cotangent).features()
    _close(features.materialize(), autograd_rows(task, examples, cotangent))
