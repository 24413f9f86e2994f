"""The engine: streaming operations, batch sizes, memory limits and plans."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from influencekit.exceptions import ResourceError, UnsupportedModelError
from influencekit.gradients import (
    GradientEngine,
    Gradients,
    _operations,
    ggn_cotangent,
    loss_cotangent,
    output_cotangent,
)
from influencekit.gradients import _gradients as gradients_module
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._plan import plan
from influencekit.gradients._store import FeatureStore
from influencekit.models import CustomLoss
from tests.gradients._reference import (
    TinyExamples,
    autograd_rows,
    integers,
    make_task,
    mlp_problem,
    normal,
    regression_problem,
    sum_of_squares,
)
from tests.gradients._zoo import CASES, Apply


def _close(found, expected, tolerance=1e-10):
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * max(
        1.0, float(expected.abs().max())
    )


def _case(name):
    case = next(c for c in CASES if c.name == name)
    torch.manual_seed(0)
    inputs = case.inputs()
    return make_task(case.module(), sum_of_squares()), TinyExamples(
        inputs, torch.zeros(len(inputs))
    )


def _both(task, examples):
    return [
        (c, autograd_rows(task, examples, c)) for c in (loss_cotangent(task), ggn_cotangent(task))
    ]


PROBLEMS = [mlp_problem, regression_problem, lambda: _case("transformer"), lambda: _case("reused")]


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_streamed_operations_equal_the_reference(problem, batch_size):
    task, examples = problem()
    engine = GradientEngine(task, batch_size=batch_size)
    for cotangent, rows in _both(task, examples):
        weights = normal(len(rows), seed=3)
        groups, matrix = normal(4, len(rows)), normal(task.n_parameters, 3)
        gradients = Gradients(engine, examples, cotangent)
        _close(gradients.matrix(), rows)
        _close(gradients.covariance(), rows.T @ rows)
        _close(gradients.covariance(weights), (rows.T * weights) @ rows)
        _close(gradients @ matrix, rows @ matrix)
        _close(gradients.sums(groups), groups @ rows)
        _close(gradients.squared_norms(), rows.square().sum(1))
        _close(gradients.dot(gradients), rows @ rows.T)
        _close(gradients.features().materialize(), rows)


def test_dot_of_different_sets_and_cotangents():
    task, examples = mlp_problem()
    loss, ggn = loss_cotangent(task), ggn_cotangent(task)
    queries = examples.take(torch.tensor([3, 1, 4]))
    engine = GradientEngine(task, batch_size=2)
    left, right = autograd_rows(task, queries, loss), autograd_rows(task, examples, ggn)
    _close(Gradients(engine, queries, loss).dot(Gradients(engine, examples, ggn)), left @ right.T)
    _close(Gradients(engine, examples, ggn).dot(Gradients(engine, queries, loss)), right @ left.T)


def test_group_sums_of_a_partition_add_up():
    task, examples = mlp_problem()
    groups = torch.nn.functional.one_hot(integers(7, 11, seed=5), 7).T.to(task.dtype)
    engine = GradientEngine(task, batch_size=3)
    cotangent = loss_cotangent(task)
    sums = (
        Gradients(engine, examples, cotangent).features().weighted_sums(groups)
    )  # sparse: group by group
    rows = autograd_rows(task, examples, cotangent)
    _close(sums, groups @ rows)
    _close(sums.sum(0), rows.sum(0))


def test_order_of_examples_is_order_of_rows():
    task, examples = mlp_problem()
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    cotangent = ggn_cotangent(task)
    features = Gradients(GradientEngine(task), examples, cotangent).features()
    moved = Gradients(GradientEngine(task), examples.take(order), cotangent).features()
    _close(features[order].materialize(), moved.materialize(), 1e-14)
    mask = order < 4
    _close(features[mask].materialize(), features[mask.nonzero()[:, 0]].materialize(), 0)
    _close(
        features[2:5].materialize(), features.materialize().view(11, 2, -1)[2:5].flatten(0, 1), 0
    )


@pytest.mark.parametrize("sizes", [(1, 7), (3, 11)])
def test_single_precision_does_not_depend_on_the_batch_size(sizes):
    task, examples = mlp_problem()
    task = make_task(task.module)
    task.module.float()
    examples = TinyExamples(examples.inputs.float(), examples.targets)
    cotangent = loss_cotangent(task)
    first, second = (GradientEngine(task, batch_size=size) for size in sizes)
    a, b = (
        Gradients(e, examples, cotangent).dot(Gradients(e, examples, cotangent))
        for e in (first, second)
    )
    assert a.dtype == torch.float64
    assert Gradients(first, examples, cotangent).features().dtype == torch.float32
    _close(a, b, 1e-5)


def test_rows_of_an_example_share_its_inputs():
    task, examples = mlp_problem()
    one = Gradients(GradientEngine(task), examples, loss_cotangent(task)).features().blocks["0"]
    many = Gradients(GradientEngine(task), examples, ggn_cotangent(task)).features().blocks["0"]
    assert many.rows_per_example == 2
    assert many.a.shape == one.a.shape
    assert many.nbytes - one.nbytes == 11 * 7 * 8


def test_outputs():
    task, examples = mlp_problem()
    found = GradientEngine(task, batch_size=4).outputs(examples)
    assert not found.requires_grad
    _close(found, task.forward(examples.inputs).detach(), 1e-14)


# -- memory -----------------------------------------------------------------------------------


def _large_problem():
    task, _ = mlp_problem()
    return task, TinyExamples(normal(600, 5), integers(3, 600))


def test_operations_over_the_limit_are_refused_with_numbers(monkeypatch):
    monkeypatch.setattr(_operations, "disk_room", lambda: 0)  # else the matrix goes there
    task, examples = _large_problem()
    engine = GradientEngine(task, max_memory=100_000)
    gradients = Gradients(engine, examples, loss_cotangent(task))
    for operation in (
        gradients.features,
        gradients.matrix,
        lambda: gradients.dot(gradients),
        gradients.covariance,
    ):
        with pytest.raises(ResourceError, match=r"need .*B, but max_memory is 100\.0 kB"):
            operation()
    assert all(not m._forward_hooks for m in task.module.modules())


def _tight(task, result):
    """An engine with room for a result, an eighth for intermediates, and 15 kB of gradients."""
    return GradientEngine(task, batch_size=32, max_memory=int(result.numel() * 8 / 0.875) + 17_000)


@pytest.mark.parametrize("spills", [True, False])
def test_dot_of_sets_that_do_not_fit(spills, monkeypatch):
    task, examples = _large_problem()
    cotangent, ggn = loss_cotangent(task), ggn_cotangent(task)
    expected = Gradients(GradientEngine(task), examples, cotangent).dot(
        Gradients(GradientEngine(task), examples, ggn)
    )
    spilled = []
    original = FeatureStore._spill
    monkeypatch.setattr(
        FeatureStore, "_spill", lambda self, f: spilled.append(f) or original(self, f)
    )
    if not spills:
        monkeypatch.setattr(gradients_module, "_SPILLED", 0)
    engine = _tight(task, expected)
    before = set(Path(tempfile.gettempdir()).glob("influencekit-*"))
    _close(
        Gradients(engine, examples, cotangent).dot(Gradients(engine, examples, ggn)),
        expected,
        1e-13,
    )
    assert bool(spilled) == spills
    square = Gradients(GradientEngine(task), examples, ggn).dot(
        Gradients(GradientEngine(task), examples, ggn)
    )
    engine = _tight(task, square)
    _close(Gradients(engine, examples, ggn).dot(Gradients(engine, examples, ggn)), square, 1e-13)
    assert set(Path(tempfile.gettempdir()).glob("influencekit-*")) == before


def test_store_spills_what_does_not_fit_and_cleans_up():
    task, examples = mlp_problem()
    batches = [
        features
        for _, features in Gradients(
            GradientEngine(task, batch_size=3), examples, ggn_cotangent(task)
        )
    ]
    with FeatureStore(iter(batches), batches[0].nbytes * 2) as store:
        assert store.spilled == 2
        folder = Path(store._folder.name)
        assert len(list(folder.iterdir())) == 2 * 6
        for kept, made in zip(store, batches, strict=True):
            _close(kept.materialize(), made.materialize(), 0)
    assert not folder.exists()


def test_a_failing_iterator_leaves_no_files():
    task, examples = mlp_problem()

    def broken():
        gradients = Gradients(GradientEngine(task, batch_size=3), examples, loss_cotangent(task))
        yield from (features for _, features in gradients)
        raise RuntimeError("no more")

    before = set(Path(tempfile.gettempdir()).glob("influencekit-*"))
    with pytest.raises(RuntimeError, match="no more"):
        FeatureStore(broken(), 0)
    assert set(Path(tempfile.gettempdir()).glob("influencekit-*")) == before


@pytest.mark.parametrize("name", ["transformer", "embedding", "conv2d", "linear", "lstm"])
def test_small_workspaces_change_nothing(name):
    task, examples = _case(name)

    def cotangent(outputs, targets):
        return torch.stack([outputs.cos(), outputs.sin()], 1)

    rows = autograd_rows(task, examples, cotangent)
    features = Gradients(GradientEngine(task), examples, cotangent, keep_factors=True).features()
    features.workspace = 64
    weights, matrix = normal(3, len(rows)), normal(task.n_parameters, 3)
    for route in ("factors", "dense"):
        _close(features.dot(features, route=route), rows @ rows.T)
    _close(features.materialize(), rows)
    _close(features.matmul(matrix), rows @ matrix)
    _close(features.weighted_sums(weights), weights @ rows)
    _close(features.squared_norms(), rows.square().sum(1))


# -- plans ------------------------------------------------------------------------------------


def test_plans_have_the_sizes_of_the_results():
    task, examples = _large_problem()
    engine, cotangent = GradientEngine(task, max_memory="1MB"), loss_cotangent(task)
    gradients, p = Gradients(engine, examples, cotangent), task.n_parameters
    assert plan("matrix", gradients).bytes == 600 * p * 8
    assert plan("covariance", gradients).bytes == p * p * 8
    assert plan("dot", gradients, dtype=torch.float32).bytes == 600 * 600 * 4
    ggn = plan("project", Gradients(engine, examples, ggn_cotangent(task)), dim=10)
    assert ggn.bytes == 1200 * 10 * 8
    features = Gradients(GradientEngine(task), examples, cotangent).features()
    assert plan("features", gradients).bytes == features.nbytes
    estimate = plan("dot", gradients)
    assert not estimate.fits
    assert "does not fit in 1.0 MB" in str(estimate)
    # forward and backward passes, and at least a dot product of factors a pair
    passes = 600 * 2 * (5 * 7 + 7 * 7 + 7 * 3) * 2
    pairs = 600 * 600 * 2 * (5 + 7 + 7 + 7 + 7 + 3)
    assert 0.5 * (passes + pairs) < estimate.flops < 2 * (passes + pairs)


def test_plan_refuses_what_it_does_not_know():
    task, examples = mlp_problem()
    engine = GradientEngine(task)
    with pytest.raises(ValueError, match="operation: got 'gram'"):
        plan("gram", Gradients(engine, examples, loss_cotangent(task)))
    with pytest.raises(ValueError, match="dim"):
        plan("project", Gradients(engine, examples, loss_cotangent(task)))


# -- errors -----------------------------------------------------------------------------------


def test_models_that_mix_examples_are_refused():
    mixing = Apply(lambda self, x: self.one(x - x.mean(0)), one=nn.Linear(5, 2))
    statistics = nn.Sequential(nn.Linear(5, 2), nn.BatchNorm1d(2, track_running_stats=False))
    for module in (mixing, statistics):
        task = make_task(module, sum_of_squares())
        with pytest.raises(UnsupportedModelError, match="change with the other examples"):
            Gradients(
                GradientEngine(task), TinyExamples(normal(6, 5)), loss_cotangent(task)
            ).features()
        assert all(not m._forward_hooks for m in task.module.modules())


def test_a_layer_whose_factors_are_wrong_takes_the_fallback():
    class Odd(nn.Module):
        """Calls a layer on the examples in reverse order: factors get mixed up."""

        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 3)
            self.plain = nn.Linear(3, 2)

        def forward(self, x):
            y = self.inner(x.flip(0).reshape(-1, 4))
            return self.plain(y.view(*x.shape[:2], 3).flip(0).sum(1))

    task = make_task(Odd(), sum_of_squares())
    examples = TinyExamples(normal(5, 3, 4))
    engine, cotangent = GradientEngine(task), loss_cotangent(task)
    assert engine.layout(examples).rest == ("inner.weight", "inner.bias")
    _close(
        Gradients(engine, examples, cotangent).matrix(), autograd_rows(task, examples, cotangent)
    )


def test_layer_left_out_in_a_later_batch():
    def forward(self, x):
        return self.one(x) + (self.two(x) if float(x.detach()[0, 0]) < 10 else 0)

    task = make_task(Apply(forward, one=nn.Linear(4, 2), two=nn.Linear(4, 2)), sum_of_squares())
    inputs = normal(4, 4)
    inputs[2:, 0] += 100
    examples, cotangent = TinyExamples(inputs), loss_cotangent(task)
    engine = GradientEngine(task, batch_size=2)
    _close(
        Gradients(engine, examples, cotangent).matrix(), autograd_rows(task, examples, cotangent)
    )


def test_one_example_is_enough():
    task, examples = mlp_problem(n=1)
    cotangent = loss_cotangent(task)
    rows = autograd_rows(task, examples, cotangent)
    _close(Gradients(GradientEngine(task), examples, cotangent).matrix(), rows)


def test_sequences_of_different_lengths():
    task, _ = _case("embedding")
    loss = CustomLoss(lambda outputs, targets: outputs.flatten(1).square().sum(1))
    task = make_task(task.module, loss)
    cotangent, engine = loss_cotangent(task), GradientEngine(task)
    sets = [TinyExamples(integers(7, n, t)) for n, t in ((4, 5), (3, 8))]
    rows = torch.cat([autograd_rows(task, s, cotangent) for s in sets])
    parts = [Gradients(engine, s, cotangent, keep_factors=True).features() for s in sets]
    _close(GradientFeatures.cat(parts).materialize(), rows)
    _close(parts[0].dot(parts[1], route="factors"), rows[:4] @ rows[4:].T)
    _close(parts[0].dot(parts[1], route="dense"), rows[:4] @ rows[4:].T)


@pytest.mark.parametrize("bad", [0, -1, True])
def test_bad_batch_size(bad):
    task, _ = mlp_problem()
    with pytest.raises(ValueError, match="batch_size"):
        GradientEngine(task, batch_size=bad)


def test_bad_shapes_are_named():
    task, examples = mlp_problem()
    engine, cotangent = GradientEngine(task), loss_cotangent(task)
    features = Gradients(engine, examples, cotangent).features()
    with pytest.raises(ValueError, match=r"matrix: got shape \(3, 2\)"):
        features.matmul(normal(3, 2))
    with pytest.raises(ValueError, match=r"weights: got shape \(2, 3\)"):
        features.weighted_sums(normal(2, 3))
    with pytest.raises(ValueError, match="one number for each example"):
        Gradients(engine, examples, output_cotangent(lambda outputs, targets: outputs)).matrix()
    with pytest.raises(ValueError, match=r"cotangent: it returned shape \(.*expected \(n, R"):
        Gradients(engine, examples, lambda outputs, targets: outputs).matrix()
    with pytest.raises(ValueError, match="empty list"):
        GradientFeatures.cat([])
    with pytest.raises(ValueError, match="rows_per_example"):
        GradientFeatures.cat(
            [features, Gradients(engine, examples, ggn_cotangent(task)).features()]
        )


def test_gauss_newton_rows_and_constant_functions():
    task, examples = mlp_problem()
    covariance = Gradients(GradientEngine(task), examples, ggn_cotangent(task)).covariance()
    total = 0
    for batch in examples.batches(1):
        outputs = task.forward(batch.inputs)
        jacobian = []
        for k in range(3):
            grads = torch.autograd.grad(
                outputs[0, k], tuple(task.parameters.values()), retain_graph=True
            )
            jacobian.append(torch.cat([g.flatten() for g in grads]))
        jacobian, p = torch.stack(jacobian), outputs.detach().softmax(1)[0]
        total = total + jacobian.T @ (torch.diag(p) - p[:, None] * p) @ jacobian
    _close(covariance, total)
    constant = output_cotangent(lambda outputs, targets: torch.ones(len(outputs)))
    assert not Gradients(GradientEngine(task), examples, constant).matrix().any()


def test_cotangents_of_the_same_function_are_equal():
    task, _ = mlp_problem()
    assert loss_cotangent(task) == loss_cotangent(task)
    assert ggn_cotangent(task) == ggn_cotangent(task)
    assert loss_cotangent(task) != ggn_cotangent(task)
    assert loss_cotangent(task) != loss_cotangent(make_task(nn.Linear(2, 2)))
