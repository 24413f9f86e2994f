"""LoGra against explicit projection matrices and the exact block-diagonal curvature."""

import warnings

import numpy as np
import pytest
import torch

from influencekit import InfluenceFunction, as_task
from influencekit.curvature import CurvatureProblem, LoGra
from influencekit.curvature.layers import _layer_projections
from influencekit.curvature.layers._layer_projections import LayerProjections
from influencekit.data import make_examples
from influencekit.exceptions import ProjectionWarning, ResourceError
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent
from influencekit.gradients.projections._random import random_rows
from tests._shared.marks import NOT_TRAINED
from tests.curvature._dense_reference import (
    gauss_newton,
    loss_gradients,
    output_gradients,
    scores,
)
from tests.curvature._small_problems import N, margin, of_margin, penalties, problem, uneven


def fitted(task, X, y, weights, penalty, curvature, *, projection_dim=None, **options):
    engine, train = GradientEngine(task, **options), make_examples(task, X, y)
    given = CurvatureProblem(
        Gradients(engine, train, loss_cotangent(task)),
        torch.as_tensor(weights),
        penalty,
        projection_dim=projection_dim,
        random_state=7,
    )
    return curvature.factorize(given)


def flat_columns(spec):
    """Positions in the flat gradient of a layer's matrix (d_out, d_in + 1), row by row."""
    columns = np.concatenate([np.arange(c.start, c.stop) for c in spec.columns])
    if not spec.is_matrix:
        return columns
    size = spec.d_out * spec.d_in
    weight, bias = columns[:size].reshape(spec.d_out, spec.d_in), columns[size:]
    if spec.has_bias:
        weight = np.concatenate([weight, bias[:, None]], axis=1)
    return weight.reshape(-1)


def explicit(projections, p):
    """The projection as a matrix for every block: Kronecker products written out."""
    blocks = []
    for spec in projections.specs:
        columns = flat_columns(spec)
        if spec.is_matrix:
            outputs, inputs = projections.sides[spec.name]
            local = np.kron(outputs.numpy().T, inputs.numpy().T)
        elif len(columns) <= projections.rank**2:
            local = np.eye(len(columns))
        else:
            k = projections.rank**2
            like = torch.empty(0, dtype=torch.float64)
            seed, width = projections.seed, len(columns)
            signs = random_rows("rademacher", seed, spec.name, 0, width, k, like)
            local = signs.numpy().T / np.sqrt(k)
        matrix = np.zeros((len(local), p))
        matrix[:, columns] = local
        blocks.append(matrix)
    return blocks


@pytest.mark.parametrize("kind", ["words", "plain"])
@pytest.mark.parametrize("rows", ["ggn", "fisher"])
@pytest.mark.parametrize("init", ["random", "pca"])
@pytest.mark.parametrize("blocks", ["layers", "all"])
def test_scores_equal_dense_projections(kind, rows, init, blocks):
    task, X, y, Xq, yq = problem(kind)
    penalty, weights = penalties(task)["constant"], uneven()
    curvature = LoGra(3, rows=rows, init=init, blocks=blocks)
    spectrum = fitted(task, X, y, weights, penalty, curvature, batch_size=10)
    g, q = loss_gradients(task, X, y), output_gradients(task, Xq, yq, margin)
    data = gauss_newton(task, X, y, weights) if rows == "ggn" else (g.T * weights) @ g
    projections = explicit(spectrum.projections, task.n_parameters)
    if blocks == "all":
        projections = [np.concatenate(projections)]
    path = spectrum.path(of_margin(task, Xq, yq))
    for damping in (0.01, 1.0):
        expected = 0.0
        for P in projections:
            small = P @ data @ P.T + (0.2 + damping) * np.eye(len(P))
            expected = expected + scores(q @ P.T, small, g @ P.T, weights)
        np.testing.assert_allclose(path.scores(damping), expected, rtol=1e-8, atol=1e-11)
        masks = np.random.RandomState(1).rand(4, N) < 0.5
        sums = path.subset_sums(masks).at(damping)
        np.testing.assert_allclose(sums, expected @ masks.T, rtol=1e-8, atol=1e-11)
    values = spectrum.eigenvalues.numpy()
    assert (np.diff(values) >= 0).all()
    dense = np.sort(np.concatenate([np.linalg.eigvalsh(P @ data @ P.T) for P in projections]))
    np.testing.assert_allclose(values, dense + 0.2, rtol=1e-8)
    np.testing.assert_allclose(spectrum.data_eigenvalues, dense, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("init", ["random", "pca"])
@pytest.mark.parametrize("rows", ["ggn", "fisher"])
def test_full_rank_is_the_exact_block_diagonal_curvature(init, rows):
    task, X, y, Xq, yq = problem()
    penalty, weights = penalties(task)["constant"], uneven()
    spectrum = fitted(task, X, y, weights, penalty, LoGra(10, rows=rows, init=init))
    g, q = loss_gradients(task, X, y), output_gradients(task, Xq, yq, margin)
    data = gauss_newton(task, X, y, weights) if rows == "ggn" else (g.T * weights) @ g
    found = spectrum.path(of_margin(task, Xq, yq)).scores(0.1)
    expected = 0.0
    for spec in spectrum.projections.specs:
        own = flat_columns(spec)
        block = data[np.ix_(own, own)] + 0.3 * np.eye(len(own))
        expected = expected + scores(q[:, own], block, g[:, own], weights)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-11)


def test_penalties_of_a_layer_are_averaged():
    task, X, y, _, _ = problem("plain")
    penalty = penalties(task)["weights"]
    spectrum = fitted(task, X, y, uneven(), penalty, LoGra(3))
    specs, columns = spectrum.projections.specs, spectrum.projections.columns
    found = (spectrum.eigenvalues - spectrum.data_eigenvalues).numpy()
    means = [float(torch.cat([penalty[c] for c in spec.columns]).mean()) for spec in specs]
    own = np.concatenate(
        [np.full(c.stop - c.start, m) for c, m in zip(columns, means, strict=True)]
    )
    np.testing.assert_allclose(np.sort(found), np.sort(own), rtol=1e-9)


def test_random_projections_keep_inner_products_in_expectation():
    task, X, y, _, _ = problem("plain")
    g = loss_gradients(task, X, y)[:6]
    engine, train = GradientEngine(task), make_examples(task, X[:6], y[:6])
    like = torch.empty(0, dtype=torch.float64)
    features = Gradients(engine, train, loss_cotangent(task)).features()
    specs = engine.layout(train).specs
    total, n_draws = 0.0, 200
    for seed in range(n_draws):
        rows = LayerProjections.random(specs, 2, seed, like)(features).numpy()
        total = total + rows @ rows.T / n_draws
    exact = g @ g.T
    assert np.abs(total - exact).max() < 0.2 * np.abs(exact).max()


@pytest.mark.parametrize("exact", [1024, 2])
def test_leading_eigenvectors_of_large_moments_are_close(monkeypatch, exact):
    monkeypatch.setattr(_layer_projections, "_EXACT", exact)
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    moment = torch.as_tensor((basis * 0.6 ** np.arange(40)) @ basis.T)
    found = _layer_projections._leading(moment, 4, 0).numpy()
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-10)
    np.testing.assert_allclose(found @ found.T, basis[:, :4] @ basis[:, :4].T, atol=1e-6)


def test_principal_sides_are_the_leading_eigenvectors():
    task, X, y, _, _ = problem("plain")
    weights = uneven()
    spectrum = fitted(task, X, y, weights, penalties(task)["none"], LoGra(2, init="pca"))
    outputs, inputs = spectrum.projections.sides["0"]
    with_one = np.concatenate([X.numpy(), np.ones((N, 1))], axis=1)
    leading = np.linalg.eigh((with_one.T * weights) @ with_one)[1][:, -2:]
    np.testing.assert_allclose(inputs @ inputs.T, leading @ leading.T, atol=1e-10)
    np.testing.assert_allclose(outputs.T @ outputs, np.eye(2), atol=1e-10)
    # the bias gradient of the first layer is the gradient at its outputs
    bias = loss_gradients(task, X, y)[:, 20:25]
    leading = np.linalg.eigh((bias.T * weights) @ bias)[1][:, -2:]
    np.testing.assert_allclose(outputs @ outputs.T, leading @ leading.T, atol=1e-10)


def test_principal_words_are_the_frequent_ones():
    task, X, y, _, _ = problem()
    X = X.clone()
    X[:, :2] = torch.tensor([5, 2])
    weights = np.full(N, 1 / N)
    spectrum = fitted(task, X, y, weights, penalties(task)["none"], LoGra(2, init="pca"))
    outputs, _ = spectrum.projections.sides["embed"]
    assert set(outputs.sum(1).nonzero()[:, 0].tolist()) == {2, 5}


def test_projection_dim_bounds_all_layers_together():
    task, X, y, _, _ = problem("plain")  # sides 5 x 5 and 3 x 6
    for dim, expected in ((2, 2), (17, 8), (18, 18), (43, 43), (10_000, 43)):
        spectrum = fitted(
            task, X, y, uneven(), penalties(task)["none"], LoGra(), projection_dim=dim
        )
        assert spectrum.train_coordinates.shape == (N, expected)
    with pytest.raises(ResourceError, match="projection_dim"):
        fitted(task, X, y, uneven(), penalties(task)["none"], LoGra(), projection_dim=1)


def test_rank_and_projection_dim_together_are_refused():
    task, X, y, _, _ = problem("plain")
    with pytest.raises(ValueError, match="projection_dim: 9 and LoGra"):
        InfluenceFunction(LoGra(2), projection_dim=9).fit(task, X, y)


def test_default_rank_gives_way_to_memory():
    task, X, y, _, _ = problem("plain")
    args = (task, X, y, uneven(), penalties(task)["none"])
    with pytest.warns(ProjectionWarning, match="rank 2"):
        assert fitted(*args, LoGra(), max_memory=5_000).projections.rank == 2
    with pytest.raises(ResourceError, match="rank=5"):
        fitted(*args, LoGra(5), max_memory=5_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitted(*args, LoGra()).projections.rank == 32


def test_second_moments_need_memory():
    task, X, y, _, _ = problem("plain")
    args = (task, X, y, uneven(), penalties(task)["none"])
    with pytest.raises(ResourceError, match="init='random'"):
        fitted(*args, LoGra(), max_memory=1_500)
    with pytest.warns(ProjectionWarning, match="rank"):
        fitted(*args, LoGra(init="random"), max_memory=1_500)


def test_words_have_no_matrix_of_second_moments():
    task, X, y, _, _ = problem()
    task.module.embed = torch.nn.Embedding(5_000, 4).double()
    task = as_task(task.module, loss=torch.nn.CrossEntropyLoss())
    args = (task, X, y, uneven(), penalties(task)["none"])
    assert fitted(*args, LoGra(2), max_memory=2**26).projections.rank == 2


class Unused(torch.nn.Module):
    """A layer that only long inputs reach."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 3), torch.nn.Linear(3, 3)

    def forward(self, x):
        hidden = self.first(x)
        return self.second(hidden) if x.shape[-1] > 4 else hidden


@pytest.mark.filterwarnings("ignore:model. the trainable parameters")  # they are the point
def test_a_layer_that_is_not_called_has_no_influence():
    task, X, y, Xq, yq = problem("plain")
    task = as_task(Unused().double(), loss=torch.nn.CrossEntropyLoss())
    spectrum = fitted(task, X, y, uneven(), penalties(task)["none"], LoGra(2))
    found = spectrum.path(of_margin(task, Xq, yq)).scores(0.1)
    assert np.isfinite(found).all() and np.abs(found).max() > 0


@NOT_TRAINED
def test_random_state_of_the_curvature_comes_first():
    task, X, y, Xq, yq = problem("plain")

    def score(own, attributor):
        influence = InfluenceFunction(
            LoGra(2, init="random", random_state=own), 1.0, random_state=attributor
        )
        return influence.fit(task, X, y).score(Xq, yq)

    np.testing.assert_array_equal(score(3, 0), score(3, 1))
    np.testing.assert_array_equal(score(None, 3), score(3, 1))
    assert not np.allclose(score(None, 0), score(None, 1))


class Attention(torch.nn.Module):
    """Attention over three places, and the mean of its outputs."""

    def __init__(self):
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = torch.nn.Linear(4, 2)

    def forward(self, X):
        return self.out(self.attention(X, X, X, need_weights=False)[0].mean(1))


@NOT_TRAINED
def test_a_full_rank_of_an_attention_gives_the_exact_scores():
    torch.manual_seed(0)
    X, y = torch.randn(30, 3, 4, dtype=torch.float64), torch.arange(30) % 2
    task = as_task(Attention().double().eval(), loss=torch.nn.CrossEntropyLoss())
    full, exact = (
        InfluenceFunction(curvature, damping=0.1, random_state=0)
        .fit(task, X, y)
        .score(X[:5], y[:5])
        for curvature in (LoGra(rank=12, rows="ggn", blocks="all"), "ggn")
    )
    np.testing.assert_allclose(full, exact, rtol=1e-6, atol=1e-9)
