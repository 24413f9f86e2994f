"""Half the deviance of Tweedie's family: what generalized linear models minimize."""

from __future__ import annotations

import torch
from torch import Tensor

from influencekit.models.losses._base import NONNEGATIVE, POSITIVE, TargetRange
from influencekit.models.losses._elementwise import ColumnLoss

__all__ = ["DevianceLoss"]


class DevianceLoss(ColumnLoss):
    """Half the unit deviance of a mean ``μ = e^z``, or ``μ = z``.

    Parameters
    ----------
    power : float
        Power of the mean that the variance is proportional to: 0 normal, 1 Poisson, 2 gamma,
        3 inverse Gaussian.
    log_link : bool, default=True
        Whether outputs are logarithms of the mean.

    Notes
    -----
    With a logarithmic link and a power from 1 to 2 it is convex in the outputs, and so is the
    identity link with a power of 0 or 1.
    """

    def __init__(self, power: float, log_link: bool = True):
        self.power = power
        self.log_link = log_link

    @property
    def target_range(self) -> TargetRange | None:  # type: ignore[override]  # it depends on the power
        """Targets that have a density: all, from 0 on, or above 0."""
        if self.power < 1:
            return None
        return NONNEGATIVE if self.power < 2 else POSITIVE

    @property
    def convex(self) -> bool:
        """Whether the loss is convex in the outputs, whatever the targets are."""
        return 1 <= self.power <= 2 if self.log_link else self.power in (0, 1)

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        # half the deviance is ∫ (μ - t) / μ^p dμ from t to μ
        t, p = targets, self.power
        z = outputs if self.log_link else outputs.clamp_min(1e-300).log()
        if p == 0:
            return 0.5 * (self.prediction(outputs) - t).square()
        if p == 1:
            return torch.exp(z) - t * z + torch.xlogy(t, t) - t
        if p == 2:
            return z - torch.log(t) + t * torch.exp(-z) - 1
        own = t.clamp_min(0).pow(2 - p) / ((1 - p) * (2 - p))
        return own - t * torch.exp((1 - p) * z) / (1 - p) + torch.exp((2 - p) * z) / (2 - p)

    def derivatives(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        mean, p = self.prediction(outputs), self.power
        error, variance = mean - targets, mean.pow(p)
        slope = error / variance
        curve = 1 / variance - p * error / (variance * mean) if p else torch.ones_like(mean)
        if not self.log_link:
            return slope, curve
        # dμ/dz = μ
        return slope * mean, curve * mean.square() + slope * mean

    def prediction(self, outputs: Tensor) -> Tensor:
        return torch.exp(outputs) if self.log_link else outputs
