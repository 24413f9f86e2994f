"""Scores by plain autograd in float64, one example at a time: what GradDot must give."""

import numpy as np
import torch
from torch import nn

from influencekit import GradDot, as_task

CRITERION = nn.CrossEntropyLoss()


def rows_of(X, rows):
    return tuple(part[rows] for part in X) if isinstance(X, tuple) else X[rows]


def expected(net, X, y, k, loss=CRITERION, names=None):
    """Scores (n - k, k) of the first k examples for the others."""
    chosen = {n: p for n, p in net.named_parameters() if p.requires_grad}
    own = [p for name, p in chosen.items() if names is None or name in names]
    rows = []
    for i in range(len(y)):
        x = rows_of(X, slice(i, i + 1))
        outputs = net(*x) if isinstance(x, tuple) else net(x)
        value = loss(outputs.reshape(1, *outputs.shape[outputs.ndim > 1 :]), y[i : i + 1])
        grads = torch.autograd.grad(value, own, allow_unused=True)
        pairs = zip(grads, own, strict=True)
        rows.append(
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
        )
    rows = torch.stack(rows)
    return (rows[k:] @ rows[:k].T).numpy()


def check(net, X, y, k=None, loss=CRITERION, how=None, task=None, rtol=1e-9):
    """Compare the scores of a net, which is made float64, with the reference."""
    k = len(y) - 4 if k is None else k
    net = net.double().eval() if isinstance(net, nn.Module) else net
    task = as_task(net, loss=loss) if task is None else task
    scores = (how or GradDot()).fit(task, rows_of(X, slice(k)), y[:k])
    scores = scores.score(rows_of(X, slice(k, None)), y[k:])
    reference = expected(net, X, y, k, loss)
    np.testing.assert_allclose(scores, reference, rtol=0, atol=rtol * abs(reference).max())
