"""MLPClassifier and MLPRegressor: predictions, alpha, held-out rows."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import scipy.optimize
import sklearn
import torch
from sklearn.datasets import make_classification, make_regression
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.neural_network import MLPClassifier, MLPRegressor, _multilayer_perceptron
from sklearn.utils.fixes import parse_version

from influencekit.exceptions import UnsupportedModelError
from influencekit.models import as_task
from influencekit.models._predict import predict, predict_proba
from tests.models._objective import assert_stationary, encode, inputs, objective_gradient

POISSON = parse_version(sklearn.__version__) >= parse_version("1.7")
X, Y3 = make_classification(90, 4, n_informative=4, n_redundant=0, n_classes=3, random_state=0)
Y2 = (Y3 == 1).astype(int)
YR = make_regression(90, 4, n_targets=2, noise=1.0, random_state=0)[1] / 50
BITS = np.stack([Y3 == 0, Y3 != 1], axis=1).astype(int)
LBFGS = {"solver": "lbfgs", "tol": 1e-14, "max_iter": 20000, "max_fun": 100000, "random_state": 0}

CASES = {
    "binary": (MLPClassifier, Y2),
    "several": (MLPClassifier, Y3),
    "strings": (MLPClassifier, np.array(["a", "b", "c"])[Y3]),
    "regression": (MLPRegressor, YR[:, 0]),
}
OTHERS = {"multilabel": (MLPClassifier, BITS), "several_outputs": (MLPRegressor, YR)}


def fit(model, *data):
    """Fit for the epochs asked for, trained to the end or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*data)


def fit_tightly(model, *data):
    """Fit by lbfgs without its tolerance on the loss, which scikit-learn leaves at 2e-9."""
    minimize = scipy.optimize.minimize

    def tight(*args, options, **kwargs):
        return minimize(*args, options=options | {"ftol": 0.0, "gtol": 1e-10}, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scipy.optimize, "minimize", tight)
        return fit(model.set_params(**LBFGS), *data)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("case", [*CASES, *OTHERS])
def test_predictions(case, activation):
    kind, y = (CASES | OTHERS)[case]
    model = fit(
        kind(hidden_layer_sizes=(6, 5), activation=activation, max_iter=20, random_state=0), X, y
    )
    task = as_task(model)
    assert task.dtype == torch.float64
    if kind is MLPRegressor:
        np.testing.assert_allclose(predict(task, X), model.predict(X), atol=1e-10)
        return
    np.testing.assert_allclose(predict_proba(task, X), model.predict_proba(X), atol=1e-10)
    np.testing.assert_array_equal(predict(task, X), model.predict(X))


@pytest.mark.parametrize("alpha", [0.3, 3.0])
@pytest.mark.parametrize("case", CASES)
def test_lbfgs_objective_is_stationary(case, alpha):
    kind, y = CASES[case]
    model = fit_tightly(kind(hidden_layer_sizes=(3,), activation="tanh", alpha=alpha), X, y)
    task = as_task(model)
    _, loss = objective_gradient(task, X, y)
    assert float(loss.abs().max()) > 1e-3
    assert_stationary(task, X, y, tolerance=1e-7)
    assert task.penalty_kind == "sum"


@pytest.mark.parametrize("case", [*CASES, *OTHERS])
def test_gradient_is_the_one_that_scikit_learn_follows(case, monkeypatch):
    """One step of plain SGD on all rows moves along the Task's gradient."""
    kind, y = (CASES | OTHERS)[case]
    options = {"solver": "sgd", "momentum": 0.0, "shuffle": False, "max_iter": 1}
    model = kind(
        hidden_layer_sizes=(3,), alpha=2.0, learning_rate_init=1e-3, warm_start=True, **options
    )
    fit(model.set_params(random_state=0, batch_size=len(X)), X, y)
    task = as_task(model)
    assert task.penalty_kind == "sum"
    total, _ = objective_gradient(task, X, y)
    before = torch.cat([p.detach().flatten() for p in task.parameters.values()])
    fit(model, X, y)
    after = torch.cat([p.detach().flatten() for p in as_task(model).parameters.values()])
    torch.testing.assert_close((before - after) / 1e-3, total, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("batch_size", "n", "expected"),
    [("auto", 90, ("sum", 2.0)), ("auto", 450, ("mean", 2.0 / 200)), (30, 90, ("mean", 2.0 / 30))],
)
def test_alpha_is_divided_by_the_batch_size(batch_size, n, expected):
    data = (np.tile(X, (5, 1))[:n], np.tile(Y3, 5)[:n])
    model = fit(
        MLPClassifier(hidden_layer_sizes=(3,), alpha=2.0, batch_size=batch_size, max_iter=3), *data
    )
    task = as_task(model)
    assert task.penalty_kind == expected[0]
    assert {k: float(v) for k, v in task.penalty.items()} == {
        "linear0.weight": expected[1],
        "linear1.weight": expected[1],
    }


@pytest.mark.parametrize("case", [*CASES, *OTHERS])
def test_early_stopping_rows(case, monkeypatch):
    """The rows that scikit-learn itself held out."""
    if case == "strings" and not POISSON:
        pytest.skip("scikit-learn 1.6 itself fails on strings with early_stopping")
    kind, y = (CASES | OTHERS)[case]
    model = kind(
        hidden_layer_sizes=(6, 5),
        early_stopping=True,
        validation_fraction=0.3,
        random_state=7,
        max_iter=5,
    )
    seen = []
    split = _multilayer_perceptron.train_test_split

    def spy(X, *args, **kwargs):
        parts = split(X, *args, **kwargs)
        seen.append(parts[0])
        return parts

    monkeypatch.setattr(_multilayer_perceptron, "train_test_split", spy)
    numbered = X.copy()
    numbered[:, 0] = np.arange(len(X))
    fit(model, numbered, y)
    rows = as_task(model).training_rows(numbered, y)
    assert rows.dtype == bool and (~rows).sum() == 27
    np.testing.assert_array_equal(np.flatnonzero(rows), np.sort(seen[0][:, 0]).astype(int))


@pytest.mark.skipif(not POISSON, reason="scikit-learn 1.7 added the Poisson loss")
def test_poisson():
    y = np.random.default_rng(0).poisson(2.0, size=len(X)).astype(float)
    model = MLPRegressor(hidden_layer_sizes=(3,), loss="poisson", alpha=0.5, activation="tanh")
    fit_tightly(model, X, y)
    task = as_task(model)
    np.testing.assert_allclose(predict(task, X), model.predict(X), rtol=1e-10)
    assert_stationary(task, X, y, tolerance=1e-7)
    loss = task.loss(task.forward(inputs(task, X)), encode(task, y)).mean()
    penalty = 0.5 * 0.5 * sum((c**2).sum() for c in model.coefs_) / len(X)
    assert float(loss.detach()) + penalty == pytest.approx(model.loss_, rel=1e-6)


def test_float32_stays_float32():
    model = fit(MLPRegressor(hidden_layer_sizes=(3,), max_iter=5), X.astype(np.float32), YR[:, 0])
    task = as_task(model)
    assert task.dtype == torch.float32
    expected = model.predict(X.astype(np.float32))
    np.testing.assert_allclose(predict(task, X), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"early_stopping": True, "random_state": None}, "random_state is not an integer"),
        ({"early_stopping": True, "random_state": 0, "warm_start": True}, "warm_start"),
    ],
)
def test_refused(options, words):
    model = fit(MLPClassifier(hidden_layer_sizes=(3,), max_iter=3, **options), X, Y3)
    with pytest.raises(UnsupportedModelError, match=words):
        as_task(model)
    as_task(model.set_params(early_stopping=False))


def test_unfitted():
    with pytest.raises(NotFittedError):
        as_task(MLPClassifier())


def test_model_untouched_pickle_and_copy():
    model = fit(
        MLPClassifier(hidden_layer_sizes=(3,), early_stopping=True, random_state=0, max_iter=5),
        X,
        Y3,
    )
    before = copy.deepcopy(model.coefs_)
    rng = torch.get_rng_state()
    task = as_task(model)
    expected = predict_proba(task, X)
    for again in (pickle.loads(pickle.dumps(task)), copy.deepcopy(task)):
        np.testing.assert_array_equal(predict_proba(again, X), expected)
        np.testing.assert_array_equal(again.training_rows(X, Y3), task.training_rows(X, Y3))
    with torch.no_grad():
        for parameter in task.parameters.values():
            parameter.zero_()
    assert torch.equal(torch.get_rng_state(), rng)
    for a, b in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(a, b)
