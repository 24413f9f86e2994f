"""EK-FAC and products of gradients in an index, whole and projected, against dense algebra."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from influencekit import AttributionIndex, GradCos, GradDot, InfluenceFunction, as_task
from influencekit.curvature import EKFAC, KFAC
from influencekit.exceptions import ResourceError
from tests._shared.marks import NOT_TRAINED
from tests.curvature._dense_reference import gauss_newton, loss_gradients, output_gradients
from tests.curvature._kronecker_reference import MODULES, dense_kronecker, draw, inputs

pytestmark = NOT_TRAINED
N, M, DAMPING = 37, 5, 0.05
RANDOM = np.random.RandomState(0)
WEIGHTS = RANDOM.uniform(0.5, 2, N)


def negative_loss(outputs, targets):
    return -nn.functional.cross_entropy(outputs, targets, reduction="none")


class Setting:
    """A model with its data, and its gradients as dense rows."""

    def __init__(self, name="mlp"):
        net = MODULES[name]().double()
        with torch.no_grad():
            for i, p in enumerate(net.parameters()):
                p.copy_(draw(p.shape, 10 + i))
        self.task = as_task(net, loss=nn.CrossEntropyLoss())
        X, t = inputs(name, N + M), torch.randint(3, (N + M,), generator=torch.manual_seed(2))
        self.X, self.t, self.queries = X[:N], t[:N], (X[N:], t[N:])
        self.rows = loss_gradients(self.task, self.X, self.t)
        self.asked = output_gradients(self.task, *self.queries, negative_loss)

    def root(self, corrected, damping=DAMPING):
        """``(A + λI)^-½`` of EK-FAC or K-FAC, dense."""
        shares = WEIGHTS / WEIGHTS.sum()
        data = gauss_newton(self.task, self.X, self.t, shares)
        penalty = np.zeros(self.rows.shape[1])
        own = (self.task, self.X, self.t, shares, "true", penalty)
        dense = dense_kronecker(*own, data, corrected)
        values, vectors = np.linalg.eigh(dense[0] if isinstance(dense, tuple) else dense)
        return vectors / np.sqrt(values + damping) @ vectors.T

    def index(self, attributor, folder, **options):
        index = AttributionIndex(attributor, folder, shard_rows=20, random_state=0, **options)
        return index.fit(self.task, self.X, self.t, sample_weight=WEIGHTS)


def leading(rows, dim):
    """Projector onto the leading right singular vectors of rows."""
    vectors = np.linalg.svd(rows, full_matrices=False)[2][:dim]
    return vectors.T @ vectors


def close(found, expected, rtol=1e-6):
    assert np.abs(found - expected).max() <= rtol * np.abs(expected).max()


def influence(kind):
    return InfluenceFunction(kind(tolerance=0), damping=DAMPING, output="neg_loss")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (EKFAC, "mlp"),
        (KFAC, "embedding"),
        *[
            pytest.param(kind, name, marks=pytest.mark.slow)
            for kind in (EKFAC, KFAC)
            for name in ("conv", "sequence", "normalized")
        ],
    ],
)
def test_kronecker_scores_of_whole_coordinates(kind, name, tmp_path):
    own = Setting(name)
    root = own.root(kind is EKFAC)
    index = own.index(influence(kind), tmp_path / "i")
    shares = WEIGHTS / WEIGHTS.sum()
    close(index.score(*own.queries), -(own.asked @ root) @ (own.rows @ root).T * shares)
    close(index.self_influence(), ((own.rows @ root) ** 2).sum(1) * shares)


def test_another_damping_of_a_kronecker_index(tmp_path):
    own = Setting()
    index = own.index(influence(EKFAC), tmp_path / "i").set_damping(0.4)
    root, shares = own.root(True, 0.4), WEIGHTS / WEIGHTS.sum()
    close(index.score(*own.queries), -(own.asked @ root) @ (own.rows @ root).T * shares)
    close(index.self_influence(), ((own.rows @ root) ** 2).sum(1) * shares)


@pytest.mark.parametrize("dim", [10, 37])  # as many as rows: nothing is lost
def test_leading_directions_of_kronecker_coordinates(dim, tmp_path):
    own = Setting()
    root, shares = own.root(True), WEIGHTS / WEIGHTS.sum()
    options = {"projection_dim": dim, "projection": "pca"}
    index = own.index(influence(EKFAC), tmp_path / "i", **options)
    rows = own.rows @ root
    expected = -(own.asked @ root) @ leading(rows, dim) @ rows.T * shares
    assert index.dim_ == min(dim, np.linalg.matrix_rank(rows, 1e-5))
    close(index.score(*own.queries), expected)
    close(index.self_influence(), (rows**2).sum(1) * shares)  # of whole gradients


@pytest.mark.parametrize("dim", [10, None])
@pytest.mark.parametrize("cosines", [False, True])
def test_leading_directions_of_gradients(cosines, dim, tmp_path):
    own = Setting("conv")
    attributor = GradCos(output="neg_loss") if cosines else GradDot(output="neg_loss")
    rows, asked, shares = own.rows, own.asked, WEIGHTS / WEIGHTS.mean()
    if cosines:
        rows, asked = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (rows, asked))
        shares = np.ones(N)
    index = own.index(attributor, tmp_path / "i", projection_dim=dim)
    kept = leading(rows, dim) if dim else np.eye(rows.shape[1])
    close(index.score(*own.queries), -asked @ kept @ rows.T * shares)
    close(index.self_influence(), (rows**2).sum(1) * shares)


def test_what_a_projection_costs_is_in_the_manifest(tmp_path):
    own = Setting("conv")
    index = own.index(GradDot(output="neg_loss"), tmp_path / "i", projection_dim=4, dtype="int8")
    opened = AttributionIndex.open(tmp_path / "i", own.task)
    asked = np.unique(np.linspace(0, N - 1, 32).astype(int))
    exact = -output_gradients(own.task, own.X[asked], own.t[asked], negative_loss) @ own.rows.T
    exact *= WEIGHTS / WEIGHTS.mean()
    stored = index.score(own.X[asked], own.t[asked])
    found = [spearmanr(a, b).statistic for a, b in zip(exact, stored, strict=True)]
    assert opened.rounding_ == index.rounding_
    np.testing.assert_allclose(index.rounding_["exact_spearman"], np.mean(found), rtol=1e-6)
    np.testing.assert_allclose(index.rounding_["exact_least_spearman"], np.min(found), rtol=1e-6)
    error = np.sqrt(((exact - stored) ** 2).mean() / (exact**2).mean())
    np.testing.assert_allclose(index.rounding_["exact_relative_error"], error, rtol=1e-6)
    assert index.rounding_["relative_error"] < index.rounding_["exact_relative_error"]


@pytest.mark.slow
def test_random_projections_of_kronecker_coordinates_keep_scores_on_average(tmp_path):
    own = Setting()
    root, shares = own.root(True), WEIGHTS / WEIGHTS.sum()
    expected, found = -(own.asked @ root) @ (own.rows @ root).T * shares, []
    for seed in range(40):
        index = AttributionIndex(
            influence(EKFAC), tmp_path / str(seed), projection_dim=20, projection="factored"
        )
        index.set_params(random_state=seed).fit(own.task, own.X, own.t, sample_weight=WEIGHTS)
        found.append(index.score(*own.queries))
    errors = (np.mean(found, axis=0) - expected) / (np.std(found, axis=0) / np.sqrt(40))
    assert np.abs(errors).max() < 5
    assert 0.6 < np.sqrt((errors**2).mean()) < 1.5


def test_too_many_directions_for_the_memory_are_refused(tmp_path):
    own, attributor = Setting(), GradDot(max_memory="8kB")
    with pytest.raises(ResourceError, match=r"20 leading directions.*projection='factored'"):
        own.index(attributor, tmp_path / "i", projection_dim=20, projection="pca")
