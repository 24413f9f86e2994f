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
    """A classifier that is still moving, so that its effective rows count as well."""
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


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.InfluenceKitWarning")
@pytest.mark.parametrize("width", [4, 60])  # fewer parameters than rows, and more
@pytest.mark.parametrize("curvature", MOST)
def test_gradients_are_taken_at_most_twice(curvature, width):
    assert 1 <= passes(InfluenceFunction(curvature), net(width)) <= MOST[curvature]


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.InfluenceKitWarning")
@pytest.mark.parametrize("curvature", ["ggn", "fisher", "ekfac", "logra"])
def test_also_where_the_rows_do_not_fit_the_memory(curvature, monkeypatch):
    """Memory for half of the rows; the damping is chosen on a few of them."""
    monkeypatch.setattr("influencekit.curvature._spectrum.SAMPLE", 40)
    task, rows = (
        net(60),
        4 * (D + 60 + (K + 1) * (60 + K)),
    )  # bytes of an example's factors, float32
    memory = {"ggn": 200_000, "fisher": 200_000, "logra": 200_000, "ekfac": 3 * N * rows // 2}
    if curvature == "logra":
        curvature, memory["logra"] = LoGra(4), 200_000
    few = InfluenceFunction(
        curvature, max_memory=memory.get(curvature, 200_000), batch_size=64, random_state=0
    )
    assert passes(few, task) <= 2


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.InfluenceKitWarning")
def test_other_methods():
    task = net(60)
    assert passes(GradCos(), task) == 1
    assert passes(TRAK(projection_dim=16, random_state=0), task) <= 2


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.InfluenceKitWarning")
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
