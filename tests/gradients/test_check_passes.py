"""How many rows the checks of a model's gradients take, and when they are done again."""

import copy
from threading import Event, Thread, Timer
from weakref import WeakSet

import pytest
import torch
from torch import nn

from influencekit import GradDot, as_task
from influencekit.attributors.first_order import _first_order
from influencekit.data._examples import make_examples
from influencekit.exceptions import UnsupportedModelError
from influencekit.gradients._engine import GradientEngine
from influencekit.models.snapshot._repeats import State

SEEN: list[int] = []


class Counted(nn.Sequential):
    """Notes the rows of each call."""

    def forward(self, x):
        SEEN.append(len(x))
        return super().forward(x)


class Token(nn.Module):
    """A class token and positions, which belong to no layer."""

    def __init__(self):
        super().__init__()
        self.token, self.places = (nn.Parameter(torch.randn(1, t, 6)) for t in (1, 5))

    def forward(self, x):
        return torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places


class Places(nn.Module):
    """Words, and positions that are looked up once for all texts."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(9, 6), nn.Embedding(4, 6)

    def forward(self, x):
        return self.words(x) + self.places(torch.arange(4)[None])


def _mlp():
    return [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)], torch.randn(26, 6)


def _tokens():
    return [Token(), nn.Linear(6, 8), nn.Tanh(), nn.Flatten(), nn.Linear(40, 3)], torch.randn(
        26, 4, 6
    )


def _texts():
    return [Places(), nn.Linear(6, 8), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3)], torch.randint(
        9, (26, 4)
    )


#: Rows that checks may pass forward, and backward beside the gradients' own pass.
MOST = {_mlp: (17, 4), _tokens: (18, 4), _texts: (18, 4)}


def _problem(make):
    torch.manual_seed(0)
    parts, x = make()
    return Counted(*parts).double().eval(), x.double() if x.is_floating_point() else x


@pytest.mark.parametrize("make", MOST)
def test_checks_pass_few_rows(make, monkeypatch):
    net, x = _problem(make)
    y, back, grad = torch.randint(0, 3, (26,)), [], torch.autograd.grad

    def counted(outputs, *args, **kwargs):
        back.append(len(outputs) if outputs.ndim else 0)
        return grad(outputs, *args, **kwargs)

    task = as_task(net, loss=nn.CrossEntropyLoss())
    monkeypatch.setattr(torch.autograd, "grad", counted)
    monkeypatch.setattr(_first_order, "_WAITING", WeakSet())  # fitted by other tests
    SEEN.clear()
    GradDot(output="neg_loss").fit(task, x[6:], y[6:]).score(x[:6], y[:6])
    # gradients of all rows, and in so small a problem a check of all rows in the same graph
    assert sum(SEEN) - 26 <= MOST[make][0], str(SEEN)
    assert sum(back) - 2 * 26 <= MOST[make][1]


def _layout(task, x):
    engine = GradientEngine(task)
    examples = make_examples(task, x, torch.zeros(len(x), dtype=torch.long))
    engine.first(examples, lambda outputs, _: torch.ones_like(outputs)[:, None])
    return engine.layout(examples)


CHANGES = {
    "weights": lambda module: module[0].weight.mul_(2),
    "mode": lambda module: module[1].train(),
    "a part": lambda module: module.__setitem__(1, nn.Tanh()),
    "a hook": lambda module: module[1].register_forward_hook(lambda *_: None),
}


def test_a_model_is_not_taken_for_changed_while_another_thread_runs_it():
    net, x = _problem(_mlp)
    task, inside, go = as_task(net, loss=nn.CrossEntropyLoss()), Event(), Event()
    values = {name: 2 * p.detach() for name, p in task.parameters.items()}
    task.module[0].forward = _Waits(task.module[0].forward, inside, go)
    state = State(task.module)
    thread = Thread(target=task.forward, args=(x[:2], values))
    thread.start()
    assert inside.wait(10)
    Timer(0.2, go.set).start()
    assert state.stays()
    thread.join(10)


class _Waits:
    """A forward that says that it began, and goes on when it is told to."""

    def __init__(self, forward, inside, go):
        self.forward, self.inside, self.go = forward, inside, go

    def __call__(self, *args):
        self.inside.set()
        assert self.go.wait(10)
        return self.forward(*args)


def test_a_model_that_stays_is_looked_at_once():
    net, x = _problem(_mlp)
    task = as_task(net, loss=nn.CrossEntropyLoss())
    assert _layout(task, x) is _layout(task, x)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_model_is_looked_at_again(change):
    net, x = _problem(_mlp)
    task = as_task(net.float(), loss=nn.CrossEntropyLoss())
    before = _layout(task, x.float())
    with torch.no_grad():
        change(task.module)
    assert _layout(task, x.float()) is not before


def test_a_model_with_other_parameters_is_refused():
    net, x = _problem(_mlp)
    task = as_task(net, loss=nn.CrossEntropyLoss())
    _layout(task, x)
    task.module[0].bias = nn.Parameter(torch.ones(8, dtype=torch.float64))
    with pytest.raises(UnsupportedModelError, match="parameters were replaced"):
        _layout(task, x)


def test_examples_that_mix_after_fit_are_refused():
    net, x = _problem(_mlp)
    task = as_task(net, loss=nn.CrossEntropyLoss())
    y = torch.randint(0, 3, (26,))
    fitted = GradDot().fit(task, x, y)
    fitted.score(x[:3], y[:3])
    task.module.register_forward_hook(lambda _m, _x, out: out - out.mean(0))
    with pytest.raises(UnsupportedModelError, match="other examples in the batch"):
        fitted.score(x[:3], y[:3])


def test_outputs_that_became_infinite_before_fit_are_refused():
    net, x = _problem(_mlp)
    task = as_task(net, loss=nn.CrossEntropyLoss())
    examples = make_examples(task, x, torch.zeros(26, dtype=torch.long))
    task.module.register_forward_hook(lambda _m, _x, out: out + float("inf"))
    with pytest.raises(UnsupportedModelError, match="NaN or infinity"):
        GradDot().fit(task, examples)


class SometimesInPlace(nn.Module):
    """Changes a layer's outputs in place only in batches that hold a large number."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = self.a(x)
        scaled = h.mul_(2) if x.max() > 50 else 2 * h
        return self.b(torch.tanh(scaled))


def test_in_place_changes_are_noticed_in_any_batch():
    torch.manual_seed(0)
    net, x = SometimesInPlace().double().eval(), torch.randn(40, 4, dtype=torch.float64)
    x[17] = 60.0
    y = torch.randint(0, 3, (40,))
    task = as_task(net, loss=nn.CrossEntropyLoss())
    found = GradDot(output="neg_loss", batch_size=8).fit(task, x, y).score(x[:4], y[:4])
    rows = []
    for i in range(40):
        loss = nn.functional.cross_entropy(net(x[i : i + 1]), y[i : i + 1])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, net.parameters())]))
    rows = torch.stack(rows)
    torch.testing.assert_close(torch.as_tensor(found), rows[:4] @ rows.T, rtol=1e-10, atol=1e-12)


class SqueezesOne(nn.Module):
    """Drops the axis of a lone example between its layers, and puts it back."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = self.b(torch.tanh(self.a(x)).squeeze(0))
        return (h if len(x) > 1 else h[None]).sum(1)


def test_layers_keep_factors_where_a_lone_example_has_another_shape():
    net, x = SqueezesOne().double().eval(), torch.randn(9, 5, 4, dtype=torch.float64)
    layout = _layout(as_task(net, loss=nn.CrossEntropyLoss()), x)
    assert not layout.rest
    assert [layer.name for layer in layout.layers] == ["a", "b"]


def test_a_copy_of_a_state_is_looked_at_again():
    state = State(nn.Linear(3, 2))
    copied = copy.deepcopy(state)
    assert state.stays()
    assert not copied.stays()  # torch counts its changes from 0
    with torch.no_grad():
        state.module.weight.add_(1)
    assert not state.stays()
    assert state.changed() == ["parameter 'weight'"]
