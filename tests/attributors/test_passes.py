"""How often a fit runs the model over the training rows, counted by a hook on the module."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import TRAK, GradCos, InfluenceFunction, as_task
from influencekit.curvature import LoGra

N, D, K = 400, 6, 3


def data():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(N, D, generator=generator)
    return X, X[:, :K].argmax(1)


def net(width):
    """A classifier that is still moving, so that its effective sample size count as well."""
    torch.manual_seed(0)
    X, y = data()
    module = nn.Sequential(nn.Linear(D, width), nn.Tanh(), nn.Linear(width, K))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(X), y).backward()
        optimizer.step()
    return as_task(module, loss=nn.CrossEntropyLoss())


def passes(attributor, task):
    """Examples that run through the module in ``fit``, over the training rows.

    Batches of up to 3 are not counted: they are looks at how large things are.
    """
    sizes = []
    hook = task.module.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    try:
        attributor.fit(task, *data())
    finally:
        hook.remove()
    return sum(size for size in sizes if size > 3) / N


MOST = {"ggn": 2, "fisher": 2, "kfac": 2, "ekfac": 2, "logra": 2, "datainf": 2}


@pytest.mark.parametrize("width", [4, 60])  # fewer parameters than rows, and more
@pytest.mark.parametrize("curvature", MOST)
def test_gradients_are_taken_at_most_twice(curvature, width):
    assert 1 <= passes(InfluenceFunction(curvature), net(width)) <= MOST[curvature]


@pytest.mark.parametrize("curvature", ["ggn", "fisher", "ekfac", LoGra(4)])
@pytest.mark.filterwarnings("ignore::influencekit.exceptions.ProjectionWarning")  # little memory
def test_also_where_the_rows_do_not_fit_the_memory(curvature, monkeypatch):
    monkeypatch.setattr("influencekit.curvature._spectrum.SAMPLE", 40)  # to choose the damping on
    few = InfluenceFunction(curvature, max_memory="200KB", batch_size=64, random_state=0)
    bytes_of_rows = 4 * N * K * (60 + K)  # output gradients of the Gauss-Newton rows alone
    assert bytes_of_rows > 200_000
    assert passes(few, net(60)) <= 2
    if curvature == "ekfac":
        assert few.curvature_.train.parts is None


def test_other_methods():
    task = net(60)
    assert passes(GradCos(), task) == 1
    assert passes(TRAK(projection_dim=16, random_state=0), task) <= 2


def test_what_is_noted_on_the_way_is_right():
    """The ratio of gradients, by one backward pass a row."""
    task = net(4)
    found = InfluenceFunction("ggn").fit(task, *data()).gradient_ratio_
    rows = []
    for x, label in zip(*data(), strict=True):
        loss = nn.functional.cross_entropy(task.module(x[None]), label[None])
        parts = torch.autograd.grad(loss, list(task.parameters.values()))
        rows.append(torch.cat([g.flatten() for g in parts]).double())
    g = torch.stack(rows).numpy()
    expected = np.linalg.norm(g.mean(0)) / np.sqrt(np.square(g).sum(1).mean())
    assert found == pytest.approx(expected, rel=1e-5)
