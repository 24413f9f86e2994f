"""Cross-entropy of class shares, the outputs of averaged trees."""

from __future__ import annotations

import torch
from torch import Tensor

from influencekit.models.losses._base import HessianFactor
from influencekit.models.losses._cross_entropy import CrossEntropy

__all__ = ["ShareCrossEntropy"]


class ShareCrossEntropy(CrossEntropy):
    """Minus the logarithm of the share of an example's class.

    Shares (n, n_classes) are the outputs.  In the logarithm, a share counts as at least half a
    tree's vote. Below this floor, value and slope are those at the floor, so both are finite even
    for a class without votes.

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
        raise TypeError("Class shares of trees do not have the curvature of a softmax.")
