"""The losses of the members of a vote, and the vote that is explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from influencekit.models.losses._base import HessianFactor, OutputLoss

__all__ = ["ClassVote", "Member", "ValueVote"]


class Member(NamedTuple):
    """One member of a vote.

    Attributes
    ----------
    loss : OutputLoss
    n_outputs : int
        Its natural outputs stand beside those of the other members.
    weight : float
        Its share of the vote.
    class_weight : Tensor of shape (n_classes,) or None
        Weight of each class in its objective.
    """

    loss: OutputLoss
    n_outputs: int
    weight: float
    class_weight: Tensor | None = None


class _Vote(OutputLoss):
    """Sum of the members' losses: each learned by itself, and all of them make the prediction.

    Parameters
    ----------
    members : sequence of Member
    """

    def __init__(self, members: Sequence[Member]):
        self.members = list(members)

    def _parts(self, outputs: Tensor) -> tuple[Tensor, ...]:
        return outputs.split([member.n_outputs for member in self.members], dim=1)

    def _own_targets(self, member: Member, targets: Tensor) -> Tensor:  # noqa: ARG002  a vote of classes asks the member
        return targets

    def _own_weights(self, member: Member, targets: Tensor) -> Tensor | float:
        if member.class_weight is None:
            return 1.0
        return member.class_weight.to(targets.device)[targets.reshape(-1).long()]

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros(len(outputs), dtype=outputs.dtype, device=outputs.device)
        for member, part in zip(self.members, self._parts(outputs), strict=True):
            own = member.loss(part, self._own_targets(member, targets).to(part.device))
            total = total + self._own_weights(member, targets) * own
        return total

    def hessian_factor(self, outputs: Tensor, targets: Tensor) -> HessianFactor:
        # H = diag(H_1, H_2, ...), one block for each member
        factors = []
        for member, part in zip(self.members, self._parts(outputs), strict=True):
            own = member.loss.hessian_factor(part, self._own_targets(member, targets)).factor
            weights = torch.as_tensor(self._own_weights(member, targets), dtype=own.dtype)
            factors.append(own * weights.sqrt().reshape(-1, 1, 1))
        rank = sum(factor.shape[2] for factor in factors)
        whole = torch.zeros(len(outputs), outputs.shape[1], rank).to(factors[0])
        row = column = 0
        for factor in factors:
            stop, last = row + factor.shape[1], column + factor.shape[2]
            whole[:, row:stop, column:last] = factor
            row, column = stop, last
        return HessianFactor(whole, None)


class ValueVote(_Vote):
    """A weighted mean of the members' predictions; what it explains is its squared error."""

    problem_type = "regression"

    def prediction(self, outputs: Tensor) -> Tensor:
        parts = zip(self.members, self._parts(outputs), strict=True)
        return sum((m.weight * m.loss.prediction(z) for m, z in parts), torch.zeros(1).to(outputs))

    def explained(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (self.prediction(outputs) - targets.reshape(len(targets), -1)).square().sum(1)


class ClassVote(_Vote):
    """A weighted mean of the members' probabilities; what it explains is its logarithm.

    Parameters
    ----------
    members : sequence of Member
    n_classes : int
    """

    problem_type = "classification"

    def __init__(self, members: Sequence[Member], n_classes: int):
        super().__init__(members)
        self.n_classes = n_classes

    def _own_targets(self, member: Member, targets: Tensor) -> Tensor:
        return member.loss.encode_classes(targets.reshape(-1).long(), self.n_classes)

    def predict_proba(self, outputs: Tensor) -> Tensor:
        if outputs.shape[1] != sum(member.n_outputs for member in self.members):
            return torch.softmax(outputs, dim=1)  # only asked whether there are probabilities
        parts = zip(self.members, self._parts(outputs), strict=True)
        return sum((m.weight * m.loss.predict_proba(z) for m, z in parts), torch.zeros(1))

    def class_logits(self, outputs: Tensor) -> Tensor:
        return self.predict_proba(outputs).clamp_min(torch.finfo(outputs.dtype).tiny).log()

    def margin(self, outputs: Tensor, positions: Tensor) -> Tensor:
        own = self.predict_proba(outputs).gather(1, positions[:, None])[:, 0]
        return torch.logit(own, eps=torch.finfo(outputs.dtype).eps)

    def explained(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return -self.logit(outputs, self.positions(targets))
