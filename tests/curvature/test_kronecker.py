"""K-FAC and EK-FAC against dense Kronecker products, and the laws of both."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import nn

from influencekit import InfluenceFunction, as_task
from influencekit.curvature import EKFAC, KFAC, CurvatureProblem
from influencekit.curvature._problem import ggn_rows
from influencekit.curvature.exact._exact import decompose_parameters
from influencekit.curvature.kronecker import _scores as products
from influencekit.curvature.kronecker._spectrum import KroneckerPath, KroneckerSums, ScoreSums
from influencekit.damping import auto_damping
from influencekit.data import make_examples
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent, output_cotangent
from influencekit.gradients import _store as store
from influencekit.gradients.blocks._outer import OuterBlock
from tests._shared.marks import NOT_TRAINED
from tests.curvature._dense_reference import (
    gauss_newton,
    loss_gradients,
    output_gradients,
    scores,
    surrogate_indicator,
)
from tests.curvature._kronecker_reference import (
    MODULES,
    dense_kronecker,
    draw,
    empirical_fisher,
    inputs,
)

N, M = 37, 5


def margin(outputs, targets):
    return outputs.gather(1, targets[:, None])[:, 0] * 2.0


class Setting:
    """A model with its data, penalty and dense gradients."""

    def __init__(self, name="mlp", penalized="weights", weighted=True, **engine):
        net = MODULES[name]().double()
        with torch.no_grad():
            for i, p in enumerate(net.parameters()):
                p.copy_(draw(p.shape, 10 + i))
        self.task = as_task(net, loss=nn.CrossEntropyLoss())
        X = inputs(name, N + M)
        t = torch.randint(3, (N + M,), generator=torch.Generator().manual_seed(2))
        self.X, self.t, self.Xq, self.tq = X[:N], t[:N], X[N:], t[N:]
        weights = np.random.RandomState(0).uniform(0.5, 2, N) if weighted else np.ones(N)
        self.weights = weights / weights.sum()
        strength = {"weights": 0.2, "all": 0.2, "none": 0.0}[penalized]
        self.penalty = np.concatenate(
            [
                np.full(p.numel(), strength if p.ndim > 1 or penalized == "all" else 0.0)
                for p in self.task.parameters.values()
            ]
        )
        engine, train = GradientEngine(self.task, **engine), make_examples(self.task, X[:N], t[:N])
        queries = make_examples(self.task, self.Xq, self.tq)
        self.queries = Gradients(engine, queries, output_cotangent(margin))
        self.problem = CurvatureProblem(
            Gradients(engine, train, loss_cotangent(self.task)),
            torch.as_tensor(self.weights),
            torch.as_tensor(self.penalty),
        )

    def data(self, fisher):
        reference = gauss_newton if fisher == "true" else empirical_fisher
        return reference(self.task, self.X, self.t, self.weights)

    def dense(self, fisher, corrected):
        data, penalty = self.data(fisher), self.penalty
        arguments = (self.task, self.X, self.t, self.weights, fisher, penalty)
        return dense_kronecker(*arguments, data, corrected)

    def gradients(self):
        g = loss_gradients(self.task, self.X, self.t)
        return g, output_gradients(self.task, self.Xq, self.tq, margin)

    def path(self, curvature):
        return curvature.factorize(self.problem).path(self.queries)


KINDS = {KFAC: False, EKFAC: True}


@pytest.mark.parametrize("fisher", ["true", "empirical"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODULES)
def test_equals_dense_kronecker_products(name, kind, fisher):
    s = Setting(name)
    spectrum = kind(fisher).factorize(s.problem)
    expected = s.dense(fisher, KINDS[kind])
    p = len(expected)
    np.testing.assert_allclose(
        spectrum.eigenvalues, np.linalg.eigvalsh(expected), rtol=1e-8, atol=1e-10
    )
    for damping in (0.03, 1.0):
        dense = expected + damping * np.eye(p)
        inverse = spectrum.solve(torch.eye(p, dtype=torch.float64), damping)
        np.testing.assert_allclose(inverse, np.linalg.inv(dense), rtol=1e-8, atol=1e-8)
        g, q = s.gradients()
        path = spectrum.path(s.queries)
        wanted = scores(q, dense, g, s.weights)
        np.testing.assert_allclose(path.scores(damping), wanted, rtol=1e-8, atol=1e-10)
        own = np.einsum("ij,ji->i", g, np.linalg.solve(dense, g.T))
        np.testing.assert_allclose(spectrum.self_products(damping), own, rtol=1e-8)
        masks = np.random.RandomState(1).rand(6, N) < 0.5
        sums = path.subset_sums(masks)
        assert isinstance(sums, KroneckerSums)
        np.testing.assert_allclose(sums.at(damping), wanted @ masks.T, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(
            sums.at([1.0, damping])[1], wanted @ masks.T, rtol=1e-8, atol=1e-10
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODULES)
def test_indicator_equals_dense(name, kind):
    s = Setting(name, penalized="all")
    curvature = s.dense("true", KINDS[kind])
    data = curvature - 0.2 * np.eye(len(curvature))
    g, q = s.gradients()
    spectrum = kind("true").factorize(s.problem)
    dampings = [0.01, 0.5, 20.0]
    rows = torch.tensor([30, 2, 17])
    path = spectrum.path(s.queries)
    inverses = [np.linalg.inv(curvature + d * np.eye(len(curvature))) for d in dampings]
    expected = [surrogate_indicator(q, data, inverse) for inverse in inverses]
    np.testing.assert_allclose(path.xi(dampings), expected, rtol=1e-8)
    expected = [surrogate_indicator(g[rows], data, inverse) for inverse in inverses]
    np.testing.assert_allclose(spectrum.train_path(rows).xi(dampings), expected, rtol=1e-8)


@pytest.mark.parametrize("name", MODULES)
def test_corrected_eigenvalues_are_the_diagonal_of_the_true_curvature(name):
    """``diag(Qᵀ F Q)`` with the basis read off the spectrum itself."""
    s = Setting(name, penalized="none")
    spectrum = EKFAC("true").factorize(s.problem)
    data = s.data("true")
    identity = torch.eye(len(data), dtype=torch.float64)
    for basis in spectrum.bases.values():
        own = torch.cat([identity[:, columns] for columns in basis.spec.columns], dim=1)
        vectors = basis.rotate_rows(own).numpy()  # basis vectors as columns
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(vectors.shape[1]), atol=1e-12)
        diagonal = np.diag(vectors.T @ data @ vectors)
        np.testing.assert_allclose(
            spectrum.data_table[basis.columns], diagonal, rtol=1e-9, atol=1e-12
        )


@NOT_TRAINED
def test_exact_where_the_curvature_is_a_kronecker_product():
    """Linear regression with several outputs: F = XᵀX/n ⊗ I, and both are the Hessian."""
    X, y = draw((30, 4), 0), draw((30, 3), 1)
    torch.manual_seed(0)
    net = nn.Linear(4, 3).double()
    found = [
        InfluenceFunction(c, 0.3, output="neg_loss")
        .fit(as_task(net, loss=nn.MSELoss()), X, y)
        .score(X[:5], y[:5])
        for c in ("ggn", "kfac", "ekfac")
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-9, atol=1e-12)


def test_blocks_of_one_layer_with_a_single_output_are_exact_after_one_example():
    """One example's Gauss-Newton matrix of one layer is itself a Kronecker product."""
    X, t = draw((1, 4), 0), torch.tensor([1])
    net = nn.Linear(4, 3).double()
    task = as_task(net, loss=nn.CrossEntropyLoss())
    one = torch.ones(1, dtype=torch.float64)
    zero = torch.zeros(task.n_parameters, dtype=torch.float64)
    problem = CurvatureProblem(
        Gradients(GradientEngine(task), make_examples(task, X, t), loss_cotangent(task)), one, zero
    )
    exact = decompose_parameters(ggn_rows(problem))
    queries = make_examples(task, draw((4, 4), 1), torch.tensor([0, 1, 2, 0]))
    queries = Gradients(GradientEngine(task), queries, output_cotangent(margin))
    expected = exact.path(queries).scores(0.1)
    for kind in KINDS:
        spectrum = kind("true").factorize(problem)
        found = spectrum.path(queries).scores(0.1)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["mlp", "conv", "embedding"])
def test_batch_size_and_order_do_not_matter(name, kind):
    expected = Setting(name).path(kind("true")).scores(0.1)
    np.testing.assert_allclose(
        Setting(name, batch_size=4).path(kind("true")).scores(0.1), expected, rtol=1e-7, atol=1e-11
    )
    s = Setting(name)
    order = np.random.RandomState(3).permutation(N)
    train = s.problem.examples.take(order)
    weights, penalty = torch.as_tensor(s.weights[order]), s.problem.penalty
    permuted = CurvatureProblem(
        Gradients(s.problem.engine, train, loss_cotangent(s.task)), weights, penalty
    )
    found = kind("true").factorize(permuted).path(s.queries).scores(0.1)
    np.testing.assert_allclose(found, expected[:, order], rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("name", ["mlp", "sequence", "embedding"])
def test_what_does_not_fit_is_streamed(name):
    """With memory for nothing the same numbers, and nothing kept."""
    rows = torch.tensor([30, 2, 17])
    masks = np.random.RandomState(1).rand(6, N) < 0.5
    results = []
    for engine in ({}, {"max_memory": 2_000, "batch_size": 5}):
        s = Setting(name, **engine)
        spectrum = EKFAC("true").factorize(s.problem)
        assert (spectrum.train.parts is None) == bool(engine)
        path = spectrum.path(s.queries)
        sums = path.subset_sums(masks)
        assert isinstance(sums, ScoreSums if engine else KroneckerSums)
        xi = spectrum.train_path(rows).xi([0.1, 3.0])
        found = [path.scores(0.1), sums.at([0.1, 1.0]), xi, spectrum.self_products(0.1).numpy()]
        results.append(found)
    for streamed, held in zip(*results[::-1], strict=True):
        np.testing.assert_allclose(streamed, held, rtol=1e-7, atol=1e-11)


def test_pieces_in_memory_join_in_order(monkeypatch):
    """Many pieces of coordinates, and rows of some of them in any order."""
    rows = torch.tensor([30, 2, 17, 36, 0, 2])
    whole = EKFAC("true").factorize(Setting().problem)
    monkeypatch.setattr(store, "_PIECE", 8)
    pieces = EKFAC("true").factorize(Setting(batch_size=4).problem)
    assert len(pieces.train.parts) > 3
    expected, found = whole.train_path(rows), pieces.train_path(rows)
    np.testing.assert_allclose(found.products(0.1), expected.products(0.1), rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(found.xi([0.1]), expected.xi([0.1]), rtol=1e-8)


class TestSampledLabels:
    def test_eigenvalues_approach_those_of_all_labels(self):
        s = Setting()
        expected = EKFAC("true").factorize(s.problem)
        found = EKFAC("sampled", n_samples=1500, random_state=0).factorize(s.problem)
        np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=0.1, atol=4e-3)

    def test_eigenvalues_are_unbiased_in_the_drawn_basis(self):
        """K-FAC of the basis' draws shares its eigenvectors: <K-FAC, EK-FAC - F> has mean 0."""
        s = Setting(penalized="none")

        def dense(kind, seed):
            spectrum = kind("sampled", random_state=seed).factorize(s.problem)
            inverse = spectrum.solve(torch.eye(len(s.penalty), dtype=torch.float64), 1.0).numpy()
            return np.linalg.inv(inverse) - np.eye(len(inverse))

        curvature = s.data("true")
        excess = [
            np.sum(dense(KFAC, seed) * (dense(EKFAC, seed) - curvature)) for seed in range(24)
        ]
        assert abs(np.mean(excess)) < 3 * np.std(excess, ddof=1) / np.sqrt(len(excess))

    def test_draws_follow_the_seed_and_not_the_batches(self):
        def one(seed, **engine):
            return Setting(**engine).path(EKFAC("sampled", random_state=seed)).scores(0.1)

        np.testing.assert_allclose(one(0, batch_size=4), one(0), rtol=1e-8, atol=1e-11)
        assert np.abs(one(1) - one(0)).max() > 1e-3 * np.abs(one(0)).max()

    @NOT_TRAINED
    def test_auto_takes_all_labels_only_while_they_are_few(self):
        expected = Setting().path(EKFAC("true")).scores(0.1)
        np.testing.assert_array_equal(Setting().path(EKFAC()).scores(0.1), expected)
        X, t = draw((20, 3), 0), torch.arange(20)
        task = as_task(nn.Linear(3, 40).double(), loss=nn.CrossEntropyLoss())
        seeds = [0, 0, 1]
        found = [
            InfluenceFunction("ekfac", 0.1, random_state=seed).fit(task, X, t).score(X[:2], t[:2])
            for seed in seeds
        ]
        np.testing.assert_array_equal(found[0], found[1])
        assert np.abs(found[2] - found[0]).max() > 1e-6 * np.abs(found[0]).max()


class TestLowRank:
    """Products of wide layers in low rank, with the switch turned for small ones."""

    def fitted(self, monkeypatch, tolerance, kind=EKFAC, dtype=torch.float64):
        monkeypatch.setattr(products, "_SMALLEST_WORK", 0)
        monkeypatch.setattr(products, "_FIRST_SIDE", 16)
        monkeypatch.setattr(products, "_RANK_OVERHEAD", 0)
        n, d = 200, 100
        X = (draw((n + 20, d), 0) * torch.logspace(0, -2, d)).to(dtype)
        net = nn.Sequential(nn.Linear(d, 90), nn.Tanh(), nn.Linear(90, 4)).to(dtype)
        with torch.no_grad():
            for i, p in enumerate(net.parameters()):
                p.copy_(draw(p.shape, 5 + i) / 5)
        t = torch.randint(4, (n + 20,), generator=torch.Generator().manual_seed(0))
        task = as_task(net, loss=nn.CrossEntropyLoss())
        curvature = kind("true", tolerance=tolerance)
        return InfluenceFunction(curvature, 1e-3).fit(task, X[:n], t[:n]), X[n:], t[n:]

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
    def test_error_stays_below_the_tolerance(self, monkeypatch, tolerance, kind):
        exact, X, t = self.fitted(monkeypatch, 0, kind)
        rough, _, _ = self.fitted(monkeypatch, tolerance, kind)
        plan = rough.curvature_.plan(1e-3)["0"]
        assert any(tile.table is None for tile in plan)
        assert all(tile.table is not None for tile in exact.curvature_.plan(1e-3)["0"])
        expected, found = exact.score(X, t), rough.score(X, t)
        error = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
        assert 0 < error < tolerance

    def test_default_keeps_every_row_in_order(self, monkeypatch):
        exact, X, t = self.fitted(monkeypatch, 0, dtype=torch.float32)
        default, _, _ = self.fitted(monkeypatch, EKFAC().tolerance, dtype=torch.float32)
        for a, b in zip(default.score(X, t), exact.score(X, t), strict=True):
            assert 1 - np.corrcoef(a, b)[0, 1] < 1e-6

    def test_a_query_alone_scores_as_among_others(self, monkeypatch):
        fitted, X, t = self.fitted(monkeypatch, 1e-2)
        whole = fitted.score(X, t)
        np.testing.assert_allclose(fitted.score(X[3:4], t[3:4])[0], whole[3], rtol=1e-9, atol=1e-12)

    def test_plans_follow_the_damping(self, monkeypatch):
        fitted, X, t = self.fitted(monkeypatch, 1e-6)
        first = fitted.score(X, t)
        other = fitted.set_damping(1.0).score(X, t)
        exact, _, _ = self.fitted(monkeypatch, 0)
        np.testing.assert_allclose(
            other, exact.set_damping(1.0).score(X, t), atol=1e-5 * np.abs(other).max()
        )
        np.testing.assert_array_equal(fitted.set_damping(1e-3).score(X, t), first)


class TestDefaultDamping:
    """The λ at which scores have a mean cosine of 0.57 with Grad-Dot and ξ is 0.3 or more."""

    @pytest.mark.parametrize("fisher", ["true", "empirical", "sampled"])
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", ["conv", "normalized"])
    def test_equals_the_root_of_dense_scores(self, name, kind, fisher):
        s = Setting(name, penalized="none")
        spectrum = kind(fisher, random_state=0).factorize(s.problem)
        if fisher == "sampled":  # the draws are the library's own: so is the matrix
            inverse = spectrum.solve(torch.eye(len(s.penalty), dtype=torch.float64), 1.0).numpy()
            curvature = np.linalg.inv(inverse) - np.eye(len(inverse))
        else:
            curvature = s.dense(fisher, KINDS[kind])
        g, eye = s.gradients()[0], np.eye(len(curvature))
        plain = (g @ g.T) * s.weights

        def cosine(log_damping):
            found = scores(g, curvature + np.exp(log_damping) * eye, g, s.weights)
            lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(plain, axis=1)
            return np.mean(-(found * plain).sum(1) / lengths) - 0.57

        def xi(log_damping):
            inverse = np.linalg.inv(curvature + np.exp(log_damping) * eye)
            return surrogate_indicator(g, curvature, inverse).mean() - 0.3

        top = np.log(np.linalg.eigvalsh(curvature)[-1])
        low, high = top - 8 * np.log(10), top + np.log(10)
        roots = [brentq(f, low, high) for f in (cosine, xi) if f(low) < 0]
        assert auto_damping(spectrum) == pytest.approx(np.exp(max(roots)), rel=2e-3)

    def test_rows_are_made_dense_once_for_all_dampings(self, monkeypatch):
        """A search takes many dampings; sums over positions do not depend on them."""
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3))
        task = as_task(net, loss=nn.CrossEntropyLoss())
        data = torch.randn(30, 3, 4, 4), torch.randint(3, (30,))
        InfluenceFunction("ekfac", 1.0).fit(task, *data)  # the layers are looked at once
        made, original = {"auto": 0, 1.0: 0}, OuterBlock.dense
        for damping in made:

            def dense(block, damping=damping):
                made[damping] += block.n_rows * (block.length > 1)
                return original(block)

            monkeypatch.setattr(OuterBlock, "dense", dense)
            InfluenceFunction("ekfac", damping).fit(task, *data)
        assert made["auto"] - made[1.0] <= 2 * 30  # as queries, and as rows

    @pytest.mark.parametrize("kind", KINDS)
    def test_no_damping_is_scored_twice(self, kind, monkeypatch):
        """Scores at infinite damping are the same for the whole search; each is a pass."""
        spectrum = kind().factorize(Setting("normalized", penalized="none").problem)
        dampings, products = [], KroneckerPath.products
        monkeypatch.setattr(
            KroneckerPath, "products", lambda path, d: dampings.append(d) or products(path, d)
        )
        auto_damping(spectrum)
        assert sum(d > 1e3 * float(spectrum.eigenvalues.max()) for d in dampings) == 1
        assert len(set(dampings)) == len(dampings) > 5


def test_wide_blocks_without_factors_are_diagonal(monkeypatch):
    monkeypatch.setattr("influencekit.curvature.kronecker._moments.WIDEST_FULL", 3)
    s = Setting("normalized")
    spectrum = EKFAC("true").factorize(s.problem)
    norm = s.task.module[1]
    own = [
        i for i, p in enumerate(s.task.parameters.values()) if p is norm.weight or p is norm.bias
    ]
    sizes = np.cumsum([0, *(p.numel() for p in s.task.parameters.values())])
    places = np.concatenate([np.arange(sizes[i], sizes[i + 1]) for i in own])
    diagonal = 1 / (np.diag(s.data("true")) + s.penalty + 0.1)[places]
    inverse = spectrum.solve(torch.eye(len(s.penalty), dtype=torch.float64), 0.1).numpy()
    np.testing.assert_allclose(inverse[np.ix_(places, places)], np.diag(diagonal), atol=1e-12)


@NOT_TRAINED
@pytest.mark.filterwarnings("ignore:model. the trainable parameters")  # they are the point
def test_a_layer_that_is_never_called_has_no_curvature():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.used(x)

    X, t = draw((20, 4), 0), torch.arange(20) % 3
    task = as_task(Idle().double(), loss=nn.CrossEntropyLoss())
    alone = as_task(task.module.used, loss=nn.CrossEntropyLoss())
    found = [
        InfluenceFunction("ekfac", 0.1).fit(model, X, t).score(X[:3], t[:3])
        for model in (task, alone)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"fisher": "exact"}, "fisher"),
        ({"n_samples": 0}, "n_samples"),
        ({"tolerance": -1.0}, "tolerance"),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    s = Setting()
    with pytest.raises(ValueError, match=message):
        InfluenceFunction(EKFAC(**parameters)).fit(s.task, s.X, s.t)


def test_projection_is_refused():
    s = Setting()
    with pytest.raises(ValueError, match="does not project"):
        InfluenceFunction("ekfac", projection_dim=4).fit(s.task, s.X, s.t)
