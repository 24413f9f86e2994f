"""Gradients by plain autograd, one example at a time."""

import torch
from torch import nn


class Logits(nn.Module):
    """A model of any library as one whose output is the logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        outputs = self.model(x)
        return outputs["logits"] if isinstance(outputs, dict) else outputs


def by_loop(net, X, y, k):
    """Products of the loss gradients of the rows from k on with those of the first k."""
    own = [p for p in net.parameters() if p.requires_grad]
    rows = []
    for i in range(len(X)):
        loss = nn.functional.cross_entropy(net(X[i : i + 1]), y[i : i + 1])
        grads = torch.autograd.grad(loss, own, allow_unused=True, retain_graph=True)  # of caches
        pairs = zip(grads, own, strict=True)
        rows.append([torch.zeros_like(p) if g is None else g for g, p in pairs])
    dots = [[dot(t, s) for s in rows[:k]] for t in rows[k:]]
    return torch.tensor(dots, dtype=torch.float64)


def dot(one, other):
    return float(sum((a.double() * b.double()).sum() for a, b in zip(one, other, strict=True)))
