"""Cross-entropy with a class for each pixel, as torch's criteria take it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from influencekit import GradDot, InfluenceFunction, as_task
from influencekit.models import SequenceCrossEntropy
from tests._shared.marks import NOT_TRAINED
from tests.curvature._plain_reference import gauss_newton, loss_gradients, relative_error

pytestmark = NOT_TRAINED
N = 8
W = torch.tensor([0.5, 2.0, 1.5]).double()
CRITERIA = {
    "plain": nn.CrossEntropyLoss(),
    "ignored": nn.CrossEntropyLoss(ignore_index=255),
    "weights": nn.CrossEntropyLoss(weight=W),
    "weights, ignored": nn.CrossEntropyLoss(weight=W, ignore_index=255),
    "a weight of 0": nn.CrossEntropyLoss(weight=W * torch.tensor([1.0, 1.0, 0.0])),
    "smoothing": nn.CrossEntropyLoss(label_smoothing=0.2, ignore_index=255),
    "all": nn.CrossEntropyLoss(weight=W, label_smoothing=0.2, ignore_index=255),
    "sum": nn.CrossEntropyLoss(weight=W, label_smoothing=0.2, reduction="sum"),
    "log-probabilities": nn.NLLLoss(weight=W, ignore_index=255),
}


def pixels(criterion):
    torch.manual_seed(2)
    last = nn.LogSoftmax(1) if isinstance(criterion, nn.NLLLoss) else nn.Identity()
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Conv2d(2, 3, 1), last)
    images, labels = torch.randn(12, 1, 3, 2).double(), torch.randint(0, 3, (12, 3, 2))
    if criterion.ignore_index >= 0:
        labels[torch.rand(labels.shape) < 0.3] = criterion.ignore_index
    labels[:, 0, 0] = 1
    return net.double(), images, labels


def shares(criterion, labels):
    """Share of each image in the objective: torch divides by the weights of all pixels."""
    if criterion.reduction == "sum":
        return torch.full((len(labels),), 1.0 / len(labels)).double()
    weight = torch.ones(3).double() if criterion.weight is None else criterion.weight
    used = labels != criterion.ignore_index
    total = (used * weight[torch.where(used, labels, 0)]).flatten(1).sum(1)
    return total / total.sum()


@pytest.mark.parametrize("name", CRITERIA)
def test_an_image_has_its_term_of_the_criterion(name):
    """The terms, each with its share, sum to the gradient of torch's own loss of all images."""
    criterion = CRITERIA[name]
    net, images, labels = pixels(criterion)
    G, share = loss_gradients(net, criterion, images, labels, 12), shares(criterion, labels[:N])
    own = criterion(net(images[:N]), labels[:N])
    own = own / N if criterion.reduction == "sum" else own
    whole = torch.cat([g.flatten() for g in torch.autograd.grad(own, list(net.parameters()))])
    torch.testing.assert_close(share @ G[:N], whole)
    found = GradDot().fit(as_task(net, loss=criterion), images[:N], labels[:N])
    scores = found.score(images[N:], labels[N:])
    expected = (G[N:] @ (share[:, None] * G[:N]).T).numpy()
    ratio = scores / expected
    assert abs(ratio / ratio[0, 0] - 1).max() < 1e-9


@pytest.mark.parametrize("name", ["ignored", "weights, ignored", "all", "sum"])
@pytest.mark.parametrize("curvature", ["ggn", "cg"])
def test_the_gauss_newton_matrix_of_pixels(curvature, name):
    criterion = CRITERIA[name]
    net, images, labels = pixels(criterion)
    G, share = loss_gradients(net, criterion, images, labels, 12), shares(criterion, labels[:N])
    each = [gauss_newton(net, criterion, images[i : i + 1], labels[i : i + 1], 1) for i in range(N)]
    matrix = sum(s * F_i for s, F_i in zip(share, each, strict=True))
    damped = matrix + 0.1 * torch.eye(len(matrix)).double()
    expected = (G[N:] @ torch.linalg.solve(damped, (share[:, None] * G[:N]).T)).numpy()
    how = InfluenceFunction(curvature, 0.1, random_state=0)
    how.fit(as_task(net, loss=criterion), images[:N], labels[:N])
    assert relative_error(how.score(images[N:], labels[N:]), expected) < 1e-4


def test_sampled_rows_of_weighted_pixels_have_the_hessian_as_second_moment():
    torch.manual_seed(0)
    loss = SequenceCrossEntropy(label_smoothing=0.3, weight=W)
    outputs, targets = torch.randn(1, 2, 3).double(), torch.tensor([[0, 2]])
    drawn = loss.sampled_gradients(outputs, targets, lambda *shape: torch.rand(1, 40_000, *shape))
    moments = drawn[0].flatten(1).T @ drawn[0].flatten(1) / 40_000
    factor = loss.hessian_factor(outputs, targets).factor[0]
    hessian = factor @ factor.T
    torch.testing.assert_close(moments, hessian, rtol=0, atol=0.03 * float(hessian.max()))


X, Y = torch.randn(24, 5), torch.arange(24) % 3


@pytest.mark.parametrize("options", [{}, {"weight": torch.ones(3)}, {"label_smoothing": 0.1}])
def test_an_ignored_label_of_a_row_is_refused_with_the_way_out(options):
    criterion = nn.CrossEntropyLoss(ignore_index=1, **options)
    task = as_task(nn.Linear(5, 3), loss=criterion)
    with pytest.raises(ValueError, match=r"keep = y != 1"):
        GradDot().fit(task, X, Y)
    kept = (torch.arange(24) % 2) * 2
    assert GradDot().fit(task, X, kept).score(X[:2], kept[:2]).shape == (2, 24)
