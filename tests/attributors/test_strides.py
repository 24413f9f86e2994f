"""Inputs of any strides give the scores of their contiguous copies."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from influencekit import (
    TRAK,
    FurtherTraining,
    GradCos,
    GradDot,
    InfluenceFunction,
    TracIn,
    Training,
    as_task,
)
from influencekit.curvature import Arnoldi, ConjugateGradient, Hessian, LiSSA, Nystroem
from influencekit.data import make_examples
from tests._shared.marks import NOT_TRAINED

ATTRIBUTORS = {
    "dot": GradDot(),
    "cos": GradCos(),
    "tracin": TracIn(0.1),
    "trak": TRAK(0.1, projection_dim=8, random_state=0),
    "ggn": InfluenceFunction("ggn", damping=0.1),
    "fisher": InfluenceFunction("fisher", damping=0.1),
    "ekfac": InfluenceFunction("ekfac", damping=0.1),
    "logra": InfluenceFunction("logra", damping=0.1, random_state=0),
    "hessian": InfluenceFunction(Hessian(), damping=0.1),
    "cg": InfluenceFunction(ConjugateGradient(preconditioner_rank=5, random_state=0), damping=1.0),
    "lissa": InfluenceFunction(LiSSA(rows_per_step=None, random_state=0), damping=5.0),
    "arnoldi": InfluenceFunction(Arnoldi(rank=8, random_state=0), damping=0.1),
    "nystroem": InfluenceFunction(Nystroem(rank=8, random_state=0), damping=0.1),
    "further": FurtherTraining(
        training=Training(lr=0.1, n_steps=2, batch_size=8),
        n_repeats=1,
        left_out=[0, 3],
        random_state=0,
    ),
}


class Pictures(nn.Module):
    """A view at the entry, a normalization and a convolution inside."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Linear(36, 2)

    def forward(self, x):
        x = x.view(len(x), -1).view(len(x), 3, 5, 5)
        return self.last(nn.functional.gelu(self.norm(self.conv(x))).flatten(1))


def views():
    """The same pictures as tensors of other strides, by name."""
    X = torch.tensor(np.random.default_rng(0).normal(size=(12, 3, 5, 5)))
    wide = torch.zeros(12, 3, 5, 10, dtype=X.dtype)
    wide[..., ::2] = X
    return {
        "channels last": X.contiguous(memory_format=torch.channels_last),
        "permuted": X.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        "transposed": X.transpose(2, 3).contiguous().transpose(2, 3),
        "examples last": X.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
        "every second": wide[..., ::2],
    }


def fitted(attributor, X):
    torch.manual_seed(0)
    y = torch.arange(12) % 2
    task = as_task(Pictures().double(), loss=nn.CrossEntropyLoss())
    return attributor.fit(task, X, y)


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NegativeCurvatureWarning")
@NOT_TRAINED
@pytest.mark.parametrize("attributor", ATTRIBUTORS.values(), ids=ATTRIBUTORS)
def test_strides_do_not_matter(attributor):
    y = torch.arange(4) % 2
    X = views()["permuted"]
    assert not X.is_contiguous()
    found = fitted(attributor, X).score(X[:4], y)
    expected = fitted(attributor, X.contiguous()).score(X[:4].contiguous(), y)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("how", ["tensor", "array", "tuple", "dict", "rows of a Dataset"])
@pytest.mark.parametrize("view", views())
def test_batches_are_contiguous(view, how):
    X, y = views()[view], torch.arange(12) % 2
    expanded = torch.ones(12, 1, dtype=X.dtype).expand(12, 3)
    made, X_given, y_given = {
        "tensor": (Pictures(), X, y),
        "array": (Pictures(), X.numpy(), y),
        "tuple": (_Two(), (X, expanded), y),
        "dict": (_Two(), {"x": X, "more": expanded}, y),
        "rows of a Dataset": (Pictures(), TensorDataset(X, y), None),
    }[how]
    task = as_task(made.double(), loss=nn.CrossEntropyLoss())
    for rows in (slice(None), np.array([5, 2, 9])):
        examples = make_examples(task, X_given, y_given).take(rows)
        for batch in examples.batches(5):
            inputs = batch.inputs.values() if isinstance(batch.inputs, dict) else batch.inputs
            inputs = [inputs] if isinstance(inputs, torch.Tensor) else inputs
            assert all(t.is_contiguous() for t in inputs)


class _Two(Pictures):
    def forward(self, x, more):
        return super().forward(x) + more.view(len(x), -1).mean()
