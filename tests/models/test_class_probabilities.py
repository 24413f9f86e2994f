"""Whoever needs the probability of a class has the numbers of the model's own predict_proba."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.neural_network import MLPClassifier
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from influencekit import GradDot, as_task
from influencekit.applications import group_counterfactual
from influencekit.data import make_examples
from influencekit.groups import (
    DemographicParityDifference,
    EqualizedOddsDifference,
    GroupAttributor,
    leave_group_out,
)
from influencekit.models import CustomLoss
from influencekit.report._answers import answers

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 4)).astype(np.float32)
Y2 = (X[:, 0] + rng.normal(size=90) > 0).astype(np.int64)
Y3 = np.digitize(X[:, 0] + rng.normal(size=90), [-0.6, 0.6])
PEOPLE = np.where(X[:, 1] + 0.5 * X[:, 0] > 0, "a", "b")


class Net(nn.Sequential):
    def __init__(self, n_classes=2, last=None):
        torch.manual_seed(0)
        layers = nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, n_classes)
        super().__init__(*layers, *([] if last is None else [last]))


def net(last, criterion, n_classes=2, kind=NeuralNetClassifier):
    options = {"criterion": criterion, "max_epochs": 3, "train_split": None, "verbose": 0}
    return kind(Net, module__n_classes=n_classes, module__last=last, lr=0.1, **options)


def sgd(loss):
    return SGDClassifier(loss=loss, alpha=0.01, random_state=0)


#: Stops by itself: 28 epochs after the second none has lowered the loss by 10.
EPOCHS_30 = {"tol": 10, "n_iter_no_change": 28}
BINARY = {
    "logistic": LogisticRegression(),
    "log_loss": sgd("log_loss"),
    "modified_huber": sgd("modified_huber"),
    "mlp": MLPClassifier(5, **EPOCHS_30, random_state=0),
    "softmax": net(nn.Softmax(dim=-1), nn.NLLLoss),
    "logits": net(None, nn.CrossEntropyLoss),
    "one logit": net(nn.Flatten(0), nn.BCEWithLogitsLoss, 1, NeuralNetBinaryClassifier),
}
SEVERAL = {
    "logistic": LogisticRegression(),
    "log_loss": sgd("log_loss"),
    "modified_huber": sgd("modified_huber"),
    "mlp": MLPClassifier(5, **EPOCHS_30, random_state=0),
    "softmax": net(nn.Softmax(dim=-1), nn.NLLLoss, 3),
    "logits": net(None, nn.CrossEntropyLoss, 3),
}
CASES = [
    *(pytest.param(model, Y2, id=f"{name}, 2 classes") for name, model in BINARY.items()),
    *(pytest.param(model, Y3, id=f"{name}, 3 classes") for name, model in SEVERAL.items()),
]


def targets_of(model, y):
    return y.astype(np.float32) if isinstance(model, NeuralNetBinaryClassifier) else y


def probabilities(model, y):
    """Of every class, by the model itself, and the labels as it takes them."""
    y = targets_of(model, y)
    model.fit(X, y)
    return np.asarray(model.predict_proba(X), dtype=np.float64), y


def spread(p, counted):
    means = [p[(person == PEOPLE) & counted].mean() for person in "ab"]
    return max(means) - min(means)


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize(("model", "y"), CASES)
def test_gaps_of_groups(model, y, positive):
    p, given = probabilities(model, y)
    p, everyone = p[:, positive], np.ones(len(y), dtype=bool)
    own = y == positive
    for gap, expected in (
        (DemographicParityDifference, spread(p, everyone)),
        (EqualizedOddsDifference, max(spread(p, own), spread(p, ~own))),
    ):
        grouped = GroupAttributor(GradDot(), property=gap(PEOPLE, positive))
        grouped.fit(model, X, given, groups=PEOPLE).score(X, given)
        assert grouped.property_value_ == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", list(BINARY))
def test_counterfactuals(name, monkeypatch):
    model, fitted, seen = BINARY[name], [], []
    fit = type(model).fit

    def kept(self, *args, **kwargs):
        fitted.append(self)
        return fit(self, *args, **kwargs)

    def gap(values, *_):
        seen.append(values)
        return 0.0

    _, y = probabilities(model, Y2)
    monkeypatch.setattr(type(model), "fit", kept)
    options = {"gap": gap, "left_out": ["a"], "n_repeats": 1, "engine": "joblib"}
    group_counterfactual(model, X, y, X, y, PEOPLE, **options, random_state=0)
    for values, again in zip(seen, fitted, strict=True):
        np.testing.assert_allclose(values, again.predict_proba(X)[:, 1], atol=1e-6)


@pytest.mark.parametrize("name", ["log_loss", "modified_huber"])
def test_groups_left_out(name):
    model = BINARY[name].fit(X, Y2)
    gap = DemographicParityDifference(PEOPLE)
    expected = []
    found = leave_group_out(model, X, Y2, X, Y2, PEOPLE, property=gap, n_repeats=1, random_state=0)
    outputs = leave_group_out(
        model, X, Y2, X, Y2, PEOPLE, output=lambda o, _: o[:, 0], n_repeats=1, random_state=0
    )
    for scores in (outputs.full, *outputs.without):
        scores = np.ravel(scores)
        huber, logistic = (np.clip(scores, -1, 1) + 1) / 2, 1 / (1 + np.exp(-scores))
        p = huber if name == "modified_huber" else logistic
        expected.append(spread(p, np.ones(len(p), dtype=bool)))
    got = [np.ravel(found.full)[0], *np.ravel(found.without)]
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize(("model", "y"), CASES)
def test_reports(model, y):
    p, given = probabilities(model, y)
    task = as_task(model)
    found = answers(task, make_examples(task, X, given))
    np.testing.assert_allclose(found.probability, p.max(axis=1), atol=1e-6)
    np.testing.assert_array_equal(found.mistaken, np.ravel(model.predict(X)) != given)


def test_reports_of_named_classes():
    names = np.array(["no", "yes"])[Y2]
    model = MLPClassifier(5, **EPOCHS_30, random_state=0).fit(X, names)
    task = as_task(model)
    found = answers(task, make_examples(task, X, names))
    np.testing.assert_array_equal(found.label, names)
    np.testing.assert_array_equal(found.mistaken, model.predict(X) != names)


UNCERTAIN = {
    "a regressor": Ridge().fit(X, Y2),
    "no probabilities": SGDClassifier(loss="squared_hinge", random_state=0).fit(X, Y2),
    "a loss of its own": as_task(
        nn.Linear(4, 1), loss=CustomLoss(lambda outputs, y: (outputs[:, 0] - y).abs())
    ),
}


@pytest.mark.parametrize("name", list(UNCERTAIN))
def test_models_without_probabilities_are_refused(name):
    model = UNCERTAIN[name]
    gap = DemographicParityDifference(PEOPLE)
    with pytest.raises(ValueError, match="property: class probabilities are needed"):
        GroupAttributor(GradDot(), property=gap).fit(model, X, Y2, groups=PEOPLE)
    if hasattr(model, "fit"):
        with pytest.raises(ValueError, match="property: class probabilities are needed"):
            leave_group_out(model, X, Y2, X, Y2, PEOPLE, property=gap, n_repeats=1)
        with pytest.raises(ValueError, match="model: class probabilities are needed"):
            group_counterfactual(model, X, Y2, X, Y2, PEOPLE, sensitive=PEOPLE, n_repeats=1)


def test_a_net_for_regression_is_refused_too():
    """Skorch gives every net a predict_proba; only its criterion tells."""
    model = net(None, nn.MSELoss, 1, NeuralNetRegressor)
    y = Y2.astype(np.float32)[:, None]
    with pytest.raises(ValueError, match="model: class probabilities are needed"):
        group_counterfactual(model, X, y, X, y[:, 0], PEOPLE, sensitive=PEOPLE, n_repeats=1)
