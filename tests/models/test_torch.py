"""Bare torch modules: criteria are recognized, the user's module is left alone."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from influencekit import GradDot
from influencekit.exceptions import UnsupportedModelError
from influencekit.models import (
    BinaryCrossEntropy,
    CrossEntropy,
    CustomLoss,
    SquaredError,
    as_task,
    predicted_targets,
)
from influencekit.models._predict import decision_function, predict
from influencekit.models.losses._elementwise import ElementwiseLoss
from influencekit.utils._torch import without_cudnn

W3 = torch.tensor([1.0, 2.0, 0.5])


def net(*last, n_out=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, n_out), *last).double()


def data(n_out=3):
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(12, 4, dtype=torch.float64, generator=generator)
    labels = torch.arange(12) % 3
    values = torch.randn(12, n_out, dtype=torch.float64, generator=generator)
    bits = (values > 0).double()
    return X, labels, values, bits


LABELS, VALUES, BITS = data()[1:]
PROBABILITIES = nn.Softmax(dim=-1)

CRITERIA = {
    "cross_entropy": ((), nn.CrossEntropyLoss(), LABELS, CrossEntropy),
    "weighted": ((), nn.CrossEntropyLoss(W3.double()), LABELS, CrossEntropy),
    "smoothed": ((), nn.CrossEntropyLoss(label_smoothing=0.1), LABELS, CrossEntropy),
    "smoothed_weighted": (
        (),
        nn.CrossEntropyLoss(W3.double(), label_smoothing=0.1),
        LABELS,
        CrossEntropy,
    ),
    "nll": ((nn.LogSoftmax(-1),), nn.NLLLoss(), LABELS, CrossEntropy),
    "nll_weighted": ((nn.LogSoftmax(-1),), nn.NLLLoss(W3.double()), LABELS, CrossEntropy),
    "bce_logits": ((), nn.BCEWithLogitsLoss(), BITS, BinaryCrossEntropy),
    "bce_pos_weight": (
        (),
        nn.BCEWithLogitsLoss(weight=1 / W3.double(), pos_weight=W3.double()),
        BITS,
        BinaryCrossEntropy,
    ),
    "bce": ((nn.Sigmoid(),), nn.BCELoss(), BITS, BinaryCrossEntropy),
    "bce_weight": ((nn.Sigmoid(),), nn.BCELoss(W3.double()), BITS, BinaryCrossEntropy),
    "mse": ((), nn.MSELoss(), VALUES, SquaredError),
    "l1": ((), nn.L1Loss(), VALUES, ElementwiseLoss),
    "huber": ((), nn.HuberLoss(delta=0.3), VALUES, ElementwiseLoss),
    "smooth_l1": ((), nn.SmoothL1Loss(), VALUES, ElementwiseLoss),
    "unknown_criterion": ((), nn.SoftMarginLoss(), 2 * BITS - 1, CustomLoss),
    "functional": ((), F.cross_entropy, LABELS, CrossEntropy),
    "partial": ((), partial(F.cross_entropy, weight=W3.double()), LABELS, CrossEntropy),
    "functional_mse": ((), F.mse_loss, VALUES, SquaredError),
    "callable": ((), lambda o, t: (o - t).pow(4).sum(1).mean(), VALUES, CustomLoss),
    "per_example": ((), lambda o, t: (o - t).pow(4).sum(1), VALUES, CustomLoss),
}


@pytest.fixture(params=CRITERIA)
def case(request):
    last, criterion, targets, kind = CRITERIA[request.param]
    module = net(*last)
    return module, criterion, targets, kind, as_task(module, loss=criterion)


def test_criterion_is_recognized_and_its_mean_kept(case):
    module, criterion, targets, kind, task = case
    assert type(task.loss) is kind
    X = data()[0]
    losses = task.loss(task.forward(X), targets)
    assert losses.shape == (len(X),)
    weight = task.example_weights(targets)
    weight = torch.ones_like(losses) if weight is None else weight
    expected = criterion(module(X), targets).mean()
    mean = (weight * losses).sum() / weight.sum()
    torch.testing.assert_close(mean, expected, rtol=1e-10, atol=1e-12)


def test_gradient_of_the_objective_is_the_criterions(case):
    module, criterion, targets, _, task = case
    X = data()[0]
    losses = task.loss(task.forward(X), targets)
    weight = task.example_weights(targets)
    weight = torch.ones_like(losses) if weight is None else weight
    mine = torch.autograd.grad((weight * losses).sum() / weight.sum(), task.parameters.values())
    theirs = torch.autograd.grad(criterion(module(X), targets).mean(), module.parameters())
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_losses_under_vmap_and_grad(case):
    _, _, targets, _, task = case
    X = data()[0]
    parameters = {k: p.detach() for k, p in task.parameters.items()}

    def loss(p, x, t):
        raw = torch.func.functional_call(task.module, p, (x[None],))
        return task.loss(raw if task.link is None else task.link(raw), t[None])[0]

    rows = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, X, targets)
    mean = {k: g.mean(0) for k, g in rows.items()}
    batch = torch.autograd.grad(
        task.loss(task.forward(X), targets).mean(), task.parameters.values()
    )
    for a, b in zip(mean.values(), batch, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reduction_does_not_change_the_examples_loss_of_classifiers(reduction):
    X, labels, _, _ = data()
    task = as_task(net(), loss=nn.CrossEntropyLoss(reduction=reduction))
    expected = F.cross_entropy(net()(X), labels, reduction="none")
    torch.testing.assert_close(task.loss(task.forward(X), labels), expected)


def test_summed_criterion_sums_over_outputs():
    X, _, values, _ = data()
    task = as_task(net(), loss=nn.MSELoss(reduction="sum"))
    expected = (net()(X) - values).square().sum(1)
    torch.testing.assert_close(task.loss(task.forward(X), values), expected)


def test_module_is_left_untouched():
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.Linear(5, 3))
    module[0].weight.requires_grad_(False)
    calls = []
    module.register_forward_hook(lambda *a: calls.append("forward"))
    module.register_full_backward_hook(lambda *a: calls.append("backward"))
    module.train()
    module[2].eval()
    before = copy.deepcopy(module.state_dict())
    modes = [m.training for m in module.modules()]
    rng, numpy_rng = torch.get_rng_state(), np.random.get_state()[1].copy()
    task = as_task(module, loss=F.cross_entropy)
    X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    task.loss(task.forward(X), torch.zeros(6, dtype=torch.long)).sum().backward()
    assert "backward" not in calls
    assert [m.training for m in module.modules()] == modes
    assert [p.requires_grad for p in module.parameters()] == [False, *[True] * 5]
    assert all(p.grad is None for p in module.parameters())
    assert len(module._forward_hooks) == len(module._backward_hooks) == 1
    for key, value in module.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), rng)
    assert (np.random.get_state()[1] == numpy_rng).all()
    assert not task.module.training and not task.module[2].training
    assert "0.weight" not in task.parameters and len(task.parameters) == 5
    assert task.n_parameters == sum(p.numel() for p in task.parameters.values())


def test_later_training_does_not_reach_the_task():
    module = net()
    task = as_task(module, loss=F.cross_entropy)
    before = decision_function(task, data()[0])
    with torch.no_grad():
        module[0].weight.zero_()
    np.testing.assert_array_equal(decision_function(task, data()[0]), before)


def test_outputs_and_dtype():
    module = net()
    task = as_task(module, loss=F.cross_entropy)
    X = data()[0]
    assert task.dtype == torch.float64
    expected = module(X).detach().numpy()
    np.testing.assert_allclose(decision_function(task, X.numpy()), expected, rtol=1e-14)
    assert (predict(task, X.float()) == expected.argmax(1)).all()
    single = as_task(net(nn.Flatten(0), n_out=1), loss=F.mse_loss)
    assert single.forward(X).shape == (12, 1)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, a, b):
        return self.linear(a) + b, "side"


def test_several_inputs_and_a_tuple_of_outputs():
    module = TwoInputs()
    task = as_task(module, loss=F.cross_entropy)
    a, b = torch.ones(2, 4), torch.ones(2, 3)
    expected = module(a, b)[0].detach().numpy()
    np.testing.assert_allclose(decision_function(task, {"a": a, "b": b}), expected)
    np.testing.assert_allclose(decision_function(task, (a, b)), expected)


def test_several_columns_of_binary_cross_entropy_are_several_labels():
    task = as_task(net(), loss=nn.BCEWithLogitsLoss())
    outputs = net()(data()[0]).detach()
    np.testing.assert_array_equal(predict(task, data()[0]), outputs > 0)
    assert torch.equal(predicted_targets(task, outputs), (outputs > 0).double())
    torch.testing.assert_close(task.loss.predict_proba(outputs), torch.sigmoid(outputs))


def test_old_weight_norm_is_copied():
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.Linear(4, 3))
    module = nn.Sequential(layer)
    X = torch.ones(2, 4)
    expected = module(X).detach()
    task = as_task(module, loss=F.cross_entropy)
    torch.testing.assert_close(task.forward(X).detach(), expected)
    assert set(task.parameters) == {"0.bias", "0.weight_g", "0.weight_v"}


def test_wrappers_come_off():
    module = net()
    task = as_task(nn.DataParallel(module), loss=F.cross_entropy)
    assert list(task.parameters) == list(dict(module.named_parameters()))


def test_task_is_pickled_and_copied():
    task = as_task(net(), loss=nn.CrossEntropyLoss(W3.double(), label_smoothing=0.1))
    assert task.n_parameters and task.dtype  # fill the caches
    X = data()[0]
    for again in (pickle.loads(pickle.dumps(task)), copy.deepcopy(task)):
        np.testing.assert_array_equal(decision_function(again, X), decision_function(task, X))
        assert next(iter(again.parameters.values())) is again.module[0].weight
        torch.testing.assert_close(again.class_weight, task.class_weight)


def test_a_lambda_as_loss_is_pickled():
    power = 4
    task = as_task(net(), loss=lambda o, t: (o - t).pow(power).sum(1))
    influence = GradDot().fit(task, *data()[:1], np.ones((len(data()[0]), 3)))
    scores = influence.score(data()[0][:2], np.zeros((2, 3)))
    again = pickle.loads(pickle.dumps(influence))
    np.testing.assert_array_equal(again.score(data()[0][:2], np.zeros((2, 3))), scores)
    assert copy.deepcopy(task).loss.function is task.loss.function


def test_a_task_is_its_own_task():
    task = as_task(net(), loss=F.cross_entropy)
    assert as_task(task) is task
    with pytest.raises(TypeError, match="already a Task"):
        as_task(task, loss=F.mse_loss)


def frozen():
    return net().requires_grad_(False)


def lazy():
    return nn.Sequential(nn.LazyLinear(3))


def batch_statistics():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False))


@pytest.mark.parametrize(
    ("make", "loss", "error", "words"),
    [
        (net, None, TypeError, "loss: missing"),
        (net, nn.MSELoss, TypeError, "class MSELoss"),
        (net, "mse", TypeError, "got str"),
        (
            net,
            nn.CrossEntropyLoss(torch.tensor([0.0, 1, 1]), label_smoothing=0.1),
            UnsupportedModelError,
            "class weight of 0",
        ),
        (frozen, F.mse_loss, UnsupportedModelError, "no trainable parameter"),
        (lazy, F.mse_loss, UnsupportedModelError, "no shape yet"),
        (batch_statistics, F.mse_loss, UnsupportedModelError, "running statistics"),
        (lambda: nn.Linear, F.mse_loss, UnsupportedModelError, "got the class Linear"),
        (object, F.mse_loss, UnsupportedModelError, "which is not a model that influencekit"),
    ],
)
def test_refused(make, loss, error, words):
    with pytest.raises(error, match=words):
        as_task(make(), loss=loss)


def test_nll_of_logits_is_refused_when_it_shows():
    task = as_task(net(), loss=nn.NLLLoss())
    with pytest.raises(UnsupportedModelError, match="LogSoftmax"):
        task.forward(data()[0])


class Named(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.name = name

    def forward(self, x):
        return {"loss": x.sum(), self.name: self.linear(x)}


def test_output_that_is_no_tensor():
    with pytest.raises(UnsupportedModelError, match=r"returned dict.*'logits'"):
        as_task(Named("scores"), loss=F.mse_loss).forward(torch.ones(1, 4))


def test_logits_are_picked_out_of_a_dict():
    module = Named("logits")
    found = as_task(module, loss=F.mse_loss).forward(torch.ones(2, 4))
    torch.testing.assert_close(found, module.linear(torch.ones(2, 4)))


@pytest.mark.parametrize("on_cuda", [True, False])
def test_recurrent_layers_on_cuda_run_without_cudnn(on_cuda, monkeypatch):
    before = torch.backends.cudnn.enabled
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "is_acceptable", lambda tensor: on_cuda)
    for module, recurrent in ((nn.Sequential(nn.GRU(2, 3)), True), (nn.Linear(2, 3), False)):
        with without_cudnn(module):
            assert torch.backends.cudnn.enabled == (before and not (on_cuda and recurrent))
        assert torch.backends.cudnn.enabled == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_nets_on_cuda(kind):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body, self.head = kind(4, 5, batch_first=True), nn.Linear(5, 3)

        def forward(self, x):
            return self.head(self.body(x)[0][:, -1])

    X, y, net = torch.randn(12, 6, 4, dtype=torch.float64), torch.arange(12) % 3, Net().double()
    scores = [
        GradDot().fit(as_task(net.to(device), nn.CrossEntropyLoss()), X, y).score(X, y)
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-8)
