"""Coordinate masks: autograd through runs whose other coordinates stay on their path."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import AdamWInfluence, SGDInfluence
from influencekit.training.trajectory._masked_sweep import draw_masks
from tests.training.trajectory._unrolled import occurrence_gradients
from tests.training.trajectory.test_adjoint import data, influence_of, make_run, recorded

SIZES = (35, 7, 21, 3)  # of the net of test_adjoint
VARIANTS = ["momentum", "adamw", "amsgrad_l2", "groups", "clip"]


def masks_of(size, n_masks, seed=0):
    rng = np.random.RandomState(np.random.RandomState(seed).randint(2**31 - 1))
    return draw_masks(SIZES, size, n_masks, rng)


def by_name(run, mask):
    """The mask and its weights, for each parameter."""
    flat = torch.zeros(2, sum(SIZES), dtype=torch.float64)
    flat[:, mask.coordinates] = torch.stack([torch.ones_like(mask.weights), mask.own_weights])
    named = dict(run.module.named_parameters())
    parts = flat.split([p.numel() for p in named.values()], dim=1)
    return {
        n: ((m[0] > 0).view(p.shape), m[1].view(p.shape))
        for (n, p), m in zip(named.items(), parts, strict=True)
    }


@pytest.mark.parametrize("variant", ["momentum", "adamw", "clip"])
@pytest.mark.parametrize("curvature", ["smoothed_hessian", "ggn", "fisher"])
def test_one_mask_of_all_coordinates_gives_the_exact_scores(variant, curvature):
    run = make_run(variant, nn.ReLU)
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 4)
    whole, masked = (
        influence_of(run, trajectory, curvature=curvature, **options)
        .fit(task, run.X, run.y)
        .score(queries, targets)
        for options in ({}, {"mask_size": 35, "n_masks": 1})
    )
    np.testing.assert_allclose(masked, whole, atol=1e-12 * np.abs(whole).max(), rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_masks_equal_autograd_with_the_other_coordinates_on_their_path(variant):
    """Two masks that cover all coordinates: each is a run of its own, and scores add up."""
    run = make_run(variant)
    start, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    expected = 0.0
    for mask in masks_of(18, 2, seed=5):
        run.free = by_name(run, mask)
        expected = expected + occurrence_gradients(run, start, queries, targets)[0].numpy()
    influence = influence_of(run, trajectory, mask_size=18, n_masks=2, random_state=5)
    found = influence.fit(task, run.X, run.y).step_scores(queries, targets).scores
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("variant", ["momentum", "adamw"])
def test_without_curvature_scores_of_disjoint_masks_add_up(variant):
    run = make_run(variant)
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    whole, masked = (
        influence_of(run, trajectory, curvature="none", **options)
        .fit(task, run.X, run.y)
        .score(queries, targets)
        for options in ({}, {"mask_size": 12, "n_masks": 3, "random_state": 1})
    )
    np.testing.assert_allclose(masked, whole, atol=1e-13 * np.abs(whole).max(), rtol=0)


def test_masks_of_some_coordinates_are_right_on_average():
    """The mean over many draws is the score of all coordinates, where nothing couples them."""
    run = make_run("sgd")
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 3)

    def scores(**options):
        influence = SGDInfluence(trajectory, "none", **options).fit(task, run.X, run.y)
        return influence.score(queries, targets)

    draws = np.array([scores(mask_size=4, n_masks=2, random_state=i) for i in range(10)])
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - scores()) < 6 * error + 1e-12).all()


@pytest.mark.parametrize("curvature", ["hessian", "fisher"])
def test_horizons_and_little_memory_change_nothing(curvature):
    run = make_run("adamw")
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 3)
    masks = {"mask_size": 35, "n_masks": 1}

    def scores(**options):
        influence = AdamWInfluence(trajectory, curvature, **options).fit(task, run.X, run.y)
        return influence.score(queries, targets)

    exact = scores(horizon=3)
    for options in ({}, {"max_memory": 4 * 8 * 66 * 2}, {"batch_size": 1}):
        found = scores(horizon=3, **masks, **options)
        np.testing.assert_allclose(found, exact, atol=1e-12 * np.abs(exact).max(), rtol=0)


def test_masks_are_disjoint_and_weighted_by_what_they_cover():
    masks = draw_masks((50, 3, 8), 4, 5, np.random.RandomState(0))
    drawn = torch.cat([m.coordinates for m in masks])
    assert len(drawn) == len(drawn.unique()) == 20 + 3 + 8
    weights = torch.cat([m.weights for m in masks])
    assert weights[drawn < 50].unique().tolist() == [50 / 20]
    assert weights[drawn >= 50].unique().tolist() == [1.0]
    assert masks[0].own_weights.unique().tolist() == [3.0, 4.0, 50 / 4]
    assert [int((m.coordinates < 50).sum()) for m in masks] == [4] * 5


def test_the_same_seed_draws_the_same_masks():
    run = make_run("adamw")
    _, task, trajectory = recorded(run)
    queries, targets = data(1, 2)
    options = {"mask_size": 2, "n_masks": 3, "curvature": "fisher"}
    first, again, other = (
        AdamWInfluence(trajectory, random_state=seed, **options)
        .fit(task, run.X, run.y)
        .score(queries, targets)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_finite_removal_takes_all_coordinates():
    run = make_run("adamw")
    _, task, trajectory = recorded(run)
    influence = AdamWInfluence(trajectory, removal_order="finite", mask_size=4)
    with pytest.raises(ValueError, match="mask_size: got 4 with removal_order='finite'"):
        influence.fit(task, run.X, run.y)
