"""The model without some rows: outputs, coefficients, and a bound that holds."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import (
    GammaRegressor,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    SGDRegressor,
    TweedieRegressor,
)

from influencekit import InfluenceFunction
from influencekit.groups import GroupAttributor
from influencekit.models.losses._deviance import DevianceLoss
from influencekit.removal._bound import _relative_change

RNG = np.random.default_rng(0)
EXACT = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}
B, L = load_breast_cancer(return_X_y=True)
B = (B - B.mean(0)) / B.std(0)
B, L, Q, U = B[:200, :10], L[:200], B[200:230, :10], L[200:230]
IRIS, KINDS = load_iris(return_X_y=True)


def without(rows, C=1.0, data=(B, L)):
    X, y = data
    kept = np.setdiff1d(np.arange(len(X)), rows)
    return LogisticRegression(C=C, **EXACT).fit(X[kept], y[kept])


def influence(C=1.0, data=(B, L)):
    return InfluenceFunction().fit(LogisticRegression(C=C, **EXACT).fit(*data), *data)


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_the_bound_is_never_below_the_error(C):
    fitted = influence(C)
    margins = fitted.score(Q, U).mean(0)
    hardest = np.argsort(-margins)  # the most helpful rows defeat the step
    drawn = [RNG.choice(200, size, replace=False) for size in (1, 4, 20) for _ in range(4)]
    for rows in [*drawn, hardest[:5], hardest[:20], hardest[-20:]]:
        step = fitted.predict_without(rows, Q, refit=False)
        error = np.abs(step.outputs - without(rows, C).predict_proba(Q))
        assert (error <= step.bound + 1e-9).all()
        assert not step.refitted


def test_several_classes_have_a_bound_too():
    fitted = influence(data=(IRIS, KINDS))
    for size in (1, 5, 15, 40):
        rows = RNG.choice(150, size, replace=False)
        step = fitted.predict_without(rows, IRIS[::7], refit=False)
        truth = without(rows, data=(IRIS, KINDS)).predict_proba(IRIS[::7])
        assert (np.abs(step.outputs - truth) <= step.bound + 1e-9).all()


def test_a_small_removal_has_a_close_bound_and_no_refit():
    step = influence().predict_without([3], Q)
    error = np.abs(step.outputs - without([3]).predict_proba(Q))
    assert not step.refitted and step.bound.max() < 10 * error.max()


def test_a_hard_removal_is_refitted():
    fitted = influence(100.0)
    rows = np.argsort(-fitted.score(Q, U).mean(0))[:30]
    found, truth = fitted.predict_without(rows, Q), without(rows, 100.0)
    assert found.refitted and found.bound.max() < 1e-6
    np.testing.assert_allclose(found.outputs, truth.predict_proba(Q), atol=1e-7)
    np.testing.assert_allclose(found.coef, truth.coef_, rtol=1e-5)
    np.testing.assert_allclose(found.intercept, truth.intercept_, rtol=1e-5)


@pytest.mark.parametrize(
    "model", [PoissonRegressor(), GammaRegressor(), TweedieRegressor(power=1.5)]
)
def test_generalized_linear_models_have_a_bound(model):
    X = RNG.normal(size=(120, 4))
    t = RNG.poisson(np.exp(X[:, 0])) + 0.5
    # without a penalty: theirs is for the mean loss, so refits would weight it otherwise
    model.set_params(alpha=0, **EXACT)
    fitted = InfluenceFunction(output="prediction").fit(clone(model).fit(X, t), X, t)
    for rows in ([0], np.arange(12), np.argsort(-t)[:12]):
        kept = np.setdiff1d(np.arange(120), rows)
        truth = clone(model).fit(X[kept], t[kept]).predict(X[:20])
        step = fitted.predict_without(rows, X[:20], refit=False)
        assert (np.abs(step.outputs - truth) <= step.bound * (1 + 1e-9) + 1e-8).all()
        solved = fitted.predict_without(rows, X[:20], refit=True)
        np.testing.assert_allclose(solved.outputs, truth, rtol=1e-7)


@pytest.mark.parametrize("power", [1.0, 1.3, 1.8, 2.0])
def test_the_second_derivative_of_a_deviance_changes_at_most_by_its_constant(power):
    """The bound of these models rests on a known constant, not on a look at some points."""
    z = torch.linspace(-6, 6, 500, dtype=torch.float64, requires_grad=True)
    loss, most = DevianceLoss(power), 0.0
    for target in (0.1, 1.0, 30.0):
        values = loss.terms(z, torch.full_like(z, target)).sum()
        (first,) = torch.autograd.grad(values, z, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), z, create_graph=True)
        (third,) = torch.autograd.grad(second.sum(), z)
        most = max(most, float((third.abs() / second).detach().max()))
    assert most <= _relative_change(loss) * (1 + 1e-9) and _relative_change(loss) <= most + 0.01


def test_least_squares_needs_no_refit():
    X, t = load_diabetes(return_X_y=True)
    model = Ridge(0.1).fit(X, t)
    mask = np.arange(len(X)) % 3 == 0
    found = InfluenceFunction().fit(model, X, t).predict_without(mask, X[:9])
    truth = Ridge(0.1).fit(X[~mask], t[~mask])
    np.testing.assert_allclose(found.outputs, truth.predict(X[:9]))
    np.testing.assert_allclose(found.coef, truth.coef_)
    assert found.intercept == pytest.approx(truth.intercept_)
    assert not found.refitted and found.bound.max() < 1e-6


def test_a_lost_level_has_no_bound():
    X = np.c_[RNG.normal(size=(40, 2)), np.arange(40) == 0].astype(float)
    t = X @ [1, 2, 3] + RNG.normal(size=40)
    fitted = InfluenceFunction().fit(Ridge(0.0).fit(X, t), X, t)
    assert np.isinf(fitted.predict_without([0], X[:1]).bound).all()


def test_groups_and_their_properties():
    groups = np.where(B[:, 0] > 1, "large", np.where(B[:, 0] > 0, "middle", "small"))
    of = GroupAttributor(InfluenceFunction(), property="mean_neg_loss")
    of.fit(LogisticRegression(**EXACT).fit(B, L), B, L, groups=groups)
    found = of.predict_without(["middle"], Q, U)
    p = without(np.flatnonzero(groups == "middle")).predict_proba(Q)[np.arange(30), U]
    assert found.properties["mean_neg_loss"] == pytest.approx(np.log(p).mean(), abs=1e-3)
    with pytest.raises(ValueError, match="Did you mean 'middle'"):
        of.predict_without("midle", Q, U)


def test_what_cannot_be_removed_is_refused():
    fitted = influence()
    with pytest.raises(ValueError, match="no row of class 1"):
        fitted.predict_without(L == 1, Q)
    with pytest.raises(ValueError, match="positions of training rows"):
        fitted.predict_without([0.5], Q)
    with pytest.raises(ValueError, match="accepted are True, False and 'auto'"):
        fitted.predict_without([0], Q, refit="always")


def test_weights_of_examples_count():
    weights = RNG.uniform(0.5, 2, 200)
    model = LogisticRegression(**EXACT).fit(B, L, sample_weight=weights)
    fitted = InfluenceFunction().fit(model, B, L, sample_weight=weights)
    truth = LogisticRegression(**EXACT).fit(B[5:], L[5:], sample_weight=weights[5:])
    found = fitted.predict_without(range(5), Q, refit=True)
    np.testing.assert_allclose(found.outputs, truth.predict_proba(Q), atol=1e-8)


def test_a_model_that_stopped_early_keeps_its_bound():
    X, t = load_diabetes(return_X_y=True)
    model = SGDRegressor(alpha=0.1, max_iter=20, tol=None, random_state=0).fit(X, t)
    fitted = InfluenceFunction().fit(model, X, t)
    assert fitted.gradient_ratio_ > 1e-3
    step = fitted.predict_without([0], X[:5], refit=False)
    solved = fitted.predict_without([0], X[:5], refit=True)
    assert (np.abs(step.outputs - solved.outputs) <= step.bound * (1 + 1e-9)).all()
