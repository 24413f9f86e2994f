"""Links: natural outputs (logits, log-probabilities) from a module's raw outputs."""

from __future__ import annotations

import torch
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError

__all__ = ["LogProbabilities", "Logit", "NormalizedLogProbabilities"]


class LogProbabilities:
    """``log(p + eps)`` of a module that ends in a softmax, as in skorch's ``get_loss``.

    ``eps`` is the machine epsilon of the outputs' dtype.
    """

    def __call__(self, raw: Tensor) -> Tensor:
        _check_total(raw, "probabilities", "nn.Softmax(dim=-1)")
        return torch.log(raw + torch.finfo(raw.dtype).eps)


class NormalizedLogProbabilities:
    """The outputs of a module that ends in a log-softmax, after a check."""

    def __call__(self, raw: Tensor) -> Tensor:
        _check_total(torch.exp(raw.detach()), "log-probabilities", "nn.LogSoftmax(dim=-1)")
        return raw


class Logit:
    """``log(p / (1 - p))`` of a module that ends in a sigmoid.

    Probabilities are clamped to stay one machine epsilon inside (0, 1).
    """

    def __call__(self, raw: Tensor) -> Tensor:
        return torch.logit(raw, eps=torch.finfo(raw.dtype).eps)


def _check_total(probabilities: Tensor, what: str, last_layer: str) -> None:
    """Refuse outputs that are not a distribution over classes: second, as in torch, or last."""
    totals = probabilities.detach().sum(1 if probabilities.ndim > 2 else -1).flatten()
    try:
        worst = float(totals[(totals - 1).abs().argmax()])
    except RuntimeError:  # inside a torch.func transform values cannot be read
        return
    if not abs(worst - 1) > 1e-2:
        return
    raise UnsupportedModelError(
        f"model: its criterion is NLLLoss, which needs {what}, but the module's probabilities for "
        f"one example sum to {worst:.3g}. End the module with {last_layer}, or train "
        "it with nn.CrossEntropyLoss on logits."
    )
