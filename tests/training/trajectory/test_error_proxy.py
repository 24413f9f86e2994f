"""The error proxy is the second derivative of whole runs."""

import numpy as np
import pytest
import torch

from influencekit import AdamWInfluence, SGDInfluence
from influencekit.training.trajectory._error_proxy import ErrorProxy
from tests.training.trajectory.test_adjoint import N, data, influence_of, make_run, recorded


def second_derivative(run, start, queries, targets, row, renormalize=True):
    """d²f/dw² of one row's weight in all of its batches, by autograd twice."""
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    one = torch.ones((), dtype=torch.float64)
    weights = [torch.stack([weight if r == row else one for r in b]) for b in run.batches]
    inputs = {n: p.clone().requires_grad_(True) for n, p in start.items()}
    theta = run.final(inputs, weights, renormalize)
    outputs = torch.func.functional_call(run.module, theta, (queries,))
    found = []
    for f in -run.loss(outputs, targets, reduction="none"):
        (slope,) = torch.autograd.grad(f, weight, create_graph=True)
        (bend,) = torch.autograd.grad(slope, weight, retain_graph=True)
        found.append([slope.item(), bend.item()])
    return np.array(found).T


@pytest.mark.parametrize("removal", ["renormalize", "fixed"])
@pytest.mark.parametrize("variant", ["nesterov", "adamw", "adam_l2", "amsgrad", "groups", "clip"])
def test_second_order_term_equals_autograd_twice(variant, removal):
    run = make_run(variant)
    start, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    influence = influence_of(run, trajectory, removal=removal).fit(task, run.X, run.y)
    rows = [3, 17]
    proxy = influence.taylor_error_proxy(queries, targets, rows, chunk_size=2)
    for column, row in enumerate(rows):
        first, second = second_derivative(
            run, start, queries, targets, row, removal == "renormalize"
        )
        np.testing.assert_allclose(proxy.scores[:, column], first, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(-2 * proxy.proxy[:, column], second, rtol=1e-8, atol=1e-13)


def test_forward_and_backward_scores_agree():
    run = make_run("betas")
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    influence = AdamWInfluence(trajectory).fit(task, run.X, run.y)
    proxy = influence.taylor_error_proxy(queries, targets)
    np.testing.assert_array_equal(proxy.left_out, np.arange(N))
    np.testing.assert_allclose(proxy.scores, influence.score(queries, targets), atol=1e-13)


def proxy_of(*ratios, **options):
    """A proxy of one test row, with scores of 1."""
    sizes = np.array([ratios])
    return ErrorProxy(np.arange(len(ratios)), np.ones_like(sizes), sizes, **options)


def test_what_to_trust():
    proxy = ErrorProxy(
        np.array([4, 9, 11]),
        np.array([[3.0, 0.0, 1.0], [4.0, 0.0, 0.0]]),
        np.array([[1.0, 0.0, 0.1], [0.0, 2.0, 0.0]]),
    )
    np.testing.assert_allclose(proxy.relative, [[1 / 3, 0.0, 0.1], [0.0, np.inf, 0.0]])
    np.testing.assert_allclose(proxy.of_examples, [0.2, np.inf, 0.1])
    np.testing.assert_allclose(proxy.of_tests, [np.sqrt(1.01) / np.sqrt(10), 0.5])
    np.testing.assert_array_equal(proxy.trusted(0.15), [False, False, True])
    assert proxy.median == pytest.approx(0.2) and proxy.reliable
    with pytest.raises(ValueError, match="threshold"):
        proxy.trusted(0.0)


def test_nothing_is_trusted_of_a_run_whose_estimate_is_large_or_blind():
    large, blind = proxy_of(0.1, 0.4, 0.5), proxy_of(0.1, 0.1, unseen=("max_pool2d",))
    for proxy in (large, blind):
        assert not proxy.reliable and not proxy.trusted(0.2).any()
        assert repr(proxy).endswith("not to be trusted)")
    assert "median 0.4" in repr(large)
    assert proxy_of(0.1, 0.2, 0.5).reliable and "not to" not in repr(proxy_of(0.1, 0.2, 0.5))


def test_rows_that_were_not_learned_from_are_refused():
    run = make_run("sgd")
    _, task, trajectory = recorded(run)
    influence = SGDInfluence(trajectory).fit(task, run.X, run.y)
    with pytest.raises(ValueError, match=r"rows \[24\]"):
        influence.taylor_error_proxy(*data(1, 2), left_out=[0, N])
