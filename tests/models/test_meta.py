"""Pipelines, searches and frozen estimators."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from influencekit.exceptions import UnsupportedModelError
from influencekit.models import as_task
from influencekit.models._predict import predict, predict_proba
from tests.models._objective import assert_stationary

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)) * [1, 10, 0.1, 5] + 3
Y = np.array(["no", "yes"])[(X[:, 0] + 0.3 * RNG.normal(size=60) > 3).astype(int)]
FRAME = pd.DataFrame(X, columns=list("abcd")).assign(color=np.tile(["red", "blue", "green"], 20))
TEXTS = [f"word{i % 7} other{i % 3} both" for i in range(60)]


def logistic(**kwargs):
    return LogisticRegression(tol=1e-10, max_iter=2000, **kwargs)


def columns():
    return ColumnTransformer(
        [("n", StandardScaler(), list("abcd")), ("c", OneHotEncoder(), ["color"])],
        sparse_threshold=1.0,
    )


MODELS = {
    "scaler": (make_pipeline(StandardScaler(), logistic()), X),
    "several": (make_pipeline(StandardScaler(), PCA(2), logistic()), X),
    "passthrough": (Pipeline([("a", "passthrough"), ("b", None), ("c", logistic())]), X),
    "alone": (make_pipeline(logistic()), X),
    "nested": (make_pipeline(StandardScaler(), make_pipeline(PCA(2), logistic())), X),
    "pandas": (make_pipeline(StandardScaler(), logistic()).set_output(transform="pandas"), FRAME),
    "columns": (make_pipeline(columns(), logistic()), FRAME),
    "text": (make_pipeline(TfidfVectorizer(), logistic()), TEXTS),
    "function": (make_pipeline(FunctionTransformer(np.abs), logistic()), X),
    "grid": (
        GridSearchCV(make_pipeline(StandardScaler(), logistic()), {"logisticregression__C": [9]}),
        X,
    ),
    "random": (RandomizedSearchCV(logistic(), {"C": [0.1, 1]}, n_iter=1, random_state=0), X),
    "halving": (HalvingGridSearchCV(logistic(), {"C": [0.1, 1]}, random_state=0), X),
    "grid_in_pipeline": (
        make_pipeline(StandardScaler(), GridSearchCV(logistic(), {"C": [0.1, 1]})),
        X,
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    model, data = MODELS[request.param]
    data = data.drop(columns="color") if request.param == "pandas" else data
    return model.fit(data, Y), data


def test_predictions_and_objective(case):
    model, data = case
    task = as_task(model)
    np.testing.assert_allclose(predict_proba(task, data), model.predict_proba(data), atol=1e-10)
    np.testing.assert_array_equal(predict(task, data), model.predict(data))
    assert_stationary(task, data, Y, tolerance=1e-6)


def test_pickle_and_copy(case):
    model, data = case
    task = as_task(model)
    for again in (pickle.loads(pickle.dumps(task)), copy.deepcopy(task)):
        np.testing.assert_array_equal(predict_proba(again, data), predict_proba(task, data))


def test_frozen(case):
    model, data = case
    task = as_task(FrozenEstimator(model))
    np.testing.assert_allclose(predict_proba(task, data), model.predict_proba(data), atol=1e-10)


def test_steps_are_an_own_copy():
    model = make_pipeline(StandardScaler(), logistic()).fit(X, Y)
    task = as_task(model)
    before = predict_proba(task, X)
    model.fit(X * 100 + 7, Y)
    np.testing.assert_array_equal(predict_proba(task, X), before)


def test_estimator_and_features_are_those_of_the_right_step():
    frame = FRAME.drop(columns="color")
    model = make_pipeline(StandardScaler(), PCA(2), logistic()).fit(frame, Y)
    task = as_task(model)
    assert task.estimator is model[-1]
    assert task.name == "Pipeline(LogisticRegression)"
    assert task.n_features_in == 4
    assert list(task.feature_names_in) == list("abcd")
    search = GridSearchCV(Ridge(), {"alpha": [1.0, 2.0]}).fit(frame, X[:, 0])
    task = as_task(search)
    assert task.estimator is search.best_estimator_
    assert list(task.feature_names_in) == list("abcd")


def test_net_in_a_search_in_a_pipeline():
    module = nn.Sequential(nn.Linear(4, 2), nn.Softmax(-1))
    net = NeuralNetClassifier(module, max_epochs=2, verbose=0, train_split=None)
    cast = FunctionTransformer(lambda X: X.astype(np.float32))
    model = make_pipeline(StandardScaler(), cast, net)
    search = GridSearchCV(model, {"neuralnetclassifier__lr": [0.1]}, cv=2)
    search.fit(X, (Y == "yes").astype(np.int64))
    task = as_task(search)
    np.testing.assert_allclose(predict_proba(task, X), search.predict_proba(X), atol=1e-6)
    assert task.estimator is search.best_estimator_[-1]


class Sampler(StandardScaler):
    def fit_resample(self, X, y):
        return X, y


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (make_pipeline(StandardScaler(), "passthrough"), "accepted is a model"),
        (make_pipeline(StandardScaler()), "StandardScaler, which is not a model that"),
        (make_pipeline(Sampler(), logistic()), "resamples rows"),
        (GridSearchCV(logistic(), {"C": [1]}, refit=False), "refit=False"),
    ],
)
def test_refused(model, words):
    model.fit(X, Y)
    with pytest.raises(UnsupportedModelError, match=words):
        as_task(model)


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), logistic()),
        make_pipeline(logistic()),
        GridSearchCV(logistic(), {"C": [1]}),
        FrozenEstimator(logistic()),
    ],
)
def test_unfitted(model):
    with pytest.raises(NotFittedError):
        as_task(model)


def test_unfitted_step_is_named():
    with pytest.raises(NotFittedError, match=r"step StandardScaler of the Pipeline.*'fit'"):
        as_task(make_pipeline(StandardScaler(), logistic()))


def test_loss_is_refused():
    model = make_pipeline(StandardScaler(), logistic()).fit(X, Y)
    with pytest.raises(TypeError, match="has its own loss"):
        as_task(model, loss=nn.MSELoss())
