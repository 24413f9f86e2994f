"""Every tool gives the same under ``torch.no_grad`` and ``torch.inference_mode``.

The attributors have a check of their own, ``check_gradients_switched_off``.
"""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from torch import nn
from torch.optim import AdamW

from influencekit import (
    AdamWInfluence,
    FurtherTraining,
    GradDot,
    InfluenceFunction,
    as_task,
    retrain_on_subsets,
)
from influencekit.applications import (
    DatasetPruner,
    NoisyLabelDetector,
    group_counterfactual,
    removal_curve,
    score_then_retrain,
)
from influencekit.data import make_examples
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent
from influencekit.groups import GroupAttributor, KMeansGrouper, leave_group_out
from influencekit.training import TrajectoryRecorder, train_checkpoints, trajectory_leave_one_out
from tests._shared.marks import NOT_TRAINED
from tests._shared.nets import TwoLayers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
GROUPS = np.arange(24) % 3


def make_net(**options):
    torch.manual_seed(0)
    options = {"max_epochs": 2, "batch_size": 8, "train_split": None, "verbose": 0} | options
    return NeuralNetClassifier(TwoLayers, module__n_out=2, criterion=nn.CrossEntropyLoss, **options)


@pytest.fixture(scope="module")
def net():
    return make_net(optimizer=AdamW, callbacks=[TrajectoryRecorder()]).fit(X, Y)


def further():
    return FurtherTraining(
        optimizer="sgd", lr=0.1, n_steps=2, n_repeats=2, left_out=[0, 5], random_state=0
    )


def task_of_new_module(net):
    torch.manual_seed(0)
    task = as_task(TwoLayers(n_out=2), loss=nn.CrossEntropyLoss())
    return GradDot().fit(task, torch.ones(24, 4) * torch.arange(24)[:, None], Y).score(X[:3], Y[:3])


def engine_alone(net):
    task = as_task(net)
    examples = make_examples(task, X, Y)
    return Gradients(GradientEngine(task), examples, loss_cotangent(task)).matrix().numpy()


def retrain(engine):
    def run(net):
        plain = make_net().initialize()
        return retrain_on_subsets(
            plain, X, Y, X[:3], Y[:3], n_subsets=2, random_state=0, engine=engine
        ).outputs

    return run


TOOLS = {
    "a module made in the block": task_of_new_module,
    "stacked": retrain("stacked"),
    "joblib": retrain("joblib"),
    "measure": lambda net: further().fit(net, X, Y).measure(X[:3], Y[:3]).scores,
    "iter_seeds": lambda net: np.stack(list(further().fit(net, X, Y).iter_seeds(X[:3], Y[:3]))),
    "endpoint": lambda net: next(
        iter(further().fit(net, X, Y).endpoint().parameters.values())
    ).tolist(),
    "at the predicted end": lambda net: (
        InfluenceFunction(at="predicted", further_training=further(), damping=0.1)
        .fit(net, X, Y)
        .score(X[:3], Y[:3])
    ),
    "groups": lambda net: (
        GroupAttributor(GradDot()).fit(net, X, Y, groups=GROUPS).score(X[:3], Y[:3])
    ),
    "group Fisher": lambda net: (
        GroupAttributor(InfluenceFunction("fisher", damping=0.1), curvature="groups")
        .fit(net, X, Y, groups=GROUPS)
        .score(X[:3], Y[:3])
    ),
    "clusters": lambda net: (
        KMeansGrouper(n_groups=3, features="gradients", random_state=0).fit(net, X, Y).labels_
    ),
    "leave_group_out": lambda net: (
        leave_group_out(net, X, Y, X[:3], Y[:3], GROUPS, n_repeats=1, random_state=0).scores
    ),
    "along the run": lambda net: AdamWInfluence().fit(net, X, Y).step_scores(X[:3], Y[:3]).scores,
    "error proxy": lambda net: (
        AdamWInfluence().fit(net, X, Y).taylor_error_proxy(X[:3], Y[:3], [0, 1]).proxy
    ),
    "trajectory_leave_one_out": lambda net: (
        trajectory_leave_one_out(net, X, Y, X[:3], Y[:3], left_out=[0, 1]).scores
    ),
    "train_checkpoints": lambda net: train_checkpoints(net, X, Y, [2], random_state=0)[2][
        "layers.2.bias"
    ].tolist(),
    "removal_curve": lambda net: removal_curve(
        net, X, Y, X, Y, X[:, 0], fractions=[0.2], n_random=1, n_repeats=1, random_state=0
    ).means()["scores"],
    "group_counterfactual": lambda net: group_counterfactual(
        net, X, Y, X, Y, GROUPS, sensitive=GROUPS, n_repeats=1, random_state=0
    ).effects(),
    "NoisyLabelDetector": lambda net: (
        NoisyLabelDetector(make_net(), contamination=0.1, random_state=0).fit(X, Y).label_scores_
    ),
    "DatasetPruner": lambda net: (
        DatasetPruner(make_net(), GradDot(), random_state=0).fit(X, Y).values_
    ),
    "score_then_retrain": lambda net: score_then_retrain(
        make_net(optimizer=AdamW), X, Y, X[:8], Y[:8], random_state=0
    ).estimator.predict_proba(X),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("tool", TOOLS)
def test_same_result(net, tool, mode):
    expected = TOOLS[tool](net)
    with mode():
        found = TOOLS[tool](net)
        assert not torch.is_grad_enabled()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@NOT_TRAINED
@pytest.mark.parametrize("curvature", ["ggn", "cg", "ekfac"])
def test_the_callers_autocast_ends_at_the_library(net, curvature):
    def scores():
        return InfluenceFunction(curvature, 0.1, random_state=0).fit(net, X, Y).score(X[:3], Y[:3])

    expected = scores()
    with torch.autocast("cpu", torch.bfloat16):
        found = scores()
        assert torch.is_autocast_enabled("cpu")
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_gradients_of_the_engine(net):
    expected = engine_alone(net)
    with torch.no_grad():
        np.testing.assert_array_equal(engine_alone(net), expected)


@pytest.mark.parametrize(
    "attributor", [GradDot(), InfluenceFunction("ekfac", damping=0.1), InfluenceFunction("ggn")]
)
@NOT_TRAINED
def test_what_is_read_under_inference_mode_works_outside(net, attributor):
    fitted = clone(attributor).fit(net, X, Y)
    expected = fitted.score(X[:3], Y[:3])
    written, task = pickle.dumps(fitted), pickle.dumps(as_task(net))
    with torch.inference_mode():
        read, copied, task = pickle.loads(written), copy.deepcopy(fitted), pickle.loads(task)
        np.testing.assert_allclose(read.score(X[:3], Y[:3]), expected, rtol=1e-6)
    for one in (read, copied, clone(attributor).fit(task, X, Y)):
        np.testing.assert_allclose(one.score(X[:3], Y[:3]), expected, rtol=1e-6)
