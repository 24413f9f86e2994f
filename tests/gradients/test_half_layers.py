"""Layers of attention and recurrent nets in half precision, each against float64."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from influencekit.gradients import GradientEngine
from influencekit.models import Task
from tests.gradients._reference import TinyExamples, autograd_rows, normal, sum_of_squares


class Net(nn.Module):
    """A layer that returns a tuple, and a head whose weights set the scale of its gradients."""

    def __init__(self, layer, scale):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(8, 2)
        nn.init.normal_(self.head.weight, std=scale)

    def forward(self, x):
        attends = isinstance(self.layer, nn.MultiheadAttention)
        return self.head((self.layer(x, x, x) if attends else self.layer(x))[0].sum(1))


def _attention():
    return nn.MultiheadAttention(8, 2, batch_first=True)


def _weight_norm():
    return parametrizations.weight_norm(nn.LSTM(8, 8, batch_first=True), "weight_hh_l0")


def _recurrent():
    return nn.GRU(8, 8, batch_first=True)


def _cotangent(outputs, _targets):
    return torch.ones_like(outputs)[:, None]


@pytest.mark.parametrize("scale", [1.0, 0.01])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [_attention, _recurrent, _weight_norm])
def test_gradients_of_every_parameter_are_near_float64(make, dtype, scale):
    torch.manual_seed(0)
    net, X = Net(make(), scale).to(dtype).eval(), normal(6, 4, 8).to(dtype)
    wide = Net(make(), scale).double().eval()
    wide.load_state_dict(net.state_dict())
    task, examples = Task(net, sum_of_squares()), TinyExamples(X)
    batches = GradientEngine(task, batch_size=6).batches(examples, _cotangent, 6)
    found = torch.cat([batch.materialize() for batch in batches]).double()
    expected = autograd_rows(Task(wide, sum_of_squares()), TinyExamples(X.double()), _cotangent)
    start = 0
    for name, p in task.parameters.items():
        own = expected[:, start : start + p.numel()]
        off = (found[:, start : start + p.numel()] - own).abs().max() / own.abs().max()
        assert off < 0.1, f"{name}: {off:.3f}"
        start += p.numel()
