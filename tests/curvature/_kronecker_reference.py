"""K-FAC and EK-FAC as dense matrices, from autograd of one example at a time and numpy."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tests.curvature._dense_reference import flat_gradient


class Spread(nn.Module):
    """Outputs of a sequence laid side by side."""

    def forward(self, x):
        return x.mean(1)


def mlp(bias=True):
    return nn.Sequential(nn.Linear(4, 5, bias=bias), nn.Tanh(), nn.Linear(5, 3, bias=bias))


def conv():
    return nn.Sequential(
        nn.Conv2d(2, 3, 2, stride=2, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(27, 3)
    )


def embedding():
    return nn.Sequential(nn.Embedding(6, 4), nn.Tanh(), Spread(), nn.Linear(4, 3))


def sequence():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3), Spread())


def normalized():
    return nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3))


def draw(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def inputs(name, n, seed=1):
    if name == "embedding":
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(6, (n, 5), generator=generator)  # tokens repeat in an example
    shapes = {"conv": (n, 2, 4, 4), "sequence": (n, 7, 4)}
    return draw(shapes.get(name, (n, 4)), seed)


MODULES = {
    "mlp": mlp,
    "mlp without bias": lambda: mlp(bias=False),
    "conv": conv,
    "embedding": embedding,
    "sequence": sequence,
    "normalized": normalized,
}


def layer_positions(layer, x):
    """Inputs (T, d_in) of a layer's weight matrix for one example."""
    if isinstance(layer, nn.Conv2d):
        rows = F.unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)[0].T
    elif isinstance(layer, nn.Embedding):
        rows = F.one_hot(x.reshape(-1), layer.num_embeddings).double()
    else:
        rows = x.reshape(-1, x.shape[-1])
    if getattr(layer, "bias", None) is not None:
        rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    return rows.detach().numpy()


def output_positions(layer, g):
    """Output gradients (T, d_out) of one example."""
    g = g[0].flatten(1).T if isinstance(layer, nn.Conv2d) else g.reshape(-1, g.shape[-1])
    return g.numpy()


def watched_call(task, layer, x):
    """Input and output of a layer, and the model's outputs."""
    calls = []
    handle = layer.register_forward_hook(lambda m, args, out: calls.append((args[0], out)))
    outputs = task.forward(x)
    handle.remove()
    return *calls[0], outputs


def factors(task, layer, X, t, weights, fisher):
    """A and B of one layer: mean over positions, sum over positions."""
    a_sum, b_sum, count = 0.0, 0.0, 0.0
    for i in range(len(X)):
        x, out, outputs = watched_call(task, layer, X[i : i + 1])
        if fisher == "true":
            hessian = torch.autograd.functional.hessian(
                lambda z, i=i: task.loss(z, t[i : i + 1]).sum(), outputs.detach()
            )
            hessian = hessian.reshape(outputs.numel(), -1).numpy()
            roots = outputs.reshape(-1)
        else:
            hessian, roots = np.eye(1), task.loss(outputs, t[i : i + 1])
        jacobian = np.stack(
            [
                output_positions(layer, torch.autograd.grad(r, out, retain_graph=True)[0])
                for r in roots
            ]
        )
        a = layer_positions(layer, x)
        a_sum = a_sum + weights[i] * a.T @ a
        b_sum = b_sum + weights[i] * np.einsum("cti,cd,dtj->ij", jacobian, hessian, jacobian)
        count += weights[i] * len(a)
    return a_sum / count, b_sum


def block_columns(task, layer):
    """Positions in the flat gradient of a layer's (d_out, d_in [+ 1]) matrix, or (V, d)."""
    start, places = 0, {}
    for p in task.parameters.values():
        places[id(p)] = np.arange(start, start + p.numel()).reshape(len(p), -1)
        start += p.numel()
    found = [places[id(layer.weight)]]
    if getattr(layer, "bias", None) is not None:
        found.append(places[id(layer.bias)])
    return np.concatenate(found, axis=1)


def dense_kronecker(task, X, t, weights, fisher, penalty, data, corrected):
    """K-FAC or EK-FAC of data and penalty, (p, p), in the order of the flat gradient."""
    total = np.zeros_like(data)
    left = np.ones(len(data), dtype=bool)
    for layer in task.module.modules():
        if not isinstance(layer, (nn.Linear, nn.Conv2d, nn.Embedding)):
            continue
        a, b = factors(task, layer, X, t, weights, fisher)
        columns = block_columns(task, layer)
        if isinstance(layer, nn.Embedding):
            basis = np.kron(np.eye(len(a)), np.linalg.eigh(b)[1])
            values = np.kron(np.diag(a), np.linalg.eigvalsh(b))
        else:
            basis = np.kron(np.linalg.eigh(b)[1], np.linalg.eigh(a)[1])
            values = np.kron(np.linalg.eigvalsh(b), np.linalg.eigvalsh(a))
        flat = columns.reshape(-1)
        if corrected:
            values = np.diag(basis.T @ data[np.ix_(flat, flat)] @ basis)
        values = values + np.diag(basis.T @ np.diag(penalty[flat]) @ basis)
        total[np.ix_(flat, flat)] = basis @ np.diag(values) @ basis.T
        left[flat] = False
    rest = np.flatnonzero(left)
    total[np.ix_(rest, rest)] = data[np.ix_(rest, rest)] + np.diag(penalty[rest])
    return total


def empirical_fisher(task, X, t, weights):
    losses = task.loss(task.forward(X), t)
    rows = np.stack([flat_gradient(value, task) for value in losses])
    return (rows.T * weights) @ rows
