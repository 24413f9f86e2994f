"""SGDClassifier and SGDRegressor: predictions, objective, held-out rows."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.datasets import make_classification, make_regression
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Perceptron, SGDClassifier, SGDRegressor
from sklearn.utils.class_weight import compute_class_weight

from influencekit.exceptions import UnsupportedModelError
from influencekit.models import as_task
from influencekit.models._predict import decision_function, predict, predict_proba
from tests.models._objective import encode, inputs, objective_gradient

X, Y3 = make_classification(
    120, 4, n_informative=4, n_redundant=0, n_classes=3, weights=[0.6, 0.3], random_state=0
)
Y2 = (Y3 == 1).astype(int)
YR = make_regression(120, 4, noise=1.0, random_state=0)[1] / 50
LOSSES = [
    "log_loss",
    "modified_huber",
    "squared_hinge",
    "squared_error",
    "huber",
    "squared_epsilon_insensitive",
]


def classifier(loss="log_loss", **kwargs):
    kwargs = {"random_state": 0, "alpha": 0.02, "max_iter": 20, "tol": None} | kwargs
    return SGDClassifier(loss=loss, **kwargs)


@pytest.mark.parametrize("y", [Y2, Y3, np.array(["a", "b", "c"])[Y3]], ids=["2", "3", "strings"])
@pytest.mark.parametrize("loss", LOSSES)
def test_classifier_predictions(loss, y):
    model = classifier(loss).fit(X, y)
    task = as_task(model)
    np.testing.assert_allclose(decision_function(task, X), model.decision_function(X), atol=1e-10)
    np.testing.assert_array_equal(predict(task, X), model.predict(X))
    if loss in ("log_loss", "modified_huber"):
        np.testing.assert_allclose(predict_proba(task, X), model.predict_proba(X), atol=1e-10)
    else:
        with pytest.raises(TypeError, match="does not define class probabilities"):
            predict_proba(task, X)


def reference_loss(name, z, s):
    """scikit-learn's documented losses of score z and sign s."""
    r, m = np.abs(z - s), z * s
    return {
        "log_loss": np.logaddexp(0, -m),
        "modified_huber": np.where(m >= -1, np.maximum(0, 1 - m) ** 2, -4 * m),
        "squared_hinge": np.maximum(0, 1 - m) ** 2,
        "squared_error": 0.5 * r**2,
        "huber": np.where(r <= 0.1, 0.5 * r**2, 0.1 * r - 0.005),
        "squared_epsilon_insensitive": np.maximum(0, r - 0.1) ** 2,
    }[name]


@pytest.mark.parametrize("class_weight", [None, {0: 0.5, 1: 3.0}, "balanced"])
@pytest.mark.parametrize("y", [Y2, Y3], ids=["2", "3"])
@pytest.mark.parametrize("loss", LOSSES)
def test_classifier_losses(loss, y, class_weight):
    """Each one-versus-rest problem weighs its own class; the binary one both."""
    model = classifier(loss, class_weight=class_weight).fit(X, y)
    task = as_task(model)
    mine = task.loss(task.forward(inputs(task, X)), encode(task, y)).detach().numpy()
    weight = compute_class_weight(class_weight, classes=model.classes_, y=y)
    scores = model.decision_function(X).reshape(len(X), -1)
    expected = np.zeros(len(X))
    for column, z in enumerate(scores.T):
        k = 1 if len(weight) == 2 else column
        rest = weight[0] if len(weight) == 2 else 1.0
        w = np.where(y == k, weight[k], rest)
        expected += w * reference_loss(loss, z, np.where(y == k, 1, -1))
    np.testing.assert_allclose(mine, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("class_weight", [None, {0: 0.5, 1: 3.0}, "balanced"])
@pytest.mark.parametrize("y", [Y2, Y3], ids=["2", "3"])
def test_classifier_approaches_the_optimum_of_the_objective(y, class_weight):
    """Long training goes to where the Task's gradient vanishes, and not elsewhere."""
    options = {"learning_rate": "invscaling", "eta0": 0.5, "power_t": 0.6, "max_iter": 1500}
    model = classifier(class_weight=class_weight, alpha=0.1, average=True, **options).fit(X, y)
    total, loss = objective_gradient(as_task(model), X, y)
    assert float(loss.norm()) > 0.05
    assert float(total.norm()) < 0.02 * float(loss.norm())


@pytest.mark.parametrize("loss", ["squared_error", "huber", "squared_epsilon_insensitive"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_regressor(loss, fit_intercept):
    model = SGDRegressor(loss=loss, alpha=0.1, fit_intercept=fit_intercept, random_state=0)
    model.fit(X, YR)
    task = as_task(model)
    np.testing.assert_allclose(predict(task, X), model.predict(X), atol=1e-10)
    mine = task.loss(task.forward(inputs(task, X)), encode(task, YR)).detach().numpy()
    np.testing.assert_allclose(mine, reference_loss(loss, model.predict(X), YR), atol=1e-12)
    assert ("linear.bias" in task.parameters) == fit_intercept


def test_regressor_objective():
    """The minimizer of scikit-learn's documented objective is the Task's stationary point."""

    def objective(theta):
        r = X @ theta[:4] + theta[4] - YR
        return 0.5 * np.mean(r**2) + 0.5 * 0.3 * theta[:4] @ theta[:4]

    best = minimize(objective, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
    model = SGDRegressor(alpha=0.3).fit(X, YR)
    model.coef_, model.intercept_ = best[:4], best[4:]
    total, loss = objective_gradient(as_task(model), X, YR)
    assert float(total.abs().max()) < 1e-6 < 1e-2 < float(loss.abs().max())


@pytest.mark.parametrize("kind", ["binary", "several", "strings", "regression"])
def test_early_stopping_rows(kind, monkeypatch):
    """The rows that scikit-learn itself held out."""
    y = {"binary": Y2, "several": Y3, "strings": np.array(["a", "b", "c"])[Y3]}.get(kind, YR)
    model = SGDRegressor() if kind == "regression" else SGDClassifier(loss="log_loss")
    model.set_params(early_stopping=True, validation_fraction=0.25, random_state=3)
    seen = []
    method = type(model)._make_validation_split

    def spy(self, *args, **kwargs):
        mask = method(self, *args, **kwargs)
        seen.append(np.asarray(mask, dtype=bool))
        return mask

    monkeypatch.setattr(type(model), "_make_validation_split", spy)
    model.fit(X, y)
    rows = as_task(model).training_rows(X, y)
    assert rows.dtype == bool and (~rows).sum() == 30
    np.testing.assert_array_equal(rows, ~seen[0])


def test_all_rows_without_early_stopping():
    assert as_task(classifier().fit(X, Y2)).training_rows is None


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (classifier("hinge"), "kink"),
        (classifier("perceptron"), "kink"),
        (classifier("epsilon_insensitive"), "kink"),
        (SGDRegressor(loss="epsilon_insensitive"), "kink"),
        (classifier(penalty="l1"), "L1 part"),
        (classifier(penalty="elasticnet"), "L1 part"),
        (classifier(early_stopping=True, random_state=None), "random_state is not an integer"),
        (Perceptron(), "Perceptron, which is not a model that"),
    ],
)
def test_refused(model, words):
    model.fit(X, Y2)
    with pytest.raises(UnsupportedModelError, match=words):
        as_task(model)


def test_no_penalty_and_zero_l1():
    for options in ({"penalty": None}, {"penalty": "elasticnet", "l1_ratio": 0.0}):
        task = as_task(classifier(**options).fit(X, Y2))
        expected = 0.0 if options["penalty"] is None else 0.02
        assert float(task.penalty["linear.weight"]) == expected
        assert task.penalty_kind == "rows"


def test_unfitted():
    with pytest.raises(NotFittedError):
        as_task(classifier())


def test_pickle_and_copy():
    model = classifier("huber", early_stopping=True, class_weight="balanced").fit(X, Y3)
    task = as_task(model)
    rng = torch.get_rng_state()
    for again in (pickle.loads(pickle.dumps(task)), copy.deepcopy(task)):
        np.testing.assert_array_equal(predict(again, X), predict(task, X))
        np.testing.assert_array_equal(again.training_rows(X, Y3), task.training_rows(X, Y3))
    assert torch.equal(torch.get_rng_state(), rng)
