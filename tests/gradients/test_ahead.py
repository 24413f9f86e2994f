"""Gradients whose first batch is computed at once, and the sizes that a layout tells."""

import pickle

import pytest
import torch
from torch import nn

from influencekit import GradDot, as_task
from influencekit.data._examples import make_examples
from influencekit.exceptions import UnsupportedModelError
from influencekit.gradients._cotangents import loss_cotangent
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._gradients import Gradients


class Texts(nn.Module):
    """Words, tied to the answers, and positions that are looked up once."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(9, 6), nn.Embedding(4, 6)
        self.idle, self.scale = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(6))
        self.wide, self.narrow = nn.Linear(6, 20), nn.Linear(20, 6)
        self.out = nn.Linear(6, 9, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x):
        h = self.words(x) + self.places(torch.arange(4)[None])
        return self.out(self.narrow(torch.tanh(self.wide(self.scale * h))).mean(1))


def _images():
    layers = [nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(5 * 64, 3)), torch.randn(30, 3, 8, 8)


PROBLEMS = {
    "texts": lambda: (Texts(), torch.randint(9, (30, 4))),
    "images": _images,
    "rows": lambda: (
        nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 3)),
        torch.randn(30, 4),
    ),
    "LSTM": lambda: (Recurrent(), torch.randn(30, 5, 4)),
}


class Recurrent(nn.Module):
    """The last state of an LSTM, and one answer."""

    def __init__(self):
        super().__init__()
        self.body, self.out = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.body(x)[0][:, -1])


def _problem(name):
    torch.manual_seed(0)
    net, x = PROBLEMS[name]()
    task = as_task(net.eval(), loss=nn.CrossEntropyLoss())
    return task, make_examples(task, x, torch.randint(3, (len(x),)))


@pytest.mark.filterwarnings("ignore:model. the trainable parameters")
@pytest.mark.parametrize("keep_factors", [False, True])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_layout_tells_the_size_of_a_gradient(name, keep_factors):
    task, examples = _problem(name)
    engine, cotangent = GradientEngine(task), loss_cotangent(task)
    found = engine.first(examples, cotangent, keep_factors)[0]
    told = engine.layout(examples).sizes[keep_factors]
    assert told.total == found.nbytes
    assert told.largest == max(t.nbytes for b in found.blocks.values() for t in b.tensors)


@pytest.mark.filterwarnings("ignore:model. the trainable parameters")
@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("name", PROBLEMS)
def test_bits_are_those_of_a_pass_from_the_start(name, batch_size):
    task, examples = _problem(name)
    engine = GradientEngine(task, batch_size=batch_size)
    plain = Gradients(engine, examples, loss_cotangent(task))
    ahead = Gradients(engine, examples, loss_cotangent(task), ahead=True)
    assert ahead.is_ahead
    assert ahead.batch_size == plain.batch_size
    expected = plain.matrix()
    assert torch.equal(ahead.map(lambda features: features).matrix(), expected)
    assert not ahead.is_ahead
    assert torch.equal(ahead.matrix(), expected)
    assert not pickle.loads(
        pickle.dumps(Gradients(engine, examples, ahead.cotangent, ahead=True))
    ).is_ahead


def test_a_batch_of_a_module_that_changed_is_not_used():
    task, examples = _problem("rows")
    ahead = Gradients(GradientEngine(task), examples, loss_cotangent(task), ahead=True)
    with torch.no_grad():
        task.module[0].weight.mul_(2)
    assert torch.equal(ahead.matrix(), Gradients(ahead.engine, examples, ahead.cotangent).matrix())


class Mixing(nn.Module):
    """A class token and positions, and examples that reach each other a little."""

    def __init__(self, share):
        super().__init__()
        self.places, self.out, self.share = (
            nn.Parameter(torch.randn(1, 4, 6)),
            nn.Linear(6, 3),
            share,
        )

    def forward(self, x):
        h = self.out(torch.tanh(x + self.places)).mean(1)
        return h + self.share * h.mean(0)


@pytest.mark.parametrize("share", [1.0, 1e-3])
def test_examples_that_mix_are_refused_with_broadcast_parameters(share):
    torch.manual_seed(0)
    net, x, y = Mixing(share).eval(), torch.randn(20, 4, 6), torch.randint(3, (20,))
    with pytest.raises(UnsupportedModelError, match="other examples in the batch"):
        GradDot().fit(as_task(net, loss=nn.CrossEntropyLoss()), x, y)


def test_one_model_at_a_time_waits_with_a_batch():
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).eval() for _ in range(3)]
    tasks = [as_task(net, loss=nn.CrossEntropyLoss()) for net in nets]
    x, y = torch.randn(20, 4), torch.randint(3, (20,))
    attributor = GradDot().fit(tasks, x, y)
    assert sum(one.train.is_ahead for one in attributor.fitted_) <= 1
    attributor.score(x[:2], y[:2])
    assert not any(one.train.is_ahead for one in attributor.fitted_)


@pytest.mark.filterwarnings("ignore:model. the trainable parameters")
@pytest.mark.parametrize("name", PROBLEMS)
def test_pieces_of_several_batches_have_the_products_of_dense_rows(name, monkeypatch):
    task, examples = _problem(name)
    few = examples.take(slice(0, 11))
    sides = [
        Gradients(GradientEngine(task, batch_size=4), e, loss_cotangent(task))
        for e in (few, examples)
    ]
    expected = sides[0].matrix() @ sides[1].matrix().T
    for share in (2**29, 3 * sides[0].sample.nbytes, 9 * 4 * task.n_parameters):
        monkeypatch.setattr("influencekit.gradients._dot._SHARE", share)
        found = sides[0].dot(sides[1])
        torch.testing.assert_close(
            found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max())
        )


@pytest.mark.filterwarnings("ignore:model. the trainable parameters")
@pytest.mark.parametrize("name", PROBLEMS)
def test_what_keeps_factors_takes_no_batch_of_another_size(name):
    task, examples = _problem(name)
    # dense rows take less than factors where kernels are small: other sizes make other batches
    engine = GradientEngine(task, max_memory=400_000)
    made = Gradients(engine, examples, loss_cotangent(task), ahead=True)
    found = made.along(made.cotangent, keep_factors=True)
    products = found.dot(found)
    expected = []
    for i in range(len(examples)):
        (batch,) = examples.take([i]).batches(1)
        loss = nn.functional.cross_entropy(task.module(batch.inputs), batch.targets)
        grads = torch.autograd.grad(loss, list(task.parameters.values()), allow_unused=True)
        pairs = zip(grads, task.parameters.values(), strict=True)
        expected.append(
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
        )
    rows = torch.stack(expected)
    torch.testing.assert_close(products.float(), rows @ rows.T, rtol=1e-4, atol=1e-4)
