"""What was not seen when the layers were looked at: ragged rows, routing, compiled parts."""

import logging

import pytest
import torch
from torch import nn

from influencekit import GradCos, GradDot, InfluenceFunction, as_task
from influencekit.exceptions import UnsupportedModelError
from influencekit.gradients.layers import _groups, _rules
from tests.models._autograd import CRITERION, check, expected, rows_of

pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")

torch.manual_seed(0)
Y = torch.randint(0, 3, (24,))


def _masked(lengths):
    lengths = torch.tensor(lengths)
    x = torch.randn(len(lengths), 5, 4, dtype=torch.float64)
    return x, torch.arange(5)[None] < lengths[:, None]


class Pool(nn.Module):
    """Rows of all examples in one: (sum of lengths, d)."""

    def __init__(self, make=lambda: nn.Linear(4, 6)):
        super().__init__()
        self.a, self.b = make(), nn.Linear(6, 3)

    def forward(self, x, mask):
        z = x.new_zeros(*x.shape[:2], 6)
        z[mask] = torch.tanh(self.a(x[mask]))
        return self.b(z.sum(1))


def _norm():
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))


LENGTHS = {
    "a multiple": [3, 3, *[2, 4] * 9, 3, 3, 1, 5],
    "no multiple": [3, 3, *[2, 4] * 8, 2, 5, 3, 3, 1, 5],
    "one each": [1, 1, *[0, 2] * 9, 1, 1, 2, 3],
    "only two differ": [3] * 9 + [2, 4] + [3] * 13,
}


@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 6), _norm], ids=["linear", "norm"])
def test_ragged_rows_belong_to_their_examples(make, lengths, batch_size):
    check(Pool(make), _masked(lengths), Y, how=GradDot(batch_size=batch_size))


class Sorted(nn.Module):
    """Examples are sorted inside, and put back: the first two are in order."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        order = x[:, 0].argsort(stable=True)
        back = order.argsort()
        return self.b(torch.tanh(self.a(x[order]))[back])


def test_permuted_examples_are_told_apart():
    x = torch.randn(24, 5, dtype=torch.float64)
    x[:2, 0] = torch.tensor([-9.0, -8.0])
    check(Sorted(), x, Y)


def _costly(monkeypatch):
    """Let checks of few examples take all the work that checks may take, as in a large net."""
    plan = _groups.Trust.positions
    monkeypatch.setattr(
        _groups.Trust,
        "positions",
        lambda self, n, last: setattr(self, "work", 2**40) or plan(self, n, last),
    )


def test_the_first_batch_is_checked_however_large_the_net_is(monkeypatch):
    _costly(monkeypatch)
    x = torch.randn(24, 5, dtype=torch.float64)
    x[:, 0] = torch.arange(24.0)  # in order, but for one batch
    x[2:10, 0] = torch.arange(8.0).flip(0)
    check(Sorted(), x, Y, how=GradDot(batch_size=10))


def test_wrong_gradients_that_are_in_use_already_are_told(monkeypatch):
    _costly(monkeypatch)
    x = torch.randn(24, 5, dtype=torch.float64)
    x[:, 0] = torch.arange(24.0)
    x[8:12, 0] = torch.tensor([4.0, 3.0, 2.0, 1.0])  # a batch in the middle, and the last one
    x[16:20, 0] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    with pytest.raises(UnsupportedModelError, match=r"'a' in Sorted.*batch_size=1"):
        check(Sorted(), x, Y, how=GradDot(batch_size=4))
    check(Sorted(), x, Y, how=GradDot(batch_size=1))


class Experts(nn.Module):
    """Each row of an example goes to one of two experts."""

    def __init__(self):
        super().__init__()
        self.experts, self.b = nn.ModuleList([nn.Linear(4, 6), nn.Linear(4, 6)]), nn.Linear(6, 3)

    def forward(self, x):
        rows = x.flatten(0, 1)
        chosen, z = (rows[:, 0] > 0).long(), rows.new_zeros(len(rows), 6)
        for i, expert in enumerate(self.experts):
            z[chosen == i] = torch.tanh(expert(rows[chosen == i]))
        return self.b(z.view(*x.shape[:2], 6).sum(1))


def test_routed_rows_belong_to_their_examples():
    x = torch.randn(24, 4, 4, dtype=torch.float64)
    x[:2, :, 0] = x[:2, :, 0].abs()  # the first two need one expert only
    check(Experts(), x, Y)


class Late(nn.Module):
    """A weight that large batches use without its module."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        z = self.a(x) if len(x) < 4 else x @ self.a.weight.T + self.a.bias
        return self.b(torch.tanh(z))


@pytest.mark.parametrize("how", [GradDot(), GradCos()], ids=["dot", "cos"])
def test_calls_without_hooks_are_seen(how):
    x, net = torch.randn(24, 5, dtype=torch.float64), Late().double()
    scores = how.fit(as_task(net, loss=CRITERION), x[:20], Y[:20]).score(x[20:], Y[20:])
    plain = nn.Sequential(net.a, nn.Tanh(), net.b)
    other = type(how)().fit(as_task(plain, loss=CRITERION), x[:20], Y[:20]).score(x[20:], Y[20:])
    assert abs(scores - other).max() < 1e-9


@pytest.mark.parametrize("curvature", ["fisher", "ggn", "logra", "datainf"])
def test_every_curvature_has_the_factors_of_ragged_rows(curvature):
    data, net = _masked(LENGTHS["a multiple"]), Pool().double()

    class ByMask(Pool):
        def forward(self, x, mask):
            return self.b((torch.tanh(self.a(x)) * mask[..., None]).sum(1))

    plain = ByMask().double()
    plain.load_state_dict(net.state_dict())

    def scores(net):
        how = InfluenceFunction(curvature, 0.1, random_state=0)
        how.fit(as_task(net, loss=CRITERION), rows_of(data, slice(20)), Y[:20])
        return how.score(rows_of(data, slice(20, None)), Y[20:])

    assert abs(scores(net) - scores(plain)).max() < 1e-6 * abs(scores(plain)).max()


@pytest.mark.parametrize("curvature", ["kfac", "ekfac", "ggn"])
def test_every_curvature_has_the_factors_of_permuted_examples(curvature):
    x = torch.randn(24, 5, dtype=torch.float64)
    x[:2, 0] = torch.tensor([-9.0, -8.0])
    net = Sorted().double()
    plain = nn.Sequential(net.a, nn.Tanh(), net.b)

    def scores(net):
        how = InfluenceFunction(curvature, 0.1).fit(as_task(net, loss=CRITERION), x[:20], Y[:20])
        return how.score(x[20:], Y[20:])

    assert abs(scores(net) - scores(plain)).max() < 1e-8 * abs(scores(plain)).max()


@pytest.mark.parametrize("size", [4, 20])
def test_compiled_parts_are_run_as_they_are_written(size):
    inner = torch.compile(nn.Sequential(nn.Linear(5, 6), nn.Tanh()), backend="eager")
    x = torch.randn(24, 5, dtype=torch.float64)
    net = nn.Sequential(inner, nn.Linear(6, 3))
    reference = nn.Sequential(inner._orig_mod, net[1]).double()
    how = GradDot(batch_size=size).fit(as_task(net.double(), loss=CRITERION), x[:20], Y[:20])
    wanted = expected(reference, x, Y, 20)
    assert abs(how.score(x[20:], Y[20:]) - wanted).max() < 1e-9 * abs(wanted).max()


def test_a_layer_compiled_in_place_is_run_as_it_is_written():
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    net[0].compile(backend="eager")
    check(net, torch.randn(24, 5, dtype=torch.float64), Y)


class Together(nn.Module):
    """Examples are mixed in batches of more than three only."""

    def __init__(self):
        super().__init__()
        self.b = nn.Linear(5, 3)

    def forward(self, x):
        return self.b(x - x.mean(0) if len(x) > 3 else x)


def test_a_model_that_mixes_large_batches_only_is_refused():
    x = torch.randn(24, 5, dtype=torch.float64)
    with pytest.raises(UnsupportedModelError, match="change with the other examples"):
        GradDot().fit(as_task(Together().double(), loss=CRITERION), x, Y).score(x, Y)


def test_an_exception_in_a_rule_sends_its_layer_to_the_fallback(monkeypatch, caplog):
    def broken(_module, _x):
        raise IndexError("no such axis")

    monkeypatch.setitem(_rules.RULES, nn.Linear, _rules.LayerRule(broken, _rules._linear_outputs))
    net = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 3))
    with caplog.at_level(logging.DEBUG, logger="influencekit.gradients"):
        check(net, torch.randn(24, 5, dtype=torch.float64), Y)
    assert "no such axis" in caplog.text


@pytest.mark.parametrize(
    "make", [torch.jit.script, lambda net: torch.jit.trace(net, torch.randn(4, 5).double())]
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_differentiated(make):
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    check(make(net), torch.randn(24, 5, dtype=torch.float64), Y)


class Token(nn.Module):
    """A class token and a table of positions, which belong to no layer."""

    def __init__(self):
        super().__init__()
        self.token, self.places = (nn.Parameter(torch.randn(1, n, 4)) for n in (1, 4))
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
        self.b = nn.Linear(4, 3)

    def forward(self, x):
        z = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.places
        return self.b(self.layer(z)[:, 0])


@pytest.mark.parametrize("batch_size", [None, 4])
def test_what_belongs_to_no_layer_is_not_taken_for_wrong(batch_size, caplog):
    x = torch.randn(24, 3, 4, dtype=torch.float64)
    with caplog.at_level(logging.DEBUG, logger="influencekit.gradients"):
        check(Token(), x, Y, how=GradDot(batch_size=batch_size))
    assert "so it is differentiated" not in caplog.text


class Looked(nn.Module):
    """A layer of a table: each may be expanded to the batch, both may not."""

    def __init__(self):
        super().__init__()
        self.table, self.norm = nn.Parameter(torch.randn(3, 4)), nn.LayerNorm(4)
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x + self.norm(self.table))).sum(1))


def test_layers_of_expanded_parameters_are_expanded_once():
    check(Looked(), torch.randn(24, 3, 4, dtype=torch.float64), Y)


class Folded(nn.Module):
    """Frames in the batch dimension: (n * frames, ...)."""

    def __init__(self, layer, *size):
        super().__init__()
        self.layer, self.size = layer, size
        with torch.no_grad():
            width = layer(torch.randn(2, *size, dtype=torch.float64)).flatten(1).shape[1]
        self.b = nn.Linear(width, 3)

    def forward(self, x):
        z = torch.tanh(self.layer(x.flatten(0, 1)).flatten(1))
        return self.b(z).view(*x.shape[:2], 3).mean(1)


def _batch_norm():
    norm = nn.BatchNorm2d(2).eval()
    norm.running_mean += 0.3
    return norm


FOLDED = {
    "linear": (lambda: nn.Linear(4, 5), 4), "conv1d": (lambda: nn.Conv1d(2, 4, 3), 2, 6),
    "conv2d": (lambda: nn.Conv2d(2, 4, 3, padding=1, stride=2), 2, 5, 5),
    "conv3d": (lambda: nn.Conv3d(1, 2, 2), 1, 3, 3, 3),
    "grouped": (lambda: nn.Conv2d(4, 4, 2, groups=2), 4, 3, 3),
    "grouped 1d": (lambda: nn.Conv1d(4, 8, 2, groups=4), 4, 5),
    "transposed": (lambda: nn.ConvTranspose2d(2, 3, 2), 2, 3, 3),
    "layer norm": (lambda: nn.LayerNorm((3, 4)), 3, 4), "rms norm": (lambda: nn.RMSNorm(4), 3, 4),
    "group norm": (lambda: nn.GroupNorm(2, 4), 4, 3, 3), "batch norm": (_batch_norm, 2, 3, 3),
    "batch norm of vectors": (lambda: nn.BatchNorm1d(4).eval(), 4),
    "prelu": (lambda: nn.PReLU(2), 2, 3),
    "sequence": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Flatten()), 3, 4),
}  # fmt: skip


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("case", FOLDED.values(), ids=FOLDED)
def test_folded_batches_are_right_under_every_rule(case, batch_size):
    layer, size = case[0]().double(), case[1:]
    x = torch.randn(24, 5, *size, dtype=torch.float64)
    check(Folded(layer, *size).double(), x, Y, how=GradDot(batch_size=batch_size))


def test_folded_indices_are_right():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Embedding(9, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.b(torch.tanh(self.a(x.flatten()))).view(*x.shape, 3).mean(1)

    check(Words(), torch.randint(0, 9, (24, 6)), Y)
