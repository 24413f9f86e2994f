"""A class weight of 2 is a row given twice: the law of weights, for every attributor."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import TRAK, GradDot, InfluenceFunction, LossBaseline, TracIn, as_task
from influencekit.curvature import CURVATURES
from influencekit.groups import GroupAttributor
from tests._shared.nets import tanh_net

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 3)), np.arange(24) % 3
WEIGHT = np.array([1, 2, 3])
TWICE = np.repeat(np.arange(24), WEIGHT[Y])

ATTRIBUTORS = {
    **{name: InfluenceFunction(name, 0.1, random_state=0) for name in CURVATURES},
    "GradDot": GradDot(),
    "TracIn": TracIn(0.1),
    "group Fisher": GroupAttributor(InfluenceFunction("fisher", 0.1), curvature="groups"),
}
#: Inner products are not divided by the sum of weights: they take ``w_j`` over its mean.
PER_ROW = ("GradDot", "TracIn")
#: How near, where solvers stop.
RTOL = {"cg": 1e-4, "lissa": 1e-2}


def task(weight=None):
    torch.manual_seed(0)
    module = tanh_net(3, 4, 3)
    return as_task(module, loss=nn.CrossEntropyLoss(weight=weight))


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NegativeCurvatureWarning")
@pytest.mark.parametrize("name", ATTRIBUTORS)
def test_a_weight_is_a_repeated_row(name):
    weighted = ATTRIBUTORS[name].fit(task(torch.tensor(WEIGHT).double()), X, Y)
    found = weighted.score(X[:3], [0, 0, 0])
    repeated = ATTRIBUTORS[name]
    options = {"groups": TWICE} if name == "group Fisher" else {}
    columns = repeated.fit(task(), X[TWICE], Y[TWICE], **options).score(X[:3], [0, 0, 0])
    if name != "group Fisher":
        columns = np.stack([columns[:, i == TWICE].sum(1) for i in range(24)], axis=1)
    found = found * WEIGHT[Y].mean() if name in PER_ROW else found
    atol = RTOL.get(name, 1e-8) * np.abs(columns).max()
    np.testing.assert_allclose(found, columns, rtol=0, atol=atol)


def test_losses_and_trak():
    weight = torch.tensor(WEIGHT).double()
    loss = LossBaseline().fit(task(weight), X, Y).score(X[:2], [0, 0])
    plain = LossBaseline().fit(task(), X, Y).score(X[:2], [0, 0])
    np.testing.assert_allclose(loss / plain, np.tile(WEIGHT[Y] / WEIGHT[Y].mean(), (2, 1)))
    found = TRAK(1e8, projection_dim=None).fit(task(weight), X, Y).score(X[:2], [0, 0])
    plain = TRAK(1e8, projection_dim=None).fit(task(), X, Y).score(X[:2], [0, 0])
    np.testing.assert_allclose(found / plain, np.tile(WEIGHT[Y] / WEIGHT[Y].mean(), (2, 1)))
