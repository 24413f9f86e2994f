"""Standard deviations and intervals of scores, against weighted fits and single models."""

import warnings
from itertools import product

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax, softmax
from scipy.stats import false_discovery_control, permutation_test
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.neural_network import MLPClassifier

from influencekit import TRAK, GroupAttributor, InfluenceFunction, LDSSearch
from influencekit._intervals import benjamini_hochberg, sign_flips
from influencekit.removal import _bootstrap

EXACT = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}
D, T = load_diabetes(return_X_y=True)
X, Y, Q = D[:30, :3] * 10, T[:30] / 50, D[30:34, :3] * 10


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(_bootstrap, "N_BOOTSTRAP", 12)


def replicates(weights, seed=0):
    """Weights of the rows in each replicate."""
    rng = np.random.default_rng(np.random.RandomState(seed).randint(2**31 - 1))
    for _ in range(12):
        draws = rng.exponential(size=len(weights))
        yield weights * draws * weights.sum() / (weights @ draws)


A, B = np.c_[X, np.ones(len(X))], np.c_[Q, np.ones(len(Q))]


def hessian(weights, alpha):
    return A.T @ (weights[:, None] * A) + np.diag([alpha] * X.shape[1] + [0.0])


def with_and_without(weights, drawn, j, alpha, order="newton"):
    """Coefficients of a replicate in which row j counts once, and without it."""
    theta = np.linalg.solve(hessian(weights, alpha), A.T @ (weights * Y))
    # slopes at held-out predictions: (ŷ - y) / (1 - h)
    h = weights * np.einsum("ia,ab,ib->i", A, np.linalg.inv(hessian(weights, alpha)), A)
    slopes = (A @ theta - Y) / (1 - h)
    once, without = drawn.copy(), drawn.copy()
    once[j], without[j] = weights[j], 0.0
    theta = theta - np.linalg.solve(hessian(once, alpha), A.T @ ((once - weights) * slopes))
    left = hessian(once if order == "first" else without, alpha)
    return theta, theta + np.linalg.solve(left, weights[j] * A[j] * (A[j] @ theta - Y[j]))


@pytest.mark.parametrize("order", ["first", "leverage", "newton"])
def test_deviations_of_ridge_are_those_of_steps_to_other_samples(order, few):
    weights = np.random.default_rng(1).uniform(0.5, 2, len(X))
    effects = np.empty((12, len(Q), len(X)))
    for b, drawn in enumerate(replicates(weights)):
        for j in range(len(X)):
            once, without = with_and_without(weights, drawn, j, 2.0, order)
            effects[b, :, j] = B @ (once - without)
    model = Ridge(2.0).fit(X, Y, sample_weight=weights)
    influence = InfluenceFunction(output="prediction", removal_order=order, random_state=0)
    influence.fit(model, X, Y, sample_weight=weights)
    scores, stds = influence.score(Q, return_std=True)
    np.testing.assert_allclose(stds, effects.std(0, ddof=1), rtol=1e-6)
    np.testing.assert_array_equal(scores, influence.score(Q))


def test_deviations_of_softmax_are_near_those_of_dense_steps(few):
    iris, kinds = (a[::2] for a in load_iris(return_X_y=True))
    model = LogisticRegression(**EXACT).fit(iris, kinds)
    rows, R = np.c_[iris, np.ones(75)], np.kron(np.eye(3), np.diag([1.0] * 4 + [1e-9]))
    start = np.c_[model.coef_, model.intercept_]

    def parts(theta, at=None):
        p = softmax(rows @ theta.T if at is None else at, axis=1)
        return p - np.eye(3)[kinds], p[:, :, None] * (np.eye(3) - p[:, None])

    def curvature(S, weights):
        return np.einsum("i,iab,id,ie->adbe", weights, S, rows, rows).reshape(15, 15) + R

    def step(H, pulls):
        return np.linalg.solve(H, (pulls.T @ rows).ravel()).reshape(3, 5)

    g, S = parts(start)
    alone = [np.eye(75)[[i]].T * g for i in range(75)]
    moved = [step(curvature(S, 1.0 - np.eye(75)[i]), alone[i]) @ rows[i] for i in range(75)]
    g_unseen, S_unseen = parts(start, rows @ start.T + moved)
    effects, picked = [], [0, 33, 60]
    for drawn in replicates(np.ones(75)):
        said = []
        for j in picked:
            once, without = (np.where(np.arange(75) == j, own, drawn) for own in (1.0, 0.0))
            theta = start - step(curvature(S_unseen, once), (once - 1)[:, None] * g_unseen)
            own_g, own_S = parts(theta)
            less = theta + step(curvature(own_S, without), (once - without)[:, None] * own_g)
            outputs = (np.c_[iris[:4], np.ones(4)] @ t.T for t in (theta, less))
            said.append(np.subtract(*(log_softmax(z, axis=1)[:, 0] for z in outputs)))
        effects.append(said)
    influence = InfluenceFunction(removal_order="newton", random_state=0).fit(model, iris, kinds)
    found = influence.score(iris[:4], kinds[:4], return_std=True)[1][:, picked]
    np.testing.assert_allclose(found, np.std(effects, axis=0, ddof=1).T, rtol=0.2)


def test_coefficients_have_deviations(few):
    influence = InfluenceFunction(output="coef", removal_order="newton", random_state=0)
    stds = influence.fit(LinearRegression().fit(X, Y), X, Y).score([0, -1], return_std=True)[1]
    effects = np.empty((12, 2, len(X)))
    for b, drawn in enumerate(replicates(np.ones(len(X)))):
        for j in range(len(X)):
            once, without = with_and_without(np.ones(len(X)), drawn, j, 0.0)
            effects[b, :, j] = (once - without)[[0, -1]]
    np.testing.assert_allclose(stds, effects.std(0, ddof=1), rtol=1e-6)


@pytest.mark.parametrize("order", ["first", "newton"])
@pytest.mark.parametrize(("far", "count", "largest"), [(8, 200, 100), (40, 1000, np.inf)])
def test_a_row_that_holds_an_exponential_down(far, count, largest, order, few, rng):
    """Without it a step overshoots, in some replicates beyond what can be computed."""
    rows = rng.normal(size=(60, 3))
    rows[0] *= far
    counts = rng.poisson(np.exp(rows[:, 0].clip(-2, 2))).astype(float)
    counts[0] = count
    model = PoissonRegressor(alpha=0, solver="newton-cholesky", tol=1e-8).fit(rows, counts)
    influence = InfluenceFunction(output="prediction", removal_order=order, random_state=0)
    stds = influence.fit(model, rows, counts).score(rows[5:8], return_std=True)[1]
    assert np.isfinite(stds).all() and np.median(stds) < 1 and stds.max() < largest


def nets(n_models, y):
    iris = load_iris().data[::5]
    made = (MLPClassifier((3,), max_iter=30, random_state=i) for i in range(n_models))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return iris, [net.fit(iris, y) for net in made]


def test_an_ensemble_has_the_standard_error_of_its_mean():
    kinds = load_iris().target[::5]
    iris, models = nets(6, kinds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        influence = InfluenceFunction(damping=0.1).fit(models, iris, kinds)
        single = [InfluenceFunction(damping=0.1).fit(m, iris, kinds) for m in models]
    parts = np.stack([one.score(iris[:5], kinds[:5]) for one in single])
    scores, stds = influence.score(iris[:5], kinds[:5], return_std=True)
    np.testing.assert_allclose(stds, parts.std(0, ddof=1) / np.sqrt(6))
    np.testing.assert_allclose(scores, parts.mean(0))
    table = influence.top_k(iris[:5], kinds[:5], k=30, as_frame=True, interval=0.8)
    table = table.sort_values(["query", "row"])
    half = stats.t(5).ppf(0.9) * np.sqrt(2) * stds
    np.testing.assert_allclose(table["low"], (scores - half).ravel(), rtol=1e-6)
    np.testing.assert_allclose(table["high"], (scores + half).ravel(), rtol=1e-6)
    assert (table["holds_zero"] == (table["low"] * table["high"] <= 0)).all()
    flips = np.array(list(product([1, -1], repeat=6)))
    totals = np.abs(np.einsum("sm,mij->sij", flips, parts))
    p = (totals >= totals[0] * (1 - 1e-9)).mean(0)
    adjusted = false_discovery_control(p, axis=1)
    assert (table["significant"] == (adjusted <= 0.2).ravel()).all()
    assert table["significant"].any() and not table["significant"].all()


def test_a_list_of_a_linear_model_marks_what_holds_zero(few):
    pytest.importorskip("pandas")
    influence = InfluenceFunction(output="prediction", random_state=0)
    influence.fit(LinearRegression().fit(X, Y), X, Y)
    scores, stds = influence.score(Q, return_std=True)
    table = influence.top_k(Q, k=30, as_frame=True, interval=0.9).sort_values(["query", "row"])
    half = 1.644853627 * np.sqrt(2) * stds
    np.testing.assert_allclose(table["high"] - table["score"], half.ravel(), rtol=1e-6)
    assert (table["holds_zero"] == (np.abs(scores) <= half).ravel()).all()
    assert "significant" not in table


def test_discoveries_are_those_of_scipy(rng):
    p = rng.uniform(size=(200, 30)) ** rng.choice([1, 4], (200, 1))
    expected = false_discovery_control(p, axis=1) <= 0.1
    np.testing.assert_array_equal(benjamini_hochberg(p, 0.1), expected)
    assert expected.any() and not expected.all()


def test_labels_of_pure_noise_are_discovered_at_the_level(rng):
    """Each of ten models has its own noise as labels, so no row matters on average."""
    A, queries = rng.normal(size=(40, 3)), rng.normal(size=(5, 3))
    found = []
    for _ in range(40):
        parts = []
        for _ in range(10):
            y = rng.permutation(np.arange(40) % 2)
            model = LogisticRegression(C=0.1).fit(A, y)
            p = model.predict_proba(A)[:, 1]
            H = (A * (p * (1 - p))[:, None]).T @ A + 10 * np.eye(3)
            parts.append(-queries @ np.linalg.solve(H, (A * (p - y)[:, None]).T))
        found.append(benjamini_hochberg(sign_flips(np.array(parts)), 0.1).any(1))
    share, error = np.mean(found), np.std(np.mean(found, 1)) / np.sqrt(40)
    assert share <= 0.1 + 2 * error


@pytest.mark.parametrize("n_models", [5, 14])
def test_flips_are_those_of_scipy(n_models, rng):
    parts = rng.normal(0.4, 1, size=(n_models, 2, 3))
    expected = permutation_test(
        (parts,), lambda x, axis: x.mean(axis), permutation_type="samples", axis=0
    ).pvalue
    np.testing.assert_allclose(sign_flips(parts), expected, atol=0 if n_models == 5 else 0.06)


def test_a_spread_that_is_not_known_is_refused():
    kinds = load_iris().target[::5]
    iris, models = nets(2, kinds)
    asked = iris[:2], kinds[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused = [
            InfluenceFunction(damping=0.1).fit(models[0], iris, kinds),
            TRAK(projection_dim=8).fit(models, iris, kinds),
            GroupAttributor(InfluenceFunction(damping=0.1)).fit(models, iris, kinds, groups=kinds),
        ]
    for attributor in refused:
        with pytest.raises(ValueError, match="is not known"):
            attributor.score(*asked, return_std=True)
    fisher = InfluenceFunction("fisher").fit(
        LogisticRegression(**EXACT).fit(iris, kinds), iris, kinds
    )
    with pytest.raises(ValueError, match="accepted is curvature='ggn'"):
        fisher.score(*asked, return_std=True)
    with pytest.raises(ValueError, match="Give as_frame=True"):
        fisher.top_k(*asked, k=2, interval=0.9)
    with pytest.raises(ValueError, match="between 0 and 1"):
        fisher.top_k(*asked, k=2, interval=90, as_frame=True)


def test_a_search_has_the_deviations_of_what_it_chose(few):
    model = Ridge(1.0).fit(X, Y)
    inner = InfluenceFunction(output="prediction", random_state=0)
    search = LDSSearch(inner, n_trials=2, n_subsets=4, random_state=0)
    search.fit(model, X, Y, X_query=Q)
    stds = search.score(Q, return_std=True)[1]
    np.testing.assert_array_equal(stds, search.best_attributor_.score(Q, return_std=True)[1])
