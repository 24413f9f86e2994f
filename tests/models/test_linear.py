"""Linear models: predictions, and a zero gradient of the objective at the optimum."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import sklearn
import torch
from scipy import sparse
from sklearn.datasets import make_classification, make_regression
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import (
    Lasso,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    QuantileRegressor,
    Ridge,
    RidgeCV,
)
from sklearn.utils.fixes import parse_version

from influencekit.exceptions import UnsupportedModelError
from influencekit.models import as_task
from influencekit.models._predict import decision_function, predict, predict_proba
from tests.models._objective import assert_stationary, objective_gradient

NEW = parse_version(sklearn.__version__) >= parse_version("1.8")
TIGHT = {"tol": 1e-12, "max_iter": 5000}
X, Y3 = make_classification(
    150, 5, n_informative=4, n_redundant=0, n_classes=3, weights=[0.5, 0.3], random_state=0
)
Y2 = (Y3 == 1).astype(int)
NAMES = np.array(["ape", "bee", "cat"])
XR, YR = make_regression(80, 5, n_targets=3, noise=5.0, random_state=0)
XR, YR = XR + 1.0, YR + 30.0


def no_penalty():
    return {"C": np.inf} if NEW else {"penalty": None}


LOGISTIC = {
    "binary": (LogisticRegression(solver="newton-cholesky", **TIGHT), Y2),
    "binary_C": (LogisticRegression(C=0.05, solver="newton-cg", **TIGHT), Y2),
    "binary_no_intercept": (LogisticRegression(fit_intercept=False, **TIGHT), Y2),
    "binary_none": (LogisticRegression(solver="newton-cholesky", **no_penalty(), **TIGHT), Y2),
    "binary_dict": (LogisticRegression(class_weight={0: 0.3, 1: 4.0}, **TIGHT), Y2),
    "binary_part_of_dict": (LogisticRegression(class_weight={1: 4.0}, **TIGHT), Y2),
    "binary_balanced": (LogisticRegression(class_weight="balanced", **TIGHT), Y2),
    "binary_strings": (LogisticRegression(class_weight={"bee": 3.0}, **TIGHT), NAMES[Y2]),
    "multinomial": (LogisticRegression(C=0.2, solver="newton-cg", **TIGHT), Y3),
    "multinomial_dict": (LogisticRegression(class_weight={0: 0.3, 2: 4.0}, **TIGHT), Y3),
    "multinomial_balanced": (LogisticRegression(class_weight="balanced", **TIGHT), Y3),
    "multinomial_strings": (LogisticRegression(class_weight="balanced", **TIGHT), NAMES[Y3]),
    "multinomial_none": (LogisticRegression(**no_penalty(), **TIGHT), Y3),
    "liblinear": (LogisticRegression(solver="liblinear", C=0.5, **TIGHT), Y2),
    "liblinear_scaling": (
        LogisticRegression(solver="liblinear", intercept_scaling=3.0, **TIGHT),
        Y2,
    ),
    "liblinear_weights": (
        LogisticRegression(solver="liblinear", class_weight={0: 0.3, 1: 4.0}, **TIGHT),
        Y2,
    ),
    "liblinear_balanced": (
        LogisticRegression(solver="liblinear", class_weight="balanced", **TIGHT),
        Y2,
    ),
    "liblinear_no_intercept": (
        LogisticRegression(solver="liblinear", fit_intercept=False, **TIGHT),
        Y2,
    ),
    "cv": (LogisticRegressionCV(Cs=[0.01, 0.1], cv=3, **TIGHT), Y3),
    "cv_balanced": (LogisticRegressionCV(Cs=3, cv=3, class_weight="balanced", **TIGHT), Y2),
}
if parse_version(sklearn.__version__) >= parse_version("1.9"):
    LOGISTIC["cv_new_attributes"] = (
        LogisticRegressionCV(Cs=[0.01, 0.1], cv=3, use_legacy_attributes=False, **TIGHT),
        Y3,
    )
if not NEW:  # removed in scikit-learn 1.8
    LOGISTIC["ovr"] = (LogisticRegression(multi_class="ovr", class_weight={1: 3.0}, **TIGHT), Y3)
    LOGISTIC["liblinear_ovr"] = (
        LogisticRegression(solver="liblinear", class_weight={1: 3.0}, **TIGHT),
        Y3,
    )


def fit(model, *data):
    """Fit as tightly as the solver can; scikit-learn warns of what it will remove as well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return model.fit(*data)


@pytest.fixture(scope="module", params=LOGISTIC)
def logistic(request):
    model, y = LOGISTIC[request.param]
    return fit(model, X, y), y


def test_logistic_predictions(logistic):
    model, _ = logistic
    task = as_task(model)
    assert task.dtype == torch.float64
    assert task.problem_type == "classification"
    assert task.penalty_kind == "sum"
    np.testing.assert_allclose(predict_proba(task, X), model.predict_proba(X), atol=1e-10)
    np.testing.assert_allclose(decision_function(task, X), model.decision_function(X), atol=1e-10)
    np.testing.assert_array_equal(predict(task, X), model.predict(X))
    assert ("linear.bias" in task.parameters) == model.fit_intercept


def test_logistic_objective_is_stationary(logistic):
    model, y = logistic
    # liblinear and lbfgs stop where the loss no longer falls in double precision
    assert_stationary(as_task(model), X, y, tolerance=2e-7)


def test_stationarity_sees_a_wrong_penalty():
    model = fit(LogisticRegression(C=0.05, **TIGHT), X, Y3)
    model.C = 0.1
    total, loss = objective_gradient(as_task(model), X, Y3)
    assert float(total.abs().max()) > 0.1 * float(loss.abs().max()) > 1e-4


def test_float32_is_worked_on_in_float64():
    X32 = XR.astype(np.float32)
    model = Ridge().fit(X32, YR.astype(np.float32))
    task = as_task(model)
    assert task.dtype == torch.float64
    np.testing.assert_allclose(predict(task, X32), model.predict(X32), rtol=1e-4, atol=1e-5)


def test_sparse_coefficients_and_inputs():
    model = fit(LogisticRegression(), sparse.csr_matrix(X), Y3)
    expected = model.predict_proba(X)
    task = as_task(model.sparsify())
    np.testing.assert_allclose(predict_proba(task, sparse.csr_matrix(X)), expected, atol=1e-10)


RIDGES = {
    "one": (Ridge(alpha=3.0), YR[:, 0]),
    "column": (Ridge(alpha=3.0), YR[:, :1]),
    "several": (Ridge(alpha=3.0), YR),
    "alpha_per_target": (Ridge(alpha=np.array([0.1, 3.0, 100.0])), YR),
    "no_intercept": (Ridge(alpha=3.0, fit_intercept=False), YR),
    "lsqr": (Ridge(alpha=3.0, solver="lsqr", tol=1e-14), YR[:, 0]),
    "cv": (RidgeCV(alphas=[0.5, 2.0]), YR[:, 0]),
    "cv_per_target": (RidgeCV(alphas=[0.5, 2.0, 20.0], alpha_per_target=True), YR),
    "least_squares": (LinearRegression(), YR[:, 0]),
    "least_squares_several": (LinearRegression(), YR),
    "least_squares_no_intercept": (LinearRegression(fit_intercept=False), YR),
}


@pytest.mark.parametrize("case", RIDGES)
def test_regression(case):
    model, y = RIDGES[case]
    model.fit(XR, y)
    task = as_task(model)
    expected = model.predict(XR)
    predicted = predict(task, XR).reshape(expected.shape)
    np.testing.assert_allclose(predicted, expected, rtol=1e-10, atol=1e-10)
    assert_stationary(task, XR, y, tolerance=1e-9)
    assert task.problem_type == "regression"
    assert (task.n_features_in, task.classes) == (5, None)
    assert ("linear.bias" in task.parameters) == model.fit_intercept


def test_linear_tasks_pickle_and_copy():
    task = as_task(LinearRegression().fit(XR, YR))
    for again in (pickle.loads(pickle.dumps(task)), copy.deepcopy(task)):
        np.testing.assert_array_equal(predict(again, XR), predict(task, XR))


def test_the_model_is_left_untouched():
    model = Ridge().fit(XR, YR)
    state, rng = copy.deepcopy(vars(model)), torch.get_rng_state()
    task = as_task(model)
    with torch.no_grad():
        for parameter in task.parameters.values():
            parameter.zero_()
    assert torch.equal(torch.get_rng_state(), rng)
    for key, value in vars(model).items():
        np.testing.assert_array_equal(value, state[key])
    assert task.estimator is model


def l1(ratio):
    if NEW:
        return LogisticRegression(l1_ratio=ratio, solver="saga")
    if ratio == 1:
        return LogisticRegression(penalty="l1", solver="saga")
    return LogisticRegression(penalty="elasticnet", l1_ratio=ratio, solver="saga")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (l1(1), "L1 penalty"),
        (l1(0.5), "L1 penalty"),
        (LogisticRegressionCV(Cs=2, cv=2, refit=False), "refit=True"),
        (Ridge(positive=True), "positive=False"),
        (LinearRegression(positive=True), "positive=False"),
        (QuantileRegressor(), "QuantileRegressor, which is not a model that"),
        (Lasso(), "Lasso has an L1 penalty"),
    ],
)
def test_refused(model, words):
    fit(model, X, Y2)
    with pytest.raises(UnsupportedModelError, match=words):
        as_task(model)


@pytest.mark.skipif(NEW, reason="scikit-learn 1.8 removed multi_class and liblinear's ovr")
@pytest.mark.parametrize(
    ("options", "y", "words"),
    [
        ({"multi_class": "multinomial"}, Y2, "opposite logits"),
        ({"multi_class": "ovr", "class_weight": "balanced"}, Y3, "dict"),
        ({"solver": "liblinear", "class_weight": "balanced"}, Y3, "dict"),
    ],
)
def test_old_one_versus_rest_refused(options, y, words):
    model = fit(LogisticRegression(**options), X, y)
    with pytest.raises(UnsupportedModelError, match=words):
        as_task(model)


@pytest.mark.skipif(not NEW, reason="scikit-learn 1.8 deprecated penalty")
def test_deprecated_penalty_is_still_read():
    model = fit(LogisticRegression(penalty="l2", C=0.05, **TIGHT), X, Y3)
    assert_stationary(as_task(model), X, Y3, tolerance=2e-7)
    model = fit(LogisticRegression(penalty=None, **TIGHT), X, Y3)
    assert float(as_task(model).penalty["linear.weight"]) == 0


@pytest.mark.parametrize("model", [LogisticRegression(), Ridge(), LinearRegression()])
def test_unfitted_and_loss(model):
    with pytest.raises(NotFittedError):
        as_task(model)
    model.fit(X, Y2)
    with pytest.raises(TypeError, match="has its own loss"):
        as_task(model, loss=torch.nn.MSELoss())
