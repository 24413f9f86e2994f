"""Small float64 problems with every kind of layer, for curvatures that look at layers."""

import numpy as np
import torch
from torch import nn

from influencekit import as_task
from influencekit.data import make_examples
from influencekit.gradients import GradientEngine, Gradients, output_cotangent
from tests._shared.nets import tanh_net
from tests._shared.problems import draw_parameters
from tests._shared.tables import split

N, M = 23, 5


class Words(nn.Module):
    """Embedding, a layer along the sequence, a norm without factors, and a free parameter."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.mix = nn.Linear(4, 6)
        self.norm = nn.LayerNorm(6)
        self.gain = nn.Parameter(torch.ones(6))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        hidden = torch.tanh(self.mix(self.embed(x)))
        return self.head((self.norm(hidden) * self.gain).mean(1))


def problem(kind="words"):
    """Task, training X and y, query X and y."""
    torch.manual_seed(0)
    if kind == "words":
        net, X = Words().double(), torch.randint(7, (N + M, 3))
    else:
        net = tanh_net(4, 5, 3)
        X = torch.randn(N + M, 4, dtype=torch.float64)
    task = as_task(draw_parameters(net), loss=nn.CrossEntropyLoss())
    return task, *split(X, torch.randint(3, (N + M,)), N)


def margin(outputs, targets):
    return outputs.gather(1, targets[:, None])[:, 0] * 2.0


def penalties(task):
    p = task.n_parameters
    weights_only = [
        torch.full((q.numel(),), 0.0 if name.endswith("bias") else 0.3, dtype=torch.float64)
        for name, q in task.parameters.items()
    ]
    return {
        "none": torch.zeros(p, dtype=torch.float64),
        "constant": torch.full((p,), 0.2, dtype=torch.float64),
        "weights": torch.cat(weights_only),
    }


def uneven(seed=0):
    """Weights that differ between examples, with sum 1."""
    weights = np.random.RandomState(seed).uniform(0.5, 2, N)
    return weights / weights.sum()


def of_margin(task, X, y, output=margin):
    """Gradients of queries' margins."""
    return Gradients(GradientEngine(task), make_examples(task, X, y), output_cotangent(output))
