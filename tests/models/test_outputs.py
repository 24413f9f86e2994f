"""The scalar that a score explains, and the Task's small duties."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from torch import nn

from influencekit import GradDot, retrain_on_subsets
from influencekit.data import make_examples
from influencekit.gradients import output_cotangent
from influencekit.models import (
    BinaryCrossEntropy,
    CrossEntropy,
    Task,
    as_task,
    predicted_targets,
    resolve_output,
)
from influencekit.training.stack._tasks import Evaluation
from tests.models._objective import encode, inputs

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 3))
Y3 = np.array(["a", "b", "c"])[np.arange(30) % 3]
Y2 = np.arange(30) % 2


@pytest.mark.parametrize("y", [Y2, Y3], ids=["binary", "several"])
def test_class_outputs(y):
    model = LogisticRegression().fit(X, y)
    task = as_task(model)
    outputs, targets = task.forward(inputs(task, X)).detach(), encode(task, y)
    rows, columns = np.arange(30), np.searchsorted(model.classes_, y)
    p = model.predict_proba(X)[rows, columns]
    margin = resolve_output(task, "margin", True)(outputs, targets)
    np.testing.assert_allclose(margin, np.log(p / (1 - p)), atol=1e-10)
    loss = resolve_output(task, "neg_loss", True)(outputs, targets)
    np.testing.assert_allclose(loss, np.log(p), atol=1e-10)
    scores = model.decision_function(X)
    scores = np.stack([-scores, scores], 1) if scores.ndim == 1 else scores
    logit = resolve_output(task, "logit", True)(outputs, targets)
    np.testing.assert_allclose(logit, scores[rows, columns], atol=1e-10)
    given = resolve_output(task, lambda o, t: o.sum(1) * t.flatten(), True)(outputs, targets)
    np.testing.assert_allclose(given, outputs.sum(1) * targets.flatten())


@pytest.mark.parametrize("y", [Y2, Y3], ids=["binary", "several"])
def test_predicted_targets_are_the_prediction(y):
    model = LogisticRegression().fit(X, y)
    task = as_task(model)
    outputs = task.forward(inputs(task, X)).detach()
    got = predicted_targets(task, outputs)
    expected = encode(task, model.predict(X))
    torch.testing.assert_close(got, expected.to(got.dtype))
    if got.is_floating_point():
        assert got.dtype == outputs.dtype


def test_prediction():
    model = Ridge().fit(X, X[:, 0])
    task = as_task(model)
    outputs = task.forward(inputs(task, X)).detach()
    got = resolve_output(task, "prediction", False)(outputs, None)
    np.testing.assert_allclose(got, model.predict(X))
    several = as_task(Ridge().fit(X, X[:, :2]))
    with pytest.raises(ValueError, match="2 outputs"):
        resolve_output(several, "prediction", True)(torch.zeros(3, 2), None)


@pytest.mark.parametrize(
    ("model", "output", "has_targets", "words"),
    [
        (Ridge(), "neg_loss", False, "needs y"),
        (Ridge(), "margin", True, "is for classifiers"),
        (LogisticRegression(), "prediction", True, "only regressors have one"),
        (LogisticRegression(), "nonsense", True, "got 'nonsense'"),
    ],
)
def test_refused(model, output, has_targets, words):
    task = as_task(model.fit(X, Y2))
    with pytest.raises(ValueError, match=words):
        resolve_output(task, output, has_targets)


def test_multilabel_has_no_margin():
    model = MLPClassifier(5, solver="lbfgs", alpha=1.0, random_state=0).fit(
        X, np.stack([Y2, 1 - Y2], 1)
    )
    task = as_task(model)
    output = resolve_output(task, "margin", True)
    with pytest.raises(TypeError, match="labels for each example"):
        output(torch.zeros(3, 2), torch.zeros(3, 2))


def small_task(**kwargs):
    torch.manual_seed(0)
    return Task(module=nn.Linear(3, 2).double(), loss=CrossEntropy(), **kwargs)


def test_penalty_vector_follows_the_parameters():
    strength = torch.tensor([[1.0], [2.0]])
    task = small_task(penalty={"weight": strength}, penalty_kind="sum")
    assert list(task.parameters) == ["weight", "bias"]
    expected = torch.tensor([1.0, 1, 1, 2, 2, 2, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(task.penalty_vector(10.0), expected / 10)
    mean = dataclasses.replace(task, penalty_kind="mean")
    torch.testing.assert_close(mean.penalty_vector(10.0), expected)


def test_example_weights():
    targets = torch.tensor([0, 0, 0, 1])
    assert small_task().example_weights(targets) is None
    task = small_task(class_weight=torch.tensor([2.0, 5.0]))
    assert task.example_weights(targets).tolist() == [2, 2, 2, 5]
    task = small_task(class_weight="balanced")
    expected = torch.tensor([4 / 6] * 3 + [2.0], dtype=torch.float64)
    torch.testing.assert_close(task.example_weights(targets), expected)
    binary = dataclasses.replace(task, loss=BinaryCrossEntropy())
    torch.testing.assert_close(binary.example_weights(targets[:, None].double()), expected)


def test_task_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        small_task().name = "other"


WRONG = {
    "shape (6, 2)": lambda outputs, _: outputs[:, :1].expand(-1, 2),
    "shape (6, 1)": lambda outputs, _: outputs[:, :1],
    "shape ()": lambda outputs, _: outputs.sum(),
    "float": lambda outputs, _: 1.0,
}


@pytest.mark.parametrize("got", list(WRONG))
def test_a_wrong_output_is_refused_in_one_wording(got):
    """Whoever asks: gradients, training runs, retrained models, cotangents."""
    model, output = LogisticRegression().fit(X, Y2), WRONG[got]
    task = as_task(model)
    six = make_examples(task, X[:6], Y2[:6])
    asked = {
        "gradients": lambda: GradDot(output=output).fit(model, X, Y2).score(X[:6], Y2[:6]),
        "retraining": lambda: retrain_on_subsets(
            model, X, Y2, X[:6], Y2[:6], n_subsets=2, output=output
        ),
        "further training": lambda: Evaluation(task, six, output, True, 6).at_start(),
        "cotangents": lambda: output_cotangent(output)(torch.zeros(6, 1), torch.zeros(6)),
    }
    said = set()
    for ask in asked.values():
        with pytest.raises(ValueError, match="one number for each example") as caught:
            ask()
        said.add(re.sub(r"\d+", "n", str(caught.value)))  # gradients try one example first
    assert len(said) == 1 and f"returned {re.sub('[0-9]+', 'n', got)} for" in said.pop()
