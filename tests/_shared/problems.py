"""Problems: a model or task, its training data and queries."""

import torch
from torch import nn

from influencekit import as_task
from tests._shared.nets import tanh_net
from tests._shared.tables import coarse_digits, split


def digits_problem(model, n_train, n_query):
    """The model fitted on digits, X, y, X_query and y_query."""
    data = split(*coarse_digits(), n_train, n_query)
    return model.fit(*data[:2]), *data


def tanh_task(n_in, width, n_out):
    """Task of a new net; the global random state of torch gives its parameters."""
    return as_task(tanh_net(n_in, width, n_out), loss=nn.CrossEntropyLoss())


def draw_parameters(net, generator=None):
    """Standard normal parameters in place of those that the layers start with."""
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return net


def draw_examples(n, n_in, n_classes, generator=None):
    """Standard normal inputs in float64, and labels that have nothing to do with them."""
    X = torch.randn(n, n_in, generator=generator, dtype=torch.float64)
    return X, torch.randint(n_classes, (n,), generator=generator)
