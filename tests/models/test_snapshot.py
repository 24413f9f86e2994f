"""The snapshot is the model, however its code reaches the weights; or it is refused."""

import functools
import pickle
import threading
import warnings

import pytest
import torch
from torch import nn

from influencekit import GradDot, as_task
from influencekit.exceptions import InfluenceKitWarning, UnsupportedModelError
from tests.models._autograd import CRITERION, check

torch.manual_seed(0)
X, Y = torch.randn(12, 5, dtype=torch.float64), torch.randint(0, 3, (12,))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


def a_replaced_forward():
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    inner = net.forward
    net.forward = lambda x: 2 * inner(x)
    return net


def a_compiled_forward():
    net = Net()
    net.forward = torch.compile(net.forward, backend="eager")
    return net


def a_replaced_forward_of_a_child():
    net = Net()
    plain = net.a.forward
    net.a.forward = functools.partial(lambda f, x: f(x) + net.a.bias, plain)
    return net


class Stepper(Net):
    def __init__(self):
        super().__init__()
        self.step = lambda x: torch.tanh(self.a(x))

    def forward(self, x):
        return self.b(self.step(x))


class Steps(Net):
    def __init__(self):
        super().__init__()
        weight = self.a.weight
        self.steps = [("first", lambda x, w=weight: x @ w.T), ("second", torch.tanh)]
        self.table = {"end": [lambda x: self.b(x)]}

    def forward(self, x):
        for _, step in self.steps:
            x = step(x)
        return self.table["end"][0](x) + 0 * self.a(X[:1].to(x)).sum()


class Compiled(Net):
    def __init__(self):
        super().__init__()
        self.step = torch.compile(self.first, backend="eager")

    def first(self, x):
        return torch.tanh(self.a(x))

    def forward(self, x):
        return self.b(self.step(x))


class Kept(Net):
    def __init__(self):
        super().__init__()
        self.kept = {}
        self.a.register_forward_hook(lambda m, i, o: self.kept.update(z=o))

    def forward(self, x):
        self.a(x)
        return self.b(torch.tanh(self.kept["z"]))


class Caller:
    def __init__(self, function):
        self.function = function


class InsideAnObject(Net):
    def __init__(self):
        super().__init__()
        self.config = Caller(lambda x: torch.tanh(self.a(x)))

    def forward(self, x):
        return self.b(self.config.function(x))


def a_global_helper():
    namespace = {"torch": torch}
    helper = "def helper(x):\n    return torch.tanh(net.a(x))\n"
    exec(helper + "def forward(x):\n    return net.b(helper(x))\n", namespace)
    net = namespace["net"] = Net()
    net.forward = namespace["forward"]
    return net


KINDS = [
    a_replaced_forward, a_compiled_forward, a_replaced_forward_of_a_child, Stepper, Steps, Compiled,
    Kept, InsideAnObject, a_global_helper,
]  # fmt: skip


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_functions_on_a_model_belong_to_its_snapshot(kind, used):
    net = kind().double()
    if used:
        net(X)
    check(net, X, Y)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_snapshot_stays_when_the_model_changes(kind):
    net = kind().double().eval()
    task = as_task(net, loss=CRITERION)
    before = task.forward(X).detach()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
        net(X)
    torch.testing.assert_close(task.forward(X).detach(), before, rtol=0, atol=0)


def test_the_model_keeps_its_own_functions():
    net = Stepper().double()
    step, hooks = net.step, dict(net.a._forward_hooks)
    GradDot().fit(as_task(net, loss=CRITERION), X, Y)
    assert net.step is step and dict(net.a._forward_hooks) == hooks


_OUTSIDE = {}


class Outside(Net):
    def forward(self, x):
        return self.b(torch.tanh(_OUTSIDE["net"].a(x)))


def test_a_snapshot_that_still_uses_the_model_is_refused():
    _OUTSIDE["net"] = net = Outside().double()
    with pytest.raises(UnsupportedModelError, match=r"still uses \['a\.bias', 'a\.weight'\]"):
        GradDot().fit(as_task(net, loss=CRITERION), X, Y)


class Detached(Net):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


def test_a_model_without_gradients_is_refused():
    with pytest.raises(UnsupportedModelError, match="no trainable parameter has an effect"):
        GradDot().fit(as_task(Detached().double(), loss=CRITERION), X, Y)


def test_a_parameter_without_effect_is_named():
    net = Net().double()
    net.unused = nn.Linear(2, 2)
    with pytest.warns(InfluenceKitWarning, match=r"'unused\.weight', 'unused\.bias'"):
        check(net, X, Y)


class Routed(Net):
    """A branch for few examples: the first two do not take it."""

    def __init__(self):
        super().__init__()
        self.rare = nn.Linear(5, 6)

    def forward(self, x):
        z, rare = self.a(x), x[:, 0] > 10
        return self.b(torch.tanh(torch.where(rare[:, None], self.rare(x), z) if rare.any() else z))


def test_a_branch_that_later_examples_take_has_an_effect():
    data = X.clone()
    data[5, 0] = 20.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(Routed(), data, Y)


class Keeps(Net):
    def forward(self, x):
        z = torch.tanh(self.a(x))
        self.seen, self.by_name = [(z,)], {"z": {"deep": [z]}}
        return self.b(z)


def test_kept_activations_and_locks_do_not_hinder_a_copy():
    net = Keeps().double()
    net(X)
    net.lock, net.state = threading.RLock(), Caller(threading.Lock())
    check(net, X, Y)
    assert net.seen[0][0].requires_grad


def test_what_cannot_be_copied_is_named():
    net = Net()
    net.a.rows = (row for row in range(3))
    with pytest.raises(UnsupportedModelError, match=r"attribute 'a\.rows' of Net, a generator"):
        as_task(net, loss=CRITERION)


@pytest.mark.parametrize("kind", [Net, Keeps])
def test_a_task_of_such_a_model_pickles(kind):
    task = as_task(kind().double(), loss=CRITERION)
    again = pickle.loads(pickle.dumps(task))
    torch.testing.assert_close(again.forward(X), task.forward(X))


def _with_an_empty_layer(net):
    net.empty = nn.ParameterList([torch.empty(0, 5)])
    return net


@pytest.mark.parametrize(
    ("change", "said"),
    [(lambda net: net.to("meta"), "meta device"), (_with_an_empty_layer, "without any number")],
    ids=["meta", "width 0"],
)  # fmt: skip
def test_parameters_without_values_are_named(change, said):
    with pytest.raises(UnsupportedModelError, match=said):
        as_task(change(Net()), loss=CRITERION)
