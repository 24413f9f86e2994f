"""Dot products of loss gradients of any net, in four ways; the last gives no products."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from influencekit import GradDot, as_task
from influencekit.models import SequenceCrossEntropy


def _loss(net, x, y):
    return F.cross_entropy(net(x).flatten(0, -2), y.flatten())


def ours(net, x, y, m):
    """GradDot of the rows from m on for the first m, without what it kept of an earlier call."""
    loss = SequenceCrossEntropy() if y.ndim > 1 else nn.CrossEntropyLoss()
    task = as_task(net, loss=loss)
    return GradDot(output="neg_loss").fit(task, x[m:], y[m:]).score(x[:m], y[:m])


def vmap(net, x, y, m, chunk=16):
    """``vmap(grad)`` of chunks, and a matrix product for each parameter."""
    values = {name: p.detach() for name, p in net.named_parameters()}

    def loss(values, x, y):
        found = torch.func.functional_call(net, values, (x[None],))
        return F.cross_entropy(found.flatten(0, -2), y[None].flatten())

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))

    def dense(x, y):
        return [g.flatten(1) for g in each(values, x, y).values()]

    with sdpa_kernel(SDPBackend.MATH):
        parts = [dense(*pair) for pair in zip(x[:m].split(chunk), y[:m].split(chunk), strict=True)]
        right = [torch.cat(pieces) for pieces in zip(*parts, strict=True)]
        rows = []
        for pair in zip(x[m:].split(chunk), y[m:].split(chunk), strict=True):
            rows.append(sum(h @ g.T for g, h in zip(dense(*pair), right, strict=True)))
    return torch.cat(rows, 1).numpy()


def loop(net, x, y, m):
    """Autograd, one example at a time."""
    own = list(net.parameters())

    def gradient(i):
        grads = torch.autograd.grad(_loss(net, x[i : i + 1], y[i : i + 1]), own)
        return torch.cat([g.flatten() for g in grads])

    right = torch.stack([gradient(i) for i in range(m)])
    return torch.stack([right @ gradient(i) for i in range(m, len(x))], 1).numpy()


def floor(net, x, y, _m, chunk=50):
    """One forward and backward pass of all rows in batches: no gradients of single rows."""
    for pair in zip(x.split(chunk), y.split(chunk), strict=True):
        torch.autograd.grad(_loss(net, *pair), list(net.parameters()))
