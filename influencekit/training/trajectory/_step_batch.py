"""What a step of a recorded run learned from, and the means that its loss is made of."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from influencekit.exceptions import TrajectoryError
from influencekit.training.trajectory._trajectory import Trajectory

__all__ = ["StepBatch", "counted_items", "narrowed", "positions_of", "renormalized", "step_shares"]


class StepBatch(NamedTuple):
    """Rows of a step (positions among the training examples), and their shares of its loss.

    Parameters
    ----------
    rows : Tensor of shape (batch,)
    inputs : Tensor, tuple or dict
    targets : Tensor
    shares : Tensor of shape (batch,)
        The step's loss is ``Σ_j shares_j loss_j``.
    random_state : Tensor or None
    parts : Tensor of shape (batch,), default=None
        What each row has of the denominator of its mean; None is its share of the loss.
    means : Tensor of shape (batch,), default=None
        Which mean a row is in, where a step adds the means of several batches; None is one mean.
    n_items : float, default=None
        Number by which the sum of losses was divided, if it was recorded.
    """

    rows: Tensor
    inputs: Any
    targets: Tensor
    shares: Tensor
    random_state: Tensor | None
    parts: Tensor | None = None
    means: Tensor | None = None
    n_items: float | None = None

    @property
    def denominators(self) -> Tensor:
        """What each row (batch,) has of the denominator of its mean."""
        return self.shares if self.parts is None else self.parts

    def over_means(self, values: Tensor) -> Tensor:
        """Sums of values (..., batch) over all rows of each row's mean."""
        if self.means is None:
            return values.sum(-1, keepdim=True)
        return values @ (self.means[:, None] == self.means).to(values.dtype)


def renormalized(batch: StepBatch, kept: Tensor) -> Tensor:
    """Shares (..., batch) of rows of which a part ``kept`` remains, each mean over what remains."""
    whole = batch.over_means(batch.denominators * kept)
    return batch.shares * kept / torch.where(whole > 0, whole, torch.ones_like(whole))


def step_shares(
    trajectory: Trajectory, step: int, weights: Tensor, items: Tensor | None
) -> dict[str, Tensor]:
    """Shares of a step's rows in its loss, and in the denominators of its means.

    Parameters
    ----------
    trajectory : Trajectory
    step : int
    weights : Tensor of shape (batch,)
        Weights of the rows in the objective.
    items : Tensor of shape (batch,) or None
        What each row adds to the number that the step divided by; None is its weight.
    """
    if trajectory.reduction == "sum":
        return {"shares": weights}
    if trajectory.means is not None:
        means = torch.as_tensor(trajectory.means[step], device=weights.device)
        n_means = int(means.max()) + 1
        sums = weights.new_zeros(n_means).index_add_(0, means, weights)
        parts = weights / sums.clamp_min(torch.finfo(weights.dtype).tiny)[means]
        factor = 1.0 if trajectory.switches.get("means_added", False) else 1 / n_means
        return {"shares": factor * parts, "parts": parts, "means": means}
    if items is None:
        return {"shares": weights / weights.sum()}
    return {"shares": weights / items.sum(), "parts": items / items.sum()}


def counted_items(
    trajectory: Trajectory, positions: list[Tensor], weights: Tensor, targets: Tensor
) -> Tensor | None:
    """What each training example (n_train,) adds to the numbers that steps divided by.

    A Trainer counts labels: all, or those after the first position, whatever the loss uses.

    Returns
    -------
    Tensor of shape (n_train,) or None
        None if it is the example's weight.

    Raises
    ------
    TrajectoryError
        If the recorded numbers are none of these.
    """
    if trajectory.items is None:
        return None
    recorded = torch.as_tensor(trajectory.items, dtype=torch.float64)
    labels = (targets != -100).flatten(1) if targets.ndim > 1 else (targets != -100)[:, None]
    for counts in (weights, labels.sum(1), labels[:, 1:].sum(1)):
        found = torch.stack([counts[rows.to(counts.device)].sum().double() for rows in positions])
        if torch.allclose(found.cpu(), recorded, rtol=1e-6, atol=0.0):
            return None if counts is weights else counts.to(weights)
    raise TrajectoryError(
        f"trajectory: the Trainer divided the loss of step 0 by {recorded[0]:.0f} labels, but the "
        f"rows of the step have {float(found[0]):.0f}. Give X and y as they were given to the "
        "Trainer. Where texts are padded on the left, the label of a text's first token is to be "
        "-100: only padding predicts it."
    )


def narrowed(
    inputs: dict[str, Any], targets: Tensor, widths: dict[str, int]
) -> tuple[dict[str, Any], Tensor]:
    """A batch as it was padded in training: entries (n, T, ...) cut to their recorded widths.

    Dropout draws its numbers for the padding, too.
    """
    unused = inputs["attention_mask"] == 0 if "attention_mask" in inputs else None
    cut = {
        name: _cut(leaf, widths[name], unused) if name in widths else leaf
        for name, leaf in inputs.items()
    }
    if "labels" in widths and targets.ndim > 1 and not targets.is_floating_point():
        targets = _cut(targets, widths["labels"], targets == -100)
    return cut, targets


def _cut(leaf: Tensor, width: int, unused: Tensor | None) -> Tensor:
    """The part (n, width, ...) whose other side is padding, which is on the right as a rule."""
    gone = leaf.shape[1] - width
    left = False
    if unused is not None and unused.shape[1] == leaf.shape[1]:
        left = gone > 0 and bool(unused[:, :gone].all())
    return (leaf[:, gone:] if left else leaf[:, :width]).contiguous()


def positions_of(trajectory: Trajectory, train_rows: np.ndarray) -> list[Tensor]:
    """Rows of each step as positions among the training examples.

    Raises
    ------
    TrajectoryError
        If a step learned from other rows.
    """
    found = []
    for step, rows in enumerate(trajectory.batches):
        positions = np.searchsorted(train_rows, rows)
        inside = positions < len(train_rows)
        if not inside.all() or (train_rows[positions] != rows).any():
            unknown = int(np.asarray(rows)[~inside][0]) if not inside.all() else int(rows[0])
            raise TrajectoryError(
                f"trajectory: step {step} learned from row {unknown}, which is not among the "
                f"{len(train_rows)} training rows given (the run was given {trajectory.n_rows}). "
                "Give X and y as they were given to fit."
            )
        found.append(torch.as_tensor(positions))
    return found
