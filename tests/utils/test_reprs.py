"""Reprs are short and say the numbers; those of notebooks compute nothing."""

import re
from unittest.mock import patch

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from influencekit import GradDot, Task, as_task
from influencekit.applications._counterfactual import GroupCounterfactual
from influencekit.data import open_examples
from influencekit.metrics import (
    agreement_by_seeds,
    attribution_agreement,
    linear_datamodeling_score,
)
from influencekit.models._task import TaskList
from tests._shared.attributors import asks_queries, trees_for
from tests.test_common import ATTRIBUTORS

X, Y = load_iris(return_X_y=True)
X, Y = X[::3], Y[::3]
MODEL = LogisticRegression(max_iter=500).fit(X, Y)
RNG = np.random.default_rng(0)
GOLD = RNG.normal(size=(40, 6, 9))


def test_task_and_examples():
    task = as_task(MODEL)
    facts = "problem_type='classification', n_classes=3, loss=CrossEntropy, n_parameters=15"
    where = f"dtype=torch.float64, device={task.device}"
    assert repr(task) == f"Task('LogisticRegression', {facts}, {where})"
    tasks = TaskList([task, task, task])
    assert repr(tasks) == f"TaskList(n_models=3, first={task!r})"
    examples = open_examples(tasks, X, Y)
    assert repr(examples) == f"ExamplesList(n_models=3, first={examples[0]!r})"


def test_results_say_their_numbers():
    agreement = attribution_agreement(GOLD[:3], GOLD[:3], horizons=[1, 5, 20])
    assert "horizons=[1, 5, 20], cosine=[1, 1, 1]" in repr(agreement)
    assert "ceiling" not in repr(agreement)
    halves = np.stack([GOLD[:3]] * 2)
    assert "ceiling=[1, 1, 1]" in repr(attribution_agreement(GOLD[:3], GOLD[:3], halves=halves))
    masks = RNG.random((30, 9)) < 0.5
    lds = linear_datamodeling_score(masks @ GOLD[0].T, masks, GOLD[0])
    assert repr(lds).startswith("LDSResult(mean=1, standard_error=0, n_query=6, n_undefined=0")
    curve = agreement_by_seeds([GOLD[0]] * 4, {"a": GOLD[0]}, n_repeats=[1, 2])
    assert repr(curve) == "SeedCurve(n_repeats=[1, 2], best={'a': [1, 1]})"
    without = GroupCounterfactual(
        ["f"], np.array([3]), np.array([0.8, 0.6]), np.array([[0.5, 0.7]])
    )
    assert "n_groups=1, n_repeats=2, full=0.7, effects=[0.1]" in repr(without)


def test_many_numbers_stay_on_one_line():
    text = repr(attribution_agreement(GOLD, GOLD))
    assert len(text) < 400 and "\n" not in text


def text_of(html):
    html = re.sub("<(style|script).*?</(style|script)>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html))


@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=lambda each: type(each).__name__)
def test_diagrams_of_notebooks_compute_nothing(attributor):
    assert "Not fitted" in text_of(attributor._repr_html_())
    queries = {"X_query": X[::5], "y_query": Y[::5]} if asks_queries(attributor) else {}
    trees = trees_for(attributor)
    model = MODEL if trees is None else trees.fit(X, Y)
    fitted = clone(attributor).fit(model, X, Y, **queries)
    with patch.object(Task, "forward", side_effect=AssertionError("the model was run")):
        html = fitted._repr_html_()
    assert "Fitted" in text_of(html)


def test_diagrams_stay_small_for_many_rows():
    many = np.repeat(X, 200, axis=0)
    fitted = GradDot().fit(MODEL, many, np.repeat(Y, 200))
    small = GradDot().fit(MODEL, X, Y)
    assert len(fitted._repr_html_()) < len(small._repr_html_()) + 10_000
