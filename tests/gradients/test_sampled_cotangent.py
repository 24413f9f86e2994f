"""Gradients at targets drawn from the model: the Gauss-Newton matrix in expectation."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from influencekit.gradients import GradientEngine, Gradients, ggn_cotangent, sampled_cotangent
from influencekit.models import (
    BinaryCrossEntropy,
    CrossEntropy,
    CustomLoss,
    PoissonLoss,
    SquaredError,
)
from influencekit.models.losses._binary import MarginLoss
from influencekit.models.losses._elementwise import ElementwiseLoss
from influencekit.models.losses._score_losses import squared_hinge
from tests.gradients._reference import (
    TinyExamples,
    autograd_rows,
    integers,
    make_task,
    mlp,
    mlp_problem,
    normal,
)

WEIGHT = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
BITS = (normal(5, 3, seed=2) > 0).double()

LOSSES = {
    "cross_entropy": (CrossEntropy(), integers(3, 5)),
    "smoothed": (CrossEntropy(0.3), integers(3, 5)),
    "smoothed_weighted": (CrossEntropy(0.3, WEIGHT), integers(3, 5)),
    "binary": (BinaryCrossEntropy(), BITS),
    "binary_weighted": (BinaryCrossEntropy(WEIGHT, 1 / WEIGHT, average=True), BITS),
    "squared": (SquaredError(0.5), normal(5, 3)),
    "squared_average": (SquaredError(average=True), normal(5, 3)),
    "poisson": (PoissonLoss(), normal(5, 3).exp()),
    "huber": (ElementwiseLoss(lambda z, t: F.huber_loss(z, t, reduction="none")), normal(5, 3)),
    "hinge": (MarginLoss(squared_hinge, WEIGHT), BITS),
    "custom": (CustomLoss(lambda z, t: z.logsumexp(1) - z[:, 0]), BITS),
}


@pytest.mark.parametrize("name", LOSSES)
def test_mean_outer_product_is_the_hessian(name):
    loss, targets = LOSSES[name]
    task, outputs, n_samples = make_task(mlp(), loss), normal(5, 3, seed=9), 40_000
    rows = sampled_cotangent(task, n_samples, random_state=0)(outputs, targets)
    assert rows.shape == (5, n_samples, 3)
    samples = rows * n_samples**0.5
    products = samples[:, :, :, None] * samples[:, :, None, :]
    for i in range(5):
        hessian = torch.func.hessian(lambda z, i=i: loss(z[None], targets[i : i + 1])[0])(
            outputs[i]
        )
        error = (products[i].mean(0) - hessian).abs()
        # five standard errors of the mean, from the samples themselves
        allowed = 5 * products[i].std(0) / n_samples**0.5 + 1e-12
        assert bool((error <= allowed).all()), (name, i)
        assert bool((samples[i].mean(0).abs() <= 5 * samples[i].std(0) / 200 + 1e-12).all())
    torch.testing.assert_close(rows.mT @ rows, products.mean(1))  # the scale of the rows


def test_classifiers_draw_labels():
    task, outputs = make_task(mlp()), normal(5, 3)
    rows = sampled_cotangent(task, 50, random_state=0)(outputs, integers(3, 5)) * 50**0.5
    onehot = torch.softmax(outputs, 1)[:, None] - rows
    torch.testing.assert_close(onehot.round(), onehot)
    torch.testing.assert_close(onehot.sum(-1), torch.ones(5, 50, dtype=torch.float64))


def test_gradients_do_not_depend_on_the_batch_size():
    task, examples = mlp_problem(n=11)
    cotangent = sampled_cotangent(task, 7, random_state=3)
    whole = Gradients(GradientEngine(task, batch_size=11), examples, cotangent).matrix()
    for size in (1, 2, 4):
        found = Gradients(GradientEngine(task, batch_size=size), examples, cotangent).matrix()
        torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-12)
    again = sampled_cotangent(task, 7, random_state=3)
    assert cotangent == again
    other = Gradients(
        GradientEngine(task), examples, sampled_cotangent(task, 7, random_state=4)
    ).matrix()
    assert float((other - whole).abs().max()) > 1e-2
    batch = TinyExamples(examples.inputs[4:7], examples.targets[4:7])
    rows = autograd_rows(task, TinyExamples(batch.inputs, batch.targets), cotangent)
    assert float((rows - whole[28:49]).abs().max()) > 1e-2  # a batch without its place
    placed = cotangent.at(slice(4, 7))(task.forward(batch.inputs), batch.targets)
    expected = cotangent(task.forward(examples.inputs), examples.targets)[4:7]
    torch.testing.assert_close(placed, expected, rtol=1e-12, atol=1e-12)


def test_examples_draw_independently():
    task = make_task(mlp())
    outputs, targets = normal(1, 3).expand(4000, 3), torch.zeros(4000, dtype=torch.long)
    labels = sampled_cotangent(task, 2, random_state=0)(outputs, targets).argmin(-1).double()
    correlations = torch.corrcoef(
        torch.stack([labels[:-1, 0], labels[1:, 0], labels[:-1, 1], labels[1:, 1]])
    )
    off_diagonal = correlations - torch.eye(4, dtype=torch.float64)
    assert float(off_diagonal.abs().max()) < 5 / 4000**0.5


def test_curvature_comes_close_to_the_gauss_newton_matrix():
    task, examples = mlp_problem(n=11)
    engine = GradientEngine(task)
    exact = Gradients(engine, examples, ggn_cotangent(task)).covariance()
    errors = []
    for n_samples in (10, 1000):
        found = Gradients(
            engine, examples, sampled_cotangent(task, n_samples, random_state=0)
        ).covariance()
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[1] < 0.05
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize("n_samples", [0, -1, 1.5, True, None])
def test_number_of_samples_is_checked(n_samples):
    with pytest.raises(ValueError, match="n_samples"):
        sampled_cotangent(make_task(mlp()), n_samples, random_state=0)
