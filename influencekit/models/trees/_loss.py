"""Cross-entropy of class shares, as averaged trees give them."""

from __future__ import annotations

import torch
from torch import Tensor

from influencekit.models.losses._base import HessianFactor
from influencekit.models.losses._cross_entropy import CrossEntropy

__all__ = ["ShareCrossEntropy"]


class ShareCrossEntropy(CrossEntropy):
    """Minus the logarithm of the share of an example's class.

    Shares (n, n_classes) are the outputs.  In logarithms no share counts for less than half a
    tree's vote: below it the value stays there and the slope is that of the floor, so that a class
    that no tree votes for has both.

    Parameters
    ----------
    n_trees : int
    """

    def __init__(self, n_trees: int):
        super().__init__()
        self.floor = 0.5 / n_trees

    def _log(self, shares: Tensor) -> Tensor:
        return torch.log(shares + (self.floor - shares).clamp_min(0).detach())

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return -self.logit(outputs, targets)

    def class_logits(self, outputs: Tensor) -> Tensor:
        return self._log(outputs)

    def margin(self, outputs: Tensor, positions: Tensor) -> Tensor:
        share = outputs.gather(1, positions[:, None])[:, 0]
        return self._log(share) - self._log(1 - share)

    def predict_proba(self, outputs: Tensor) -> Tensor:
        return outputs

    def hessian_factor(self, _outputs: Tensor, _targets: Tensor) -> HessianFactor:
        raise TypeError("Shares of trees' votes have no curvature of a softmax.")
