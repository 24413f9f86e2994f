"""DataInf against each example's inverse, written out in float64."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import GradDot, InfluenceFunction, as_task
from influencekit.curvature import CurvatureProblem, DataInf
from influencekit.curvature.layers import _grouped_gradients
from influencekit.curvature.layers._datainf import FittedDataInf
from influencekit.damping import auto_damping
from influencekit.data import make_examples
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent, output_cotangent
from tests._shared.marks import NOT_TRAINED
from tests._shared.nets import tanh_net
from tests.curvature._dense_reference import loss_gradients, output_gradients
from tests.curvature._small_problems import M, N, margin, of_margin, penalties, problem, uneven


def groups_of(task, blocks):
    """Positions of every group's parameters."""
    groups, start = {}, 0
    for name, p in task.parameters.items():
        key = {"layers": name.rpartition(".")[0], "tensors": name, "all": ""}[blocks]
        groups.setdefault(key, []).extend(range(start, start + p.numel()))
        start += p.numel()
    return [np.array(group) for group in groups.values()]


def dense_products(q, h, g, weights, groups, levels):
    """Σ_groups q (Σ_i w_i (D + g_i g_iᵀ)⁻¹) hᵀ by solving for every example."""
    total = 0.0
    for group in groups:
        inverse = 0.0
        for gi, w in zip(g[:, group], weights, strict=True):
            inverse = inverse + w * np.linalg.inv(np.diag(levels[group]) + np.outer(gi, gi))
        total = total + q[:, group] @ inverse @ h[:, group].T
    return total


def fitted(task, X, y, weights, penalty, curvature, **options) -> FittedDataInf:
    train = make_examples(task, X, y)
    engine = GradientEngine(task, **options)
    return curvature.factorize(
        CurvatureProblem(
            Gradients(engine, train, loss_cotangent(task)), torch.as_tensor(weights), penalty
        )
    )


@pytest.fixture(params=["gram", "sums"])
def route(request, monkeypatch):
    """Both ways to the products."""
    cheaper = request.param == "gram"
    monkeypatch.setattr(_grouped_gradients.PartProducts, "gram_is_cheaper", lambda *a: cheaper)


@pytest.mark.parametrize("blocks", ["layers", "tensors", "all"])
@pytest.mark.parametrize("penalty_name", ["none", "constant", "weights"])
def test_products_equal_the_mean_of_inverses(route, blocks, penalty_name, monkeypatch):
    monkeypatch.setattr(_grouped_gradients, "_TILE", 9)  # several tiles
    task, X, y, Xq, yq = problem()
    penalty, weights = penalties(task)[penalty_name], uneven()
    found = fitted(task, X, y, weights, penalty, DataInf(blocks), batch_size=10)
    g, q = loss_gradients(task, X, y), output_gradients(task, Xq, yq, margin)
    queries, groups = of_margin(task, Xq, yq), groups_of(task, blocks)
    for damping in (0.05, 2.0):
        levels = penalty.numpy() + damping
        expected = dense_products(q, g, g, weights, groups, levels)
        products = found.products(queries, damping)
        np.testing.assert_allclose(products, expected, rtol=1e-10, atol=1e-10)
        own = np.diag(dense_products(g, g, g, weights, groups, levels))
        np.testing.assert_allclose(found.self_products(damping), own, rtol=1e-10)


def test_scaled_damping_is_a_multiple_of_each_layers_mean_squared_entry():
    task, X, y, Xq, yq = problem()
    weights, penalty = uneven(), penalties(task)["constant"]
    found = fitted(task, X, y, weights, penalty, DataInf(scaled=True))
    assert auto_damping(found) == 0.1
    g, q = loss_gradients(task, X, y), output_gradients(task, Xq, yq, margin)
    groups = groups_of(task, "layers")
    levels = penalty.numpy().copy()
    for group in groups:
        levels[group] += 0.7 * (weights @ np.square(g[:, group])).mean()
    expected = dense_products(q, g, g, weights, groups, levels)
    products = found.products(of_margin(task, Xq, yq), 0.7)
    np.testing.assert_allclose(products, expected, rtol=1e-10, atol=1e-10)


def test_automatic_damping_is_a_tenth_of_the_mean_squared_entry():
    task, X, y, _, _ = problem()
    weights = uneven()
    found = fitted(task, X, y, weights, penalties(task)["none"], DataInf())
    expected = 0.1 * (weights @ np.square(loss_gradients(task, X, y))).mean()
    np.testing.assert_allclose(auto_damping(found), expected, rtol=1e-12)


@pytest.mark.parametrize("max_memory", [10_000, 2**30])
def test_little_memory_gives_the_same(max_memory, route, monkeypatch):
    monkeypatch.setattr(_grouped_gradients, "_TILE", 8)
    task, X, y, Xq, yq = problem("plain")
    penalty, weights = penalties(task)["weights"], uneven()
    found = fitted(task, X, y, weights, penalty, DataInf(), max_memory=max_memory, batch_size=6)
    roomy = max_memory == 2**30
    assert (found.gradients._train.parts is not None) == roomy
    queries, groups = of_margin(task, Xq, yq), groups_of(task, "layers")
    g, q = loss_gradients(task, X, y), output_gradients(task, Xq, yq, margin)
    assert (found.gradients.query_chunk(queries) < M) != roomy
    for damping in (0.3, 1.1):  # the second time from what was kept
        expected = dense_products(q, g, g, weights, groups, penalty.numpy() + damping)
        products = found.products(queries, damping)
        np.testing.assert_allclose(products, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("max_memory", [None, 40_000])
def test_a_copy_scores_with_the_same_bits(max_memory):
    """A copy takes the gradients again, and in the same pieces."""
    X, y = torch.randn(200, 4), torch.arange(200) % 3
    task = as_task(tanh_net(4, 5, 3).float(), loss=nn.CrossEntropyLoss())
    found = InfluenceFunction("datainf", 0.1, batch_size=3, max_memory=max_memory).fit(task, X, y)
    expected = found.score(X[:5], y[:5])
    np.testing.assert_array_equal(copy.deepcopy(found).score(X[:5], y[:5]), expected)


def test_changing_the_damping_takes_no_gradients(monkeypatch):
    task, X, y, Xq, yq = problem("plain")
    found = fitted(task, X, y, uneven(), penalties(task)["constant"], DataInf())
    queries = of_margin(task, Xq, yq)
    found.products(queries, 0.1)
    monkeypatch.setattr(
        GradientEngine, "batches", lambda *a, **k: pytest.fail("gradients were taken again")
    )
    found.products(queries, 10.0)


def test_other_queries_are_not_taken_for_the_last_ones():
    task, X, y, Xq, yq = problem("plain")
    found = fitted(task, X, y, uneven(), penalties(task)["constant"], DataInf())
    first, second = of_margin(task, Xq, yq), of_margin(task, Xq + 1, yq)
    found.products(first, 0.1)
    other = found.products(second, 0.1)
    fresh = fitted(task, X, y, uneven(), penalties(task)["constant"], DataInf())
    torch.testing.assert_close(other, fresh.products(second, 0.1))
    function = output_cotangent(lambda o, t: margin(o, t) / 2)
    halved = Gradients(second.engine, second.examples, function)
    torch.testing.assert_close(found.products(halved, 0.1), other / 2)


def test_the_cheaper_route_follows_the_shapes():
    torch.manual_seed(0)
    net = tanh_net(60, 50, 1)
    task = as_task(net, loss=nn.MSELoss())
    X, y = torch.randn(40, 60, dtype=torch.float64), torch.randn(40, 1, dtype=torch.float64)
    found = fitted(task, X, y, np.full(40, 1 / 40), torch.zeros(task.n_parameters), DataInf())
    train = found.gradients.train()
    # wide layer: n (d_in + d_out) / 2 + m n against 2 m d_in d_out
    assert found.gradients.gram_is_cheaper(0, 10, train)
    # a layer of width 50 + 1 costs sums next to nothing when queries are few
    assert not found.gradients.gram_is_cheaper(1, 2, train)


def test_without_damping_a_free_parameter_is_refused():
    task, X, y, Xq, yq = problem("plain")
    found = fitted(task, X, y, uneven(), penalties(task)["weights"], DataInf())
    queries = of_margin(task, Xq, yq)
    with pytest.raises(ValueError, match="positive damping"):
        found.products(queries, 0.0)
    penalized = fitted(task, X, y, uneven(), penalties(task)["constant"], DataInf())
    assert torch.isfinite(penalized.products(queries, 0.0)).all()


@NOT_TRAINED
def test_large_damping_is_a_dot_product_of_gradients():
    task, X, y, Xq, yq = problem("plain")
    influence = InfluenceFunction("datainf", damping=1e9).fit(task, X, y)
    expected = GradDot().fit(task, X, y).score(Xq, yq)
    np.testing.assert_allclose(influence.score(Xq, yq) * 1e9 * N, expected, rtol=1e-6, atol=1e-9)


def test_a_penalty_that_varies_within_a_tensor_counts_with_its_mean():
    task, X, y, Xq, yq = problem("plain")
    varied, even = (penalties(task)["constant"].clone() for _ in range(2))
    varied[:20] = torch.linspace(0, 1, 20).square().double()
    even[:20] = varied[:20].mean()
    queries = of_margin(task, Xq, yq)
    found, expected = (
        fitted(task, X, y, uneven(), penalty, DataInf()).products(queries, 0.1)
        for penalty in (varied, even)
    )
    torch.testing.assert_close(found, expected)


def test_unknown_blocks_are_refused():
    task, X, y, _, _ = problem("plain")
    with pytest.raises(ValueError, match="blocks"):
        InfluenceFunction(DataInf(blocks="modules")).fit(task, X, y)
