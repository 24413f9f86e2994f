"""Linear models beyond least squares and logistic regression: dense references and refits."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    PoissonRegressor,
    RidgeClassifier,
    TweedieRegressor,
)
from sklearn.svm import LinearSVC

from influencekit import InfluenceFunction, as_task
from influencekit.exceptions import UnsupportedModelError
from influencekit.models._predict import decision_function, predict
from tests.models._objective import assert_stationary

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3)) + [0, 2, -1]
ETA = 0.3 * X @ [1.0, -1, 0.5] + 0.4
COUNTS = RNG.poisson(np.exp(ETA)).astype(float)
AMOUNTS = RNG.gamma(2.0, np.exp(ETA) / 2)
VALUES = 3 * ETA + RNG.normal(size=120)
OUTLIERS = np.where(np.arange(120) % 9 == 0, VALUES + 8, VALUES)
SIGNS = (ETA + 0.5 * RNG.logistic(size=120) > ETA.mean()).astype(int)
THREE = np.digitize(ETA + 0.3 * RNG.normal(size=120), np.quantile(ETA, [0.33, 0.66]))
TIGHT = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 500}


def poisson(alpha):
    return PoissonRegressor(alpha=alpha, **TIGHT)


def tweedie(power, alpha, link="auto"):
    return TweedieRegressor(power=power, alpha=alpha, link=link, **TIGHT)


def log_mean(power):
    """Slope and curvature of half the deviance in z, and the slope of the prediction e^z."""

    def of(z, t):
        mu = np.exp(z)
        slope = (mu - t) * mu ** (1 - power)
        return slope, (2 - power) * mu ** (2 - power) + (power - 1) * t * mu ** (1 - power), mu

    return of


def squares(scale):
    return lambda z, t: (2 * scale * (z - t), np.full(len(z), 2 * scale), np.ones(len(z)))


def squared_hinge(z, t):
    s = 2 * t - 1
    inside = s * z < 1
    return -2 * s * np.maximum(0, 1 - s * z), 2.0 * inside, np.ones(len(z))


# model, y, derivatives, penalty of the mean loss on coefficients and on the intercept
CASES = {
    "poisson": (poisson(0.0), COUNTS, log_mean(1), 0, 0),
    "poisson_penalized": (poisson(0.1), COUNTS, log_mean(1), 0.1, 0),
    "gamma": (GammaRegressor(alpha=0, **TIGHT), AMOUNTS, log_mean(2), 0, 0),
    "gamma_penalized": (GammaRegressor(alpha=0.1, **TIGHT), AMOUNTS, log_mean(2), 0.1, 0),
    "tweedie": (tweedie(1.5, 0), COUNTS, log_mean(1.5), 0, 0),
    "normal": (tweedie(0, 0.2), VALUES, squares(0.5), 0.2, 0),
    "inverse_gaussian": (tweedie(3, 0), AMOUNTS + 1, log_mean(3), 0, 0),
    "normal_log_link": (tweedie(0, 0, "log"), AMOUNTS + 1, log_mean(0), 0, 0),
    "normal_log_link_penalized": (tweedie(0, 0.1, "log"), AMOUNTS + 1, log_mean(0), 0.1, 0),
    "elastic_net": (
        ElasticNet(alpha=0.2, l1_ratio=0, tol=1e-14, max_iter=100000),
        VALUES,
        squares(0.5),
        0.2,
        0,
    ),
    "bayesian": (BayesianRidge(tol=1e-12), VALUES, squares(1), None, 0),
    "ridge_classifier": (RidgeClassifier(2.0), SIGNS, squares(1), 4 / 120, 0),
    "svc": (LinearSVC(C=2.0, dual=False, tol=1e-12), SIGNS, squared_hinge, 0.5 / 120, 0.5 / 120),
}
#: Their deviance is not convex: the default takes the Hessian.
NOT_CONVEX = ("inverse_gaussian", "normal_log_link", "normal_log_link_penalized")
QUIET = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*l1_reg:UserWarning"),
]
pytestmark = QUIET


def explained(case):
    """What the scores explain: the prediction of regressors, the decision of classifiers."""
    return "prediction" if CASES[case][1].dtype.kind == "f" else (lambda out, t: out[:, 0])


def reference(case, model, y, Q):
    """``-∇f (H + R)⁻¹ ∇loss / n`` in plain numpy."""
    _, _, derivatives, penalty, of_bias = CASES[case]
    if penalty is None:
        penalty = 2 * model.lambda_ / model.alpha_ / len(X)
    targets = 2.0 * y - 1 if case == "ridge_classifier" else y
    theta = np.r_[np.ravel(model.coef_), np.ravel(model.intercept_)]
    Z, q = np.c_[X, np.ones(len(X))], np.c_[Q, np.ones(len(Q))]
    slope, curve, _ = derivatives(Z @ theta, targets)
    _, _, grown = derivatives(q @ theta, targets[: len(Q)])
    H = (Z.T * curve) @ Z / len(X) + np.diag(np.r_[np.full(X.shape[1], penalty), of_bias])
    return -(q * grown[:, None]) @ np.linalg.solve(H, (Z * slope[:, None]).T) / len(X)


@pytest.fixture(scope="module", params=CASES)
def fitted(request):
    model, y = CASES[request.param][:2]
    model = clone(model).fit(X, y)
    curvature = "auto" if request.param in NOT_CONVEX else "ggn"
    influence = InfluenceFunction(curvature, output=explained(request.param))
    return request.param, model, y, influence.fit(model, X, y)


def test_scores_are_those_of_a_dense_reference(fitted):
    case, model, y, influence = fitted
    expected = reference(case, model, y, X[:9])
    found = influence.score(X[:9], y[:9])
    assert np.abs(found - expected).max() <= 1e-7 * np.abs(expected).max()
    assert influence.damping_ == 0
    assert_stationary(influence.task_, X, y, 1e-5)


def test_scores_agree_with_refits_without_a_row(fitted):
    case, model, y, influence = fitted
    read = decision_function if case in ("svc", "ridge_classifier") else predict
    rows = list(range(0, 120, 12))
    without = []
    for j in rows:
        other = clone(model)
        if influence.task_.penalty_kind == "mean":  # the mean of the others has another scale
            other.set_params(alpha=model.alpha * 120 / 119)
        other.fit(np.delete(X, j, 0), np.delete(y, j))
        without.append(read(influence.task_, X[:9]) - read(as_task(other), X[:9]))
    scores = influence.score(X[:9], y[:9])[:, rows]
    assert np.corrcoef(scores.ravel(), np.transpose(without).ravel())[0, 1] > 0.98


def test_predictions_are_the_models_own(fitted):
    _, model, _, influence = fitted
    np.testing.assert_allclose(predict(influence.task_, X), model.predict(X), atol=1e-9)


UNPENALIZED = {
    "poisson": (poisson(0.0), COUNTS),
    "gamma": (GammaRegressor(alpha=0, **TIGHT), AMOUNTS),
    "tweedie": (tweedie(1.5, 0), COUNTS),
    "identity": (tweedie(0, 0), VALUES),
}


@pytest.mark.parametrize("name", UNPENALIZED)
def test_default_scores_do_not_depend_on_the_columns_units(name):
    model, y = UNPENALIZED[name]
    factors = 10 ** np.random.default_rng(1).uniform(-3, 3, size=3)
    one = InfluenceFunction().fit(clone(model).fit(X, y), X, y).score(X[:9], y[:9])
    scaled = X * factors
    theta = clone(model).fit(X, y)
    theta.coef_ = theta.coef_ / factors  # the same optimum, not the solver's own accuracy
    two = InfluenceFunction().fit(theta, scaled, y).score(scaled[:9], y[:9])
    assert np.abs(one - two).max() <= 1e-6 * np.abs(one).max()


def huber(alpha=0.0):
    return HuberRegressor(alpha=alpha, tol=1e-10, max_iter=5000)


def huber_reference(model, Q, alpha):
    """Newton's Hessian of coefficients, intercept and scale together."""
    Z, sigma = np.c_[X, np.ones(len(X))], model.scale_
    r = OUTLIERS - model.predict(X)
    inner = np.abs(r) <= model.epsilon * sigma
    slope = np.where(inner, -2 * r / sigma, -2 * model.epsilon * np.sign(r))
    of_scale = np.where(inner, 1 - (r / sigma) ** 2, 1 - model.epsilon**2)
    g = np.c_[Z * slope[:, None], of_scale]
    v = np.c_[Z, r / sigma] * (inner * np.sqrt(2 / sigma))[:, None]
    H = v.T @ v + np.diag([2 * alpha] * 3 + [0, 0])
    return -np.c_[Q, np.ones(len(Q)), np.zeros(len(Q))] @ np.linalg.solve(H, g.T)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_huber_estimates_its_scale_with_the_coefficients(alpha):
    model = huber(alpha).fit(X, OUTLIERS)
    influence = InfluenceFunction(output="prediction").fit(model, X, OUTLIERS)
    found, expected = influence.score(X[:9]), huber_reference(model, X[:9], alpha)
    assert np.abs(found - expected).max() <= 1e-7 * np.abs(expected).max()
    np.testing.assert_allclose(predict(influence.task_, X), model.predict(X))
    rows = list(range(1, 120, 12))
    effects = [
        model.predict(X[:9])
        - huber(alpha).fit(np.delete(X, j, 0), np.delete(OUTLIERS, j)).predict(X[:9])
        for j in rows
    ]
    assert np.corrcoef(found[:, rows].ravel(), np.transpose(effects).ravel())[0, 1] > 0.98


def test_huber_does_not_depend_on_the_columns_units():
    factors = 10 ** np.random.default_rng(1).uniform(-3, 3, size=3)
    model = huber().fit(X, OUTLIERS)
    one = InfluenceFunction().fit(model, X, OUTLIERS).score(X[:9], OUTLIERS[:9])
    model.coef_ = model.coef_ / factors
    two = InfluenceFunction().fit(model, X * factors, OUTLIERS)
    two = two.score(X[:9] * factors, OUTLIERS[:9])
    assert np.abs(one - two).max() <= 1e-6 * np.abs(one).max()


@pytest.mark.parametrize(
    "model",
    [
        RidgeClassifier(2.0, class_weight={0: 0.5, 2: 3.0}),
        RidgeClassifier(2.0, class_weight="balanced"),
        LinearSVC(dual=False, tol=1e-12, class_weight={0: 0.5, 2: 3.0}),
        LinearSVC(dual=False, tol=1e-12, intercept_scaling=3.0),
    ],
)
def test_several_classes_and_class_weights(model):
    model = model.fit(X, THREE)
    task = as_task(model)
    assert_stationary(task, X, THREE, 1e-6)
    np.testing.assert_allclose(decision_function(task, X), model.decision_function(X))
    np.testing.assert_array_equal(predict(task, X), model.predict(X))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": "rbf", "gamma": 0.3},
        {"kernel": "poly", "degree": 2, "gamma": 0.5},
        {"kernel": "linear"},
        {"kernel": lambda a, b: np.exp(-np.abs(a - b).sum())},
    ],
)
def test_kernel_ridge_beside_its_hat_matrix_and_refits(options):
    model = KernelRidge(alpha=0.5, **options).fit(X, VALUES)
    influence = InfluenceFunction(output="prediction").fit(model, X, VALUES)
    kernel = model._get_kernel
    residuals = VALUES - model.predict(X)
    expected = kernel(X[:9], X) @ np.linalg.inv(kernel(X, X) + 0.5 * np.eye(120)) * residuals
    found = influence.score(X[:9])
    assert np.abs(found - expected).max() <= 1e-7 * np.abs(expected).max()
    np.testing.assert_allclose(predict(influence.task_, X), model.predict(X), atol=1e-8)
    rows = list(range(0, 120, 12))
    effects = [
        model.predict(X[:9])
        - clone(model).fit(np.delete(X, j, 0), np.delete(VALUES, j)).predict(X[:9])
        for j in rows
    ]
    assert np.corrcoef(found[:, rows].ravel(), np.transpose(effects).ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Lasso(), "Lasso has an L1 penalty"),
        (ElasticNet(), "l1_ratio=0.5"),
        (LinearSVC(loss="hinge"), "kink"),
        (LinearSVC(penalty="l1", dual=False), "penalty='l2'"),
        (KernelRidge(kernel="precomputed"), "precomputed"),
    ],
)
def test_what_is_not_differentiable_is_refused(model, message):
    with pytest.raises(UnsupportedModelError, match=message):
        as_task(model)
