"""Every road from a module to natural outputs gives what plain torch gives.

Modules return a tensor, or hold it in a dict, a tuple, a list or a named tuple; some have a link,
some give one number an example.  The reference is ``natural``, written out in plain torch.
"""

from collections import OrderedDict, namedtuple
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian, jacrev, jvp, vmap

from influencekit import FurtherTraining, InfluenceFunction, Training, as_task
from influencekit.attributors.influence._predicted_endpoint import ShiftedOutputs
from influencekit.curvature import ConjugateGradient
from influencekit.gradients._per_example import dense_rows
from influencekit.models._links import LogProbabilities
from influencekit.training.stack._tasks import TaskStack
from influencekit.training.trajectory._replay import FlatModel
from tests._shared.marks import NOT_TRAINED

N, D, K = 9, 4, 3
Pair = namedtuple("Pair", ["logits", "extra"])
WRAPPERS = {
    "tensor": lambda z: z,
    "dict": lambda z: {"extra": z.sum(), "logits": z},
    "ordered dict": lambda z: OrderedDict(logits=z, hidden=2 * z),
    "tuple": lambda z: (z, z.sum()),
    "list": lambda z: [z, z.sum()],
    "named tuple": lambda z: Pair(z, z.sum()),
}
KINDS = [(wrapper, "logits") for wrapper in WRAPPERS]
KINDS += [("tensor", "softmax"), ("dict", "softmax"), ("dict", "flat"), ("tuple", "flat")]


class Net(nn.Module):
    """Two layers; "softmax" needs a link, "flat" gives one number an example."""

    def __init__(self, wrapper, form):
        super().__init__()
        self.first, self.last = nn.Linear(D, 5), nn.Linear(5, 1 if form == "flat" else K)
        self.wrap, self.form = WRAPPERS[wrapper], form

    def forward(self, x):
        z = self.last(torch.tanh(self.first(x)))
        z = z.softmax(-1) if self.form == "softmax" else z
        return self.wrap(z[:, 0] if self.form == "flat" else z)


def natural(parameters, x, form):
    """Natural outputs by hand: logits, log(p + eps) of a softmax, a column of predictions."""
    h = torch.tanh(x @ parameters["first.weight"].T + parameters["first.bias"])
    z = h @ parameters["last.weight"].T + parameters["last.bias"]
    return (z.softmax(-1) + torch.finfo(z.dtype).eps).log() if form == "softmax" else z


def losses(outputs, y, form):
    if form == "flat":
        return (outputs[:, 0] - y) ** 2
    return -outputs.log_softmax(-1).gather(1, y[:, None])[:, 0]


@pytest.fixture(params=KINDS, ids=" of ".join)
def case(request):
    wrapper, form = request.param
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=generator, dtype=torch.float64)
    y = torch.randint(0, K, (N,), generator=generator)
    y = y.double() if form == "flat" else y
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = Net(wrapper, form).double()
    criterion = {"flat": nn.MSELoss(), "softmax": nn.NLLLoss(), "logits": nn.CrossEntropyLoss()}
    task = as_task(net, criterion[form])
    return (replace(task, link=LogProbabilities()) if form == "softmax" else task), x, y, form


def moved(task, scale=1.3):
    return {name: scale * p.detach() for name, p in task.parameters.items()}


def close(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_forward_at_its_own_and_at_other_parameters(case):
    task, x, _, form = case
    own, other = moved(task, 1.0), moved(task)
    close(task.forward(x).detach(), natural(own, x, form))
    close(task.forward(x, other).detach(), natural(other, x, form))
    close(task.forward(x).detach(), natural(own, x, form))  # nothing stays behind


def test_forward_under_transforms(case):
    task, x, _, form = case
    own, other = moved(task, 1.0), moved(task)
    pairs = {name: torch.stack([own[name], other[name]]) for name in own}
    many = vmap(lambda p: task.forward(x, p))(pairs)
    close(many, torch.stack([natural(own, x, form), natural(other, x, form)]))
    got = jvp(lambda p: task.forward(x, p), (own,), (other,))[1]
    close(got, jvp(lambda p: natural(p, x, form), (own,), (other,))[1])


@pytest.mark.parametrize("together", [True, False])
def test_stacked_models(case, together):
    task, x, _, form = case
    own, other = moved(task, 1.0), moved(task)
    pairs = {name: torch.stack([own[name], other[name]]) for name in own}
    got = TaskStack(task, together).outputs(pairs, x, shared=True)
    close(got.detach(), torch.stack([natural(own, x, form), natural(other, x, form)]))


@pytest.mark.parametrize("training", [True, False])
def test_recorded_runs(case, training):
    task, x, _, form = case
    model, other = FlatModel(task), moved(task)
    got = model.outputs(model.flatten(other), x, training=training)
    close(got.detach(), natural(other, x, form))


def test_predicted_endpoint(case):
    task, x, _, form = case
    own, step = moved(task, 1.0), moved(task, 0.1)
    shifted = ShiftedOutputs(task, torch.cat([s.flatten() for s in step.values()]))
    value, change = jvp(lambda p: natural(p, x, form), (own,), (step,))
    close(shifted(x).detach(), value + change)


@pytest.mark.parametrize("matrix", ["hessian", "ggn"])
@NOT_TRAINED
def test_products_with_curvatures(case, matrix):
    task, x, y, form = case
    own = moved(task, 1.0)

    def tree(theta):
        parts = theta.split([p.numel() for p in own.values()])
        return {k: part.view_as(p) for (k, p), part in zip(own.items(), parts, strict=True)}

    def each(theta):
        return losses(natural(tree(theta), x, form), y, form)

    theta = torch.cat([p.flatten() for p in own.values()])
    if matrix == "hessian":
        curvature = hessian(lambda theta: each(theta).mean())(theta)
    else:
        outputs = natural(own, x, form)
        J = jacrev(lambda theta: natural(tree(theta), x, form).flatten())(theta)
        H = hessian(lambda z: losses(z.view_as(outputs), y, form).mean())(outputs.flatten())
        curvature = J.T @ H @ J
    gradients = jacrev(each)(theta)
    expected = gradients @ torch.linalg.solve(
        curvature + 5.0 * torch.eye(len(theta), dtype=theta.dtype), gradients.T / N
    )
    how = ConjugateGradient(matrix, rtol=1e-12, preconditioner=None)
    scores = InfluenceFunction(how, damping=5.0, output="neg_loss").fit(task, x, y).score(x, y)
    close(torch.as_tensor(scores), expected)


@pytest.mark.parametrize("vmaps", [True, False])
def test_dense_gradients(case, vmaps):
    task, x, _, form = case
    own = moved(task, 1.0)
    outputs = natural(own, x, form)
    cotangents = torch.ones(N, 1, *outputs.shape[1:], dtype=torch.float64)
    got = dense_rows(task, list(own), x, cotangents, vmaps=vmaps, workspace=2**20)
    wanted = jacrev(lambda p: natural(p, x, form).sum(1))(own)
    close(got[:, 0], torch.cat([g.flatten(1) for g in wanted.values()], dim=1))


@pytest.mark.parametrize("wrapper", list(WRAPPERS))
@NOT_TRAINED
def test_scores_of_a_wrapped_net_are_those_of_the_net(wrapper):
    """The methods' own answers, through their public side."""
    x, y = torch.randn(12, D, generator=torch.Generator().manual_seed(0)), torch.arange(12) % K
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        nets = [Net("tensor", "logits"), Net(wrapper, "logits")]
    nets[1].load_state_dict(nets[0].state_dict())
    further = FurtherTraining(
        training=Training("sgd", lr=0.1, epochs=1, batch_size=10), n_repeats=1, random_state=0
    )
    for method in (
        InfluenceFunction(at="predicted", further_training=further, damping=0.1),
        InfluenceFunction(at="endpoint", further_training=further, damping=0.1),
        InfluenceFunction("cg", damping=1.0),
        further,
    ):
        plain, wrapped = (
            method.fit(as_task(net, nn.CrossEntropyLoss()), x[:10], y[:10]).score(x[10:], y[10:])
            for net in nets
        )
        torch.testing.assert_close(
            torch.as_tensor(wrapped), torch.as_tensor(plain), rtol=1e-4, atol=1e-6
        )


def test_a_module_that_returns_nothing_of_the_kind_is_refused_on_every_road():
    task = as_task(Net("tensor", "logits"), nn.CrossEntropyLoss())
    task.module.wrap = lambda z: {"scores": z}
    x, other = torch.randn(2, D), moved(task)
    for road in (lambda: task.forward(x), lambda: task.forward(x, other)):
        with pytest.raises(TypeError, match="'logits'"):
            road()
    assert functional_call(task.module, other, (x,))["scores"].shape == (2, K)
