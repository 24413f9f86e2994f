"""The training objective of a Task, written out again from its definition."""

import numpy as np
import torch


def encode(task, y):
    y = np.asarray(y)
    if task.classes is not None:
        positions = torch.from_numpy(np.searchsorted(task.classes, y))
        return task.loss.encode_classes(positions, len(task.classes))
    return torch.from_numpy(y)


def inputs(task, X):
    X = X if task.transform is None else task.transform(X)
    X = X.toarray() if hasattr(X, "toarray") else np.asarray(X)
    return torch.from_numpy(np.array(X)).to(task.dtype)


def objective_gradient(task, X, y):
    """Largest entry of the gradient of mean loss + penalty, over that of the mean loss's size."""
    targets = encode(task, y)
    weight = task.example_weights(targets)
    weight = torch.ones(len(targets), dtype=task.dtype) if weight is None else weight
    total = weight.sum()
    loss = (weight * task.loss(task.forward(inputs(task, X)), targets)).sum() / total
    parameters = list(task.parameters.values())
    gradients = torch.autograd.grad(loss, parameters)
    flat = torch.cat([g.reshape(-1) for g in gradients])
    theta = torch.cat([p.detach().reshape(-1) for p in parameters])
    return flat + task.penalty_vector(float(total)) * theta, flat


def assert_stationary(task, X, y, tolerance=1e-6):
    total, _ = objective_gradient(task, X, y)
    assert float(total.abs().max()) < tolerance
