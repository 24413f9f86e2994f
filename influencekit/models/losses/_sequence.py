"""Softmax cross-entropy of every token of a sequence."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from influencekit.exceptions import ResourceError
from influencekit.models.losses._base import Draw, HessianFactor, OutputLoss
from influencekit.models.losses._cross_entropy import CrossEntropy, label_gradients
from influencekit.utils._suggest import check_choice
from influencekit.utils.validation import present

__all__ = ["SequenceCrossEntropy"]

_REDUCTIONS = ("tokens", "mean", "sum")

#: Largest number of outputs per example (tokens times classes) for which the output Hessian is
#: formed.
_MOST_OUTPUTS = 4096


class SequenceCrossEntropy(OutputLoss):
    """Cross-entropy of logits (n, T, n_classes) and labels (n, T), one loss for each sequence.

    Parameters
    ----------
    reduction : {"tokens", "mean", "sum"}, default="tokens"
        How the training objective sums over tokens.

        - "tokens": the mean over all tokens of the data.  A sequence's loss is the mean over
          its own tokens, and its weight in the objective is their number.
        - "mean": the mean over sequences of the mean over their tokens.
        - "sum": the mean over sequences of the sum over their tokens: "tokens" times the mean
          length, and explained outputs are sums.
    ignore_index : int, default=-100
        Label of tokens that are not in the loss: padding, a prompt.
    shift : bool, default=False
        Whether the outputs at a token predict the next token's label, with labels in the order of
        the text. The first label and the last output are then not used.
    label_smoothing : float in [0, 1), default=0.0
    weight : Tensor of shape (n_classes,), default=None
        Class weights, as torch's criterion takes them: a token counts as the weight of its label,
        so that "tokens" is the mean over tokens of the data with these weights. They must be
        positive if labels are smoothed.

    Raises
    ------
    ValueError
        If the reduction is not one of the above.

    Notes
    -----
    A sequence without any scored token has loss and gradient 0.  Its margin or logit is the
    mean (for "sum", the sum) over its scored tokens.
    """

    problem_type = "classification"

    def __init__(
        self,
        reduction: Literal["tokens", "mean", "sum"] = "tokens",
        ignore_index: int = -100,
        shift: bool = False,
        *,
        label_smoothing: float = 0.0,
        weight: Tensor | None = None,
    ):
        check_choice("reduction", reduction, _REDUCTIONS)
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.shift = shift
        self.label_smoothing = label_smoothing
        self.weight = weight

    @property
    def _token_loss(self) -> CrossEntropy:
        """Loss of a token, before it is multiplied with the weight of its label."""
        return CrossEntropy(self.label_smoothing, self.weight if self.label_smoothing else None)

    def __repr__(self) -> str:
        return (
            f"SequenceCrossEntropy(reduction={self.reduction!r}, "
            f"ignore_index={self.ignore_index}, shift={self.shift})"
        )

    def labels(self, targets: Tensor) -> Tensor:
        """Label (n, T) that the outputs at each position are for."""
        if not self.shift:
            return targets
        return F.pad(targets[:, 1:], (0, 1), value=self.ignore_index)

    def _counts(self, targets: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """Labels (n, T), 0 for tokens without one, and how much each token counts."""
        labels = self.labels(targets)
        used = labels != self.ignore_index
        labels = torch.where(used, labels, 0)
        return labels, used if weight is None else used * weight.to(labels.device)[labels]

    def _tokens(
        self, outputs: Tensor, targets: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Labels (n, T), 0 for tokens without one, and each token's share (n, T) of the loss."""
        _check_shapes(outputs, targets)
        labels, counts = self._counts(targets, weight)
        shares = counts.to(outputs.dtype)
        if self.reduction != "sum":
            total = shares.sum(1, keepdim=True)
            shares = shares / torch.where(total > 0, total, 1)
        return labels, shares

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        labels, shares = self._tokens(outputs, targets, self.weight)
        losses = self._token_loss(outputs.flatten(0, 1), labels.flatten())
        return (losses.view(shares.shape) * shares).sum(1)

    @torch.no_grad()
    def output_gradient(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        if self.label_smoothing:
            return None
        labels, shares = self._tokens(outputs, targets, self.weight)
        # (p_t - onehot(label_t)) times the token's share, in one tensor
        found = outputs.softmax(-1)
        found.scatter_add_(-1, labels[..., None], found.new_tensor(-1.0).expand(*labels.shape, 1))
        return found.mul_(shares[..., None])

    def example_weights(self, targets: Tensor) -> Tensor | None:
        if self.reduction != "tokens":
            return None
        return self._counts(targets, self.weight)[1].sum(1)

    def hessian_factor(self, outputs: Tensor, targets: Tensor) -> HessianFactor:
        n, length, n_classes = outputs.shape
        _check_size(length, n_classes)
        labels, shares = self._tokens(outputs, targets, self.weight)
        single = self._token_loss.hessian_factor(outputs.flatten(0, 1), labels.flatten())
        root, rank = shares.sqrt(), n_classes - 1
        factor = outputs.new_zeros(n, length, n_classes, length, rank)
        own = single.factor.view(n, length, n_classes, rank) * root[:, :, None, None]
        tokens = torch.arange(length, device=outputs.device)
        factor[:, tokens, :, tokens] = own.transpose(0, 1)
        coordinates = (
            present(single.coordinates, "coordinates").view(n, length, rank) * root[:, :, None]
        )
        factor = factor.reshape(n, length * n_classes, length * rank)
        return HessianFactor(factor, coordinates.flatten(1))

    def sampled_gradients(self, outputs: Tensor, targets: Tensor, draw: Draw) -> Tensor:
        labels, shares = self._tokens(outputs, targets, self.weight)
        gradients = label_gradients(outputs, draw(outputs.shape[1]))
        scale = self._token_loss.hessian_scale(outputs.flatten(0, 1), labels.flatten())
        return gradients * (shares * scale.view(shares.shape)).sqrt()[:, None, :, None]

    def predicted_targets(self, outputs: Tensor) -> Tensor:
        labels = outputs.argmax(-1)
        if not self.shift:
            return labels
        return F.pad(labels[:, :-1], (1, 0), value=self.ignore_index)

    def predict_proba(self, outputs: Tensor) -> Tensor:
        return torch.softmax(outputs, dim=-1)

    def class_logits(self, outputs: Tensor) -> Tensor:
        return outputs

    def positions(self, targets: Tensor) -> Tensor:
        return targets

    def logit(self, outputs: Tensor, positions: Tensor) -> Tensor:
        labels, shares = self._tokens(outputs, positions, None)
        return (outputs.gather(2, labels[:, :, None])[:, :, 0] * shares).sum(1)

    def margin(self, outputs: Tensor, positions: Tensor) -> Tensor:
        labels, shares = self._tokens(outputs, positions, None)
        given = outputs.gather(2, labels[:, :, None])[:, :, 0]
        others = outputs.scatter(2, labels[:, :, None], -math.inf).logsumexp(2)
        return ((given - others) * shares).sum(1)


def _check_shapes(outputs: Tensor, targets: Tensor) -> None:
    if outputs.ndim != 3 or targets.shape != outputs.shape[:2]:
        raise ValueError(
            f"model: its outputs have shape {tuple(outputs.shape)} and its targets "
            f"{tuple(targets.shape)}; SequenceCrossEntropy takes logits (n_examples, n_tokens, "
            "n_classes) and labels (n_examples, n_tokens). Wrap a module that puts classes "
            "second: lambda x: module(x).transpose(1, 2)."
        )


def _check_size(length: int, n_classes: int) -> None:
    if length * n_classes > _MOST_OUTPUTS:
        raise ResourceError(
            f"curvature: the Gauss-Newton matrix of {length:,} tokens with {n_classes:,} classes "
            f"each takes {length * (n_classes - 1):,} gradients for each example, and an output "
            f"Hessian with {length * n_classes:,} rows; accepted are at most {_MOST_OUTPUTS:,}. "
            "Use a curvature that does not need it: InfluenceFunction(), "
            "InfluenceFunction('ekfac') or InfluenceFunction('kfac'), which draw labels from the "
            "model (the Gauss-Newton matrix in expectation), or a curvature of loss gradients: "
            "InfluenceFunction('fisher'), InfluenceFunction('datainf') or "
            "InfluenceFunction(LoGra(rows='fisher'))."
        )
