"""Losses: values, and factors of the output-space Hessian, against automatic differentiation."""

import pickle
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from influencekit.models import (
    BinaryCrossEntropy,
    CrossEntropy,
    CustomLoss,
    PoissonLoss,
    SquaredError,
)
from influencekit.models.losses import _score_losses as scores
from influencekit.models.losses._base import class_positions
from influencekit.models.losses._binary import MarginLoss
from influencekit.models.losses._elementwise import ElementwiseLoss

K = 4


def logits(k=K, n=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, k, dtype=torch.float64, generator=generator)


POSITIONS = torch.tensor([0, 1, 2, 3, 0, 2, 1])
BITS = (logits(seed=3) > 0).double()
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)

LOSSES = {
    "cross_entropy": (CrossEntropy(), POSITIONS),
    "smoothed": (CrossEntropy(0.3), POSITIONS),
    "smoothed_weighted": (CrossEntropy(0.3, WEIGHT), POSITIONS),
    "soft_targets": (CrossEntropy(), torch.softmax(logits(seed=5), 1)),
    "binary": (BinaryCrossEntropy(), BITS),
    "binary_soft": (BinaryCrossEntropy(), torch.sigmoid(logits(seed=4))),
    "binary_average": (BinaryCrossEntropy(average=True), BITS),
    "binary_weighted": (BinaryCrossEntropy(WEIGHT, 1 / WEIGHT, average=True), BITS),
    "squared": (SquaredError(0.5), logits(seed=1)),
    "squared_average": (SquaredError(1.0, average=True), logits(seed=1)),
    "poisson": (PoissonLoss(), logits(seed=1).exp().round()),
    "smooth_l1": (ElementwiseLoss(partial(F.smooth_l1_loss, reduction="none")), logits(seed=1)),
    "squared_hinge": (MarginLoss(scores.squared_hinge, WEIGHT), BITS),
    "modified_huber": (MarginLoss(scores.modified_huber), BITS),
    "huber": (ElementwiseLoss(partial(scores.huber, epsilon=0.5), average=True), logits(seed=1)),
    "insensitive": (
        ElementwiseLoss(partial(scores.squared_epsilon_insensitive, epsilon=0.1)),
        logits(seed=1),
    ),
    "custom": (CustomLoss(lambda o, t: F.cross_entropy(o, t, reduction="none")), POSITIONS),
    "custom_scalar": (CustomLoss(F.mse_loss), logits(seed=1)),
}


@pytest.fixture(params=LOSSES)
def case(request):
    return LOSSES[request.param]


def one(loss, target):
    return lambda z: loss(z[None], target[None])[0]


def test_factor_is_the_hessian(case):
    loss, targets = case
    outputs = 0.8 * logits()
    factor = loss.hessian_factor(outputs, targets).factor
    for i, (z, t) in enumerate(zip(outputs, targets, strict=True)):
        hessian = torch.func.hessian(one(loss, t))(z)
        torch.testing.assert_close(factor[i] @ factor[i].T, hessian, rtol=1e-10, atol=1e-12)


def test_coordinates_give_the_gradient(case):
    loss, targets = case
    outputs = 0.8 * logits()
    factor, coordinates = loss.hessian_factor(outputs, targets)
    expected = torch.stack(
        [torch.func.grad(one(loss, t))(z) for z, t in zip(outputs, targets, strict=True)]
    )
    if coordinates is None:  # then some gradient really lies outside the factor's range
        solution = torch.linalg.pinv(factor) @ expected[:, :, None]
        missing = (factor @ solution)[:, :, 0] - expected
        assert float(missing.abs().max()) > 1e-6
        return
    gradient = (factor @ coordinates[:, :, None])[:, :, 0]
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_coordinates_exist_where_they_should():
    for name in ("cross_entropy", "smoothed_weighted", "binary_weighted", "squared", "poisson"):
        loss, targets = LOSSES[name]
        assert loss.hessian_factor(logits(), targets).coordinates is not None, name
    loss, targets = LOSSES["huber"]
    assert loss.hessian_factor(10 * logits(), targets).coordinates is None


def test_batch_equals_one_at_a_time_and_vmap(case):
    loss, targets = case
    outputs = logits()
    batch = loss(outputs, targets)
    assert batch.shape == (len(outputs),)
    single = torch.cat([loss(outputs[i : i + 1], targets[i : i + 1]) for i in range(len(outputs))])
    mapped = torch.func.vmap(lambda z, t: loss(z[None], t[None])[0])(outputs, targets)
    torch.testing.assert_close(batch, single)
    torch.testing.assert_close(batch, mapped)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [50.0, 200.0, 1e4])
@pytest.mark.parametrize("wrong", [False, True])
def test_saturated_logits_stay_finite(dtype, size, wrong):
    outputs = torch.tensor([[size, 0.0, -size]], dtype=dtype)
    target = torch.tensor([2 if wrong else 0])
    factor, coordinates = CrossEntropy().hessian_factor(outputs, target)
    gradient = (factor @ coordinates[:, :, None])[0, :, 0]
    expected = torch.softmax(outputs[0], 0) - F.one_hot(target[0], 3)
    torch.testing.assert_close(gradient, expected.to(dtype), rtol=1e-4, atol=1e-5)

    binary = torch.tensor([[size]], dtype=dtype)
    target = torch.tensor([[0.0 if wrong else 1.0]], dtype=dtype)
    factor, coordinates = BinaryCrossEntropy().hessian_factor(binary, target)
    assert torch.isfinite(factor).all() and torch.isfinite(coordinates).all()
    gradient = (factor @ coordinates[:, :, None])[0, :, 0]
    torch.testing.assert_close(gradient, torch.sigmoid(binary[0]) - target[0])


def test_binary_loss_is_exact_far_out():
    # softplus cuts off at 20, which would show at the tenth digit
    outputs = torch.tensor([[25.0]], dtype=torch.float64)
    loss = BinaryCrossEntropy()(outputs, torch.ones(1, 1, dtype=torch.float64))
    assert float(loss) == pytest.approx(1.3887943864771144e-11, rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "criterion", "targets"),
    [
        (CrossEntropy(0.2), nn.CrossEntropyLoss(label_smoothing=0.2), POSITIONS),
        (BinaryCrossEntropy(average=True), nn.BCEWithLogitsLoss(), BITS),
        (SquaredError(average=True), nn.MSELoss(), logits(seed=1)),
        (PoissonLoss(), nn.PoissonNLLLoss(reduction="sum"), None),
    ],
)
def test_mean_is_the_criterion(loss, criterion, targets):
    outputs = logits()
    if targets is None:  # torch leaves out the constant, which a difference removes
        targets = logits(seed=1).exp()
        difference = loss(outputs, targets).sum() - loss(0 * outputs, targets).sum()
        expected = criterion(outputs, targets) - criterion(0 * outputs, targets)
        torch.testing.assert_close(difference, expected)
    else:
        torch.testing.assert_close(loss(outputs, targets).mean(), criterion(outputs, targets))


def test_one_column_may_come_flat():
    z, t = logits(k=1), logits(k=1, seed=1)
    torch.testing.assert_close(SquaredError()(z, t[:, 0]), SquaredError()(z, t))
    with pytest.raises(ValueError, match="one target for each output"):
        SquaredError()(logits(), t)


def test_custom_loss_refuses_a_scalar_that_is_no_mean():
    weight = torch.tensor([0.1, 1.0, 5.0, 9.0], dtype=torch.float64)
    loss = CustomLoss(lambda o, t: F.cross_entropy(o, t, weight=weight))
    with pytest.raises(ValueError, match="class weights"):
        loss(logits(), POSITIONS)
    with pytest.raises(ValueError, match=r"one\s+loss for each example"):
        CustomLoss(lambda o, t: o)(logits(), POSITIONS)


def test_custom_loss_that_reads_values():
    loss = CustomLoss(lambda o, t: F.mse_loss(o, t) if float(o.sum()) < 1e9 else o.sum())
    expected = (logits() - logits(seed=1)).square().mean(1)
    torch.testing.assert_close(loss(logits(), logits(seed=1)), expected)


def test_margins_are_log_odds():
    outputs = logits()
    p = torch.softmax(outputs, 1)
    z = logits(k=1)
    for label in (0, 1):
        positions = torch.full((len(p),), label)
        odds = torch.log(p / (1 - p))[:, label]
        torch.testing.assert_close(CrossEntropy().margin(outputs, positions), odds)
        own = z[:, 0] if label else -z[:, 0]
        torch.testing.assert_close(BinaryCrossEntropy().margin(z, positions), own)
    with pytest.raises(TypeError, match="labels for each example"):
        BinaryCrossEntropy(multilabel=True).margin(outputs, positions)
    with pytest.raises(TypeError, match="no margin"):
        SquaredError().margin(outputs, positions)


def test_class_positions_of_every_encoding():
    for n_classes in (2, 4):
        positions = torch.tensor([0, 1, 1, 0]) if n_classes == 2 else torch.tensor([3, 0, 2, 1])
        for loss in (CrossEntropy(), BinaryCrossEntropy()):
            encoded = loss.encode_classes(positions, n_classes)
            torch.testing.assert_close(class_positions(encoded), positions)
    torch.testing.assert_close(class_positions(torch.tensor([0.0, 1.0])), torch.tensor([0, 1]))


def test_predicted_targets():
    z = torch.tensor([[0.3], [-2.0]])
    assert BinaryCrossEntropy().predicted_targets(z).tolist() == [[1.0], [0.0]]
    z = torch.tensor([[0.3, 0.1, -1.0]])
    assert BinaryCrossEntropy().predicted_targets(z).tolist() == [[1.0, 0.0, 0.0]]
    assert BinaryCrossEntropy(multilabel=True).predicted_targets(z).tolist() == [[1.0, 1.0, 0.0]]
    assert CrossEntropy().predicted_targets(z).tolist() == [0]
    torch.testing.assert_close(PoissonLoss().predicted_targets(z), z.exp())


def test_losses_pickle(case):
    loss, targets = case
    if isinstance(loss, CustomLoss) and loss.function is not F.mse_loss:
        pytest.skip("a lambda does not pickle")
    again = pickle.loads(pickle.dumps(loss))
    torch.testing.assert_close(again(logits(), targets), loss(logits(), targets))


def test_cross_entropy_of_sequences_is_refused():
    with pytest.raises(ValueError, match="several positions"):
        CrossEntropy()(torch.zeros(2, 3, 5), torch.zeros(2, 5, dtype=torch.long))
