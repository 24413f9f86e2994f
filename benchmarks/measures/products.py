"""What products with curvature matrices are measured on, and curvlinops' operators."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.problems import nets


def near_a_minimum(n, sizes, epochs):
    """Rows whose covariance decays as that of natural data, and an MLP near a minimum."""
    torch.manual_seed(0)
    module, d = nets.stack_of_layers(sizes), sizes[0]
    decay = torch.arange(1, d + 1) ** -0.5
    mixing = torch.linalg.qr(torch.randn(d, d)).Q
    X = torch.randn(n, d) * decay @ mixing * (d / decay.square().sum()) ** 0.5
    y = (X @ torch.randn(d, sizes[-1])).argmax(1)
    return nets.train(module, X, y, epochs=epochs), X, y


def theirs(module, data, matrix):
    """Linear operator of curvlinops."""
    import curvlinops

    kind = {"hessian": "HessianLinearOperator", "ggn": "GGNLinearOperator"}[matrix]
    parameters = [p for p in module.parameters() if p.requires_grad]
    return getattr(curvlinops, kind)(
        module, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False
    )
