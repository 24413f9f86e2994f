"""``batch_size`` bounds memory and changes no result, in whatever stands inside of what."""

import inspect

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import (
    LESS,
    TRAK,
    AdamWInfluence,
    DVEmb,
    FurtherTraining,
    GradCos,
    GradDot,
    GroupAttributor,
    InfluenceFunction,
    InRunShapley,
    LDSSearch,
    LossBaseline,
    RunAverage,
    SGDInfluence,
    SubsetPosterior,
    SurrogateLambdaSearchCV,
    TracIn,
    Training,
    as_task,
)
from influencekit.curvature import CURVATURES, EKFAC, DataInf, LiSSA, LoGra
from influencekit.data import make_examples
from influencekit.gradients import (
    GradientEngine,
    Gradients,
    ggn_cotangent,
    loss_cotangent,
    sampled_cotangent,
)
from influencekit.training import KeepCheckpoints, TrajectoryRecorder
from tests._shared.nets import TwoLayers
from tests.test_architecture import public_objects

RNG = np.random.default_rng(0)
X = RNG.standard_normal((26, 4))
Y = (X[:, 0] + 0.3 * RNG.standard_normal(26) > 0).astype(np.int64) + (X[:, 1] > 0.5)
QUERIES = X[:9] + 0.1, Y[:9]
LABELS = np.arange(26) % 5
FIT_QUERIES = (SubsetPosterior, LDSSearch)
SEEDED = {"random_state": 0}
TRAINING = Training("sgd", 0.05, epochs=1, batch_size=8)
FISHER = InfluenceFunction("fisher", damping=0.1)

ATTRIBUTORS = [
    GradDot(),
    GradCos(),
    TracIn(0.1),
    LossBaseline(),
    TRAK(projection_dim=8, **SEEDED),
    *(InfluenceFunction(name, damping=30.0, **SEEDED) for name in CURVATURES),
    *(InfluenceFunction("ggn", projection_dim=8, projection=name, **SEEDED)
      for name in ("rademacher", "gaussian", "factored", "two_sided")),
    InfluenceFunction(DataInf(scaled=True), **SEEDED),
    InfluenceFunction(EKFAC("sampled", n_samples=2), damping=1.0, **SEEDED),
    InfluenceFunction(LoGra(rank=3, init="random"), damping=1.0, **SEEDED),
    InfluenceFunction(LiSSA(rows_per_step=5, depth=5), damping=3.0, **SEEDED),
    InfluenceFunction("ggn", "matched", at="predicted", further_training=TRAINING, **SEEDED),
    InfluenceFunction("fisher", 0.1, at="endpoint", further_training=TRAINING, **SEEDED),
    InfluenceFunction(output="margin"),
    GroupAttributor(FISHER, property="mean_neg_loss"),
    GroupAttributor(FISHER, curvature="groups"),
    GroupAttributor(TRAK(0.1, projection_dim=8, **SEEDED), curvature="groups"),
    SurrogateLambdaSearchCV(InfluenceFunction("fisher"), **SEEDED),
    LDSSearch(InfluenceFunction("fisher"), n_subsets=4, n_trials=3, **SEEDED),
    SubsetPosterior(FISHER, n_trainings=4, **SEEDED),
    RunAverage(TRAK(projection_dim=8, **SEEDED)),
    *(SGDInfluence(curvature=name) for name in ("hessian", "smoothed_hessian", "ggn", "fisher")),
    SGDInfluence(removal="fixed", removal_order="finite"),
    DVEmb(), LESS(), InRunShapley(order=2),
    AdamWInfluence(horizon=3),
    AdamWInfluence(removal_order="finite"),
]  # fmt: skip


class Net(TwoLayers):
    def __init__(self):
        super().__init__()
        self.double()


def net(optimizer=torch.optim.SGD):
    torch.manual_seed(0)
    return NeuralNetClassifier(
        Net, criterion=nn.CrossEntropyLoss, optimizer=optimizer, lr=0.05, max_epochs=2,
        batch_size=8, train_split=None, verbose=0,
        callbacks=[TrajectoryRecorder(), KeepCheckpoints(n=2)],
    ).fit(X, Y)  # fmt: skip


@pytest.fixture(scope="module")
def models():
    return {"sgd": net(), "adamw": net(torch.optim.AdamW)}


def sizes_of(attributor):
    """Names of the batch sizes in it, those of trainings aside."""
    for name in attributor.get_params():
        path, _, last = name.rpartition("batch_size")
        owner = attributor.get_params()[path.rstrip("_")] if path else attributor
        if last == "" and not isinstance(owner, Training):
            yield name


def scores(attributor, model, size):
    attributor = clone(attributor)
    attributor.set_params(**dict.fromkeys(sizes_of(attributor), size))
    asked = {}
    if isinstance(attributor, FIT_QUERIES):
        asked = {"X_query": QUERIES[0], "y_query": QUERIES[1]}
    if isinstance(attributor, GroupAttributor):
        asked["groups"] = LABELS
    return attributor.fit(model, X, Y, **asked).score(*QUERIES)


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.InfluenceKitWarning")
@pytest.mark.parametrize("attributor", ATTRIBUTORS, ids=str)
def test_of_attributors(attributor, models):
    model = models["adamw" if isinstance(attributor, AdamWInfluence) else "sgd"]
    assert any(True for _ in sizes_of(attributor))
    whole, parts = (scores(attributor, model, size) for size in (100, 4))
    assert np.abs(whole).max() > 0
    np.testing.assert_allclose(parts, whole, rtol=1e-6, atol=1e-6 * np.abs(whole).max())


@pytest.mark.parametrize(
    "cotangent", [loss_cotangent, ggn_cotangent, lambda task: sampled_cotangent(task, 2, **SEEDED)]
)
def test_of_gradients(cotangent, models):
    task = as_task(models["sgd"])
    examples = make_examples(task, X, Y)
    whole, parts = (
        Gradients(GradientEngine(task, batch_size=size), examples, cotangent(task)).matrix()
        for size in (100, 4)
    )
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-9)


def test_no_public_batch_size_is_left_out():
    taking = {
        value
        for _, value in public_objects()
        if not (inspect.isclass(value) and issubclass(value, BaseException))
        and "batch_size" in inspect.signature(value).parameters
    }
    assert taking - {type(one) for one in ATTRIBUTORS} == {GradientEngine, Training}
    assert "batch_size" not in FurtherTraining().get_params(deep=False)
