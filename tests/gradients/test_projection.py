"""Projections: unbiased, seeded, the same linear map on every stored form."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from influencekit.gradients import GradientEngine, Gradients, ggn_cotangent, make_projection
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients.projections._make_projection import PROJECTIONS
from influencekit.gradients.projections._random import random_rows
from influencekit.gradients.projections._sketches import share_dims
from tests.gradients._reference import TinyExamples, make_task, mlp_problem, normal, sum_of_squares
from tests.gradients._zoo import CASES

DEFINED_ON = ["linear", "reused", "conv2d", "sequence", "embedding_padding", "norms", "transformer"]


def _rows(outputs, targets):
    return torch.stack([outputs.cos(), outputs.sin()], 1)


def _case(name):
    case = next(c for c in CASES if c.name == name)
    torch.manual_seed(0)
    task = make_task(case.module(), sum_of_squares())
    return task, TinyExamples(case.inputs())


def _close(found, expected, tolerance=1e-10):
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * max(
        1.0, float(expected.abs().max())
    )


def _as_matrix(projection, features):
    """The projection as (p, dim), read off from dense gradients that are unit vectors."""
    from influencekit.gradients.blocks._dense import DenseBlock

    p = features.n_parameters
    eye = torch.eye(p, dtype=features.dtype)[:, None]
    blocks = {
        name: DenseBlock(b.spec, torch.cat([eye[..., c] for c in b.spec.columns], dim=2))
        for name, b in features.blocks.items()
    }
    return projection(GradientFeatures(blocks, p, 1, p))


@pytest.mark.parametrize("kind", PROJECTIONS)
@pytest.mark.parametrize("name", DEFINED_ON)
def test_is_one_linear_map_whatever_the_form(kind, name):
    task, examples = _case(name)
    dim = min(17, task.n_parameters - 1)
    projection = make_projection(task, dim, projection=kind, random_state=3)
    engine = GradientEngine(task, batch_size=4)
    dense = Gradients(engine, examples, _rows).matrix()
    matrix = _as_matrix(projection, Gradients(engine, examples, _rows).features())
    assert matrix.shape == (task.n_parameters, dim)
    for keep_factors in (False, True):
        features = Gradients(engine, examples, _rows, keep_factors=keep_factors).features()
        _close(features.project(projection), dense @ matrix)
        features.workspace = 64
        _close(features.project(projection), dense @ matrix)
    _close(Gradients(engine, examples, _rows).project(projection), dense @ matrix)


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_inner_products_are_kept_in_expectation(kind):
    task, examples = mlp_problem(n=4)
    features = Gradients(GradientEngine(task), examples, ggn_cotangent(task)).features()
    exact = features.dot(features)
    draws = []
    for seed in range(400):
        projected = features.project(make_projection(task, 20, projection=kind, random_state=seed))
        draws.append(projected @ projected.T)
    draws = torch.stack(draws)
    error = (draws.mean(0) - exact).abs()
    spread = draws.std(0) / len(draws) ** 0.5
    assert bool((error <= 5 * spread).all())
    assert bool((spread < 0.2 * exact.abs().max()).all())
    if kind != "two_sided":  # the error of a dense kind falls with 1 / sqrt(dim)
        scale = exact.diagonal().sqrt()
        assert float((draws.std(0) / (scale[:, None] * scale)).max()) < 4 / 20**0.5


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_seed_decides_and_pickling_keeps(kind):
    task, examples = mlp_problem()
    features = Gradients(GradientEngine(task), examples, ggn_cotangent(task)).features()
    projection = make_projection(task, 9, projection=kind, random_state=5)
    first = features.project(projection)
    restored = pickle.loads(pickle.dumps(projection))
    assert len(pickle.dumps(projection)) < 1000
    assert torch.equal(features.project(restored), first)
    again = make_projection(GradientEngine(task), 9, projection=kind, random_state=5)
    assert torch.equal(features.project(again), first)
    state = make_projection(task, 9, projection=kind, random_state=np.random.RandomState(5))
    assert torch.equal(features.project(state), first)
    other = make_projection(task, 9, projection=kind, random_state=6)
    assert not torch.allclose(features.project(other), first)


def test_enough_dims_project_nothing():
    task, examples = mlp_problem()
    engine = GradientEngine(task)
    projection = make_projection(task, task.n_parameters + 5, random_state=0)
    assert projection.dim == task.n_parameters
    _close(
        Gradients(engine, examples, _rows).project(projection),
        Gradients(engine, examples, _rows).matrix(),
        0,
    )


def test_auto_is_dense_while_that_is_cheap():
    task, _ = mlp_problem()
    assert make_projection(task, 50).projection == "rademacher"
    big = make_task(torch.nn.Linear(3000, 100))
    assert make_projection(big, 100).projection == "factored"


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"dim": 0}, "dim: got 0"),
        ({"dim": 2.0}, "dim: got 2.0"),
        ({"dim": 3, "projection": "x"}, "projection: got"),
    ],
)
def test_bad_arguments(kwargs, match):
    task, _ = mlp_problem()
    with pytest.raises(ValueError, match=match):
        make_projection(task, **kwargs)


def test_projection_of_another_task_is_refused():
    task, examples = mlp_problem()
    other = make_projection(make_task(torch.nn.Linear(9, 3)), 4)
    with pytest.raises(ValueError, match="made for 30 parameters"):
        Gradients(GradientEngine(task), examples, _rows).features().project(other)


# -- random numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_random_rows_do_not_depend_on_how_they_are_asked_for(kind):
    like = normal(1)
    dim = 2**13  # 32 rows a stream
    whole = random_rows(kind, 7, "a", 0, 100, dim, like)
    parts = [random_rows(kind, 7, "a", i, j, dim, like) for i, j in ((0, 3), (3, 40), (40, 100))]
    assert torch.equal(torch.cat(parts), whole)
    assert abs(float(whole.mean())) < 5 / whole.numel() ** 0.5
    assert abs(float(whole.square().mean()) - 1) < 0.01
    gram = whole @ whole.T / dim
    assert float((gram - torch.eye(100)).abs().max()) < 0.1
    if kind == "rademacher":
        assert set(whole.unique().tolist()) == {-1.0, 1.0}
    for other in (
        random_rows(kind, 8, "a", 0, 1, dim, like),
        random_rows(kind, 7, "b", 0, 1, dim, like),
    ):
        assert abs(float((other * whole[:1]).mean())) < 0.06


def test_random_stream_stays_as_it_is():
    # scores with a given random_state must stay the same from release to release
    signs = random_rows("rademacher", 0, "all", 0, 1, 12, normal(1))[0]
    assert signs.tolist() == [-1, 1, 1, -1, 1, 1, 1, 1, -1, 1, 1, -1]


def test_dims_are_shared_out():
    class Spec:
        def __init__(self, width):
            self.width = width

    dims = share_dims([Spec(100), Spec(10_000), Spec(1)], 50)
    assert sum(dims) == 50
    assert dims[1] > dims[0] > dims[2] >= 1
    with pytest.raises(ValueError, match="one dim per layer"):
        share_dims([Spec(3), Spec(3)], 1)
