"""What a loss must define: value, curvature and gradient in output space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from influencekit.exceptions import ResourceError

__all__ = [
    "NONNEGATIVE",
    "POSITIVE",
    "SIGNS",
    "Draw",
    "HessianFactor",
    "OutputLoss",
    "TargetRange",
    "class_positions",
    "log_floor",
]

#: ``draw(*shape)`` gives float64 uniform numbers (n, n_samples, *shape) inside (0, 1), the same
#: for an example whatever batch it is in.  Called once.
Draw = Callable[..., Tensor]


class HessianFactor(NamedTuple):
    """Factor of a batch of output-space Hessians.

    Attributes
    ----------
    factor : Tensor of shape (n, n_outputs, rank)
        ``L`` with ``H = L Lᵀ`` for every example (outputs flattened).
    coordinates : Tensor of shape (n, rank) or None
        ``c`` with ``∇loss = L c``; None if some gradient is outside the range of ``L``.
    """

    factor: Tensor
    coordinates: Tensor | None


class TargetRange(NamedTuple):
    """Targets that a loss is defined for.

    Attributes
    ----------
    low, high : float
    words : str
        For messages, after "targets".
    open : bool
        Whether ``low`` itself is outside.
    ends : bool
        Whether only ``low`` and ``high`` are targets.
    """

    low: float
    high: float
    words: str
    open: bool = False
    ends: bool = False


NONNEGATIVE = TargetRange(0, float("inf"), "that are 0 or more")
POSITIVE = TargetRange(0, float("inf"), "above 0", open=True)
SIGNS = TargetRange(-1, 1, "-1 and 1", ends=True)


class OutputLoss(ABC):
    """A per-example loss of the natural outputs.  Lower is better.

    The loss is convex in the natural outputs: logits for a classifier, the prediction for a
    regressor.
    """

    #: "classification", "regression" or "other"
    problem_type: str = "other"
    #: Targets that the loss is defined for; None for all.
    target_range: TargetRange | None = None
    #: Most outputs of an example for which the output Hessian is formed.
    most_outputs: int = 4096

    @abstractmethod
    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example: (n, ...), (n, ...) -> (n,)."""

    @abstractmethod
    def hessian_factor(self, outputs: Tensor, targets: Tensor) -> HessianFactor:
        """Factor of the Hessian with respect to the flattened outputs."""

    @property
    def is_own(self) -> bool:
        """Whether a user wrote it, so that it has to show that it does not mix examples."""
        return type(self).__module__.partition(".")[0] != "influencekit"

    def check_size(self, outputs: Tensor) -> None:
        """Refuse outputs of which :meth:`hessian_factor` would take too long.

        Raises
        ------
        ResourceError
            If they have more than ``most_outputs``.
        """
        m = outputs[0].numel()
        if m > self.most_outputs:
            raise ResourceError(
                f"curvature: the Gauss-Newton matrix of {m:,} outputs per example takes an output "
                f"Hessian with {m:,} rows and columns and up to as many gradients for each "
                f"example; accepted for {type(self).__name__} are at most {self.most_outputs:,} "
                "outputs. Use InfluenceFunction(), which draws labels from the model there, or a "
                "curvature of loss gradients: InfluenceFunction('fisher'), "
                "InfluenceFunction('datainf') or InfluenceFunction(LoGra(rows='fisher'))."
            )

    def output_gradient(self, outputs: Tensor, targets: Tensor) -> Tensor | None:  # noqa: ARG002  losses with a formula take them
        """Gradient of each example's loss with respect to its outputs; None without a formula.

        Autograd takes it then. A formula is worth its place where outputs are large.
        """
        return None

    def sampled_gradients(self, outputs: Tensor, targets: Tensor, draw: Draw) -> Tensor:
        """Random output gradients whose outer product is the Hessian in expectation.

        If the loss is a negative log-likelihood, these are its gradients at targets drawn from the
        model's own distribution; the true Fisher matrix is then the Gauss-Newton matrix. If it is
        ``c`` times a negative log-likelihood (such as a mean over tokens or columns), they are
        multiplied by ``1 / √c``. For any other loss, they are its factor times standard normal
        numbers.

        Parameters
        ----------
        outputs : Tensor of shape (n, ..., n_outputs)
        targets : Tensor of shape (n, ...)
            The true targets: weights and masks may depend on them.
        draw : callable
            ``draw(*shape)`` gives float64 uniform numbers ``(n, n_samples, *shape)`` inside
            (0, 1), the same for an example whatever batch it is in.  Called once.

        Returns
        -------
        Tensor of shape (n, n_samples, ..., n_outputs)
        """
        self.check_size(outputs)
        factor = self.hessian_factor(outputs, targets).factor
        normal = torch.special.ndtri(draw(factor.shape[-1])).to(factor.dtype)
        gradients = normal @ factor.mT
        return gradients.reshape(*gradients.shape[:2], *outputs.shape[1:])

    def target_shape(self, outputs: Tensor) -> tuple[int, ...]:
        """Shape of one example's target, if it is not a position, for outputs (n, ...)."""
        return tuple(outputs.shape[1:])

    def explained(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What ``output="neg_loss"`` is the negative of: the loss itself, or that of a vote."""
        return self(outputs, targets)

    def prediction(self, outputs: Tensor) -> Tensor:
        """Predictions of the model, in the units of its target (n, n_outputs)."""
        return outputs

    def predict_proba(self, outputs: Tensor) -> Tensor:  # noqa: ARG002  losses of classes take it
        """Class probabilities (n, n_classes) from natural outputs."""
        raise TypeError(f"{type(self).__name__} does not define class probabilities.")

    def encode_classes(self, indices: Tensor, n_classes: int) -> Tensor:  # noqa: ARG002  losses of classes take it
        """Targets in the form that this loss takes, from class positions (n,)."""
        return indices

    def predicted_targets(self, outputs: Tensor) -> Tensor:
        """The model's own prediction, in the form of this loss's targets."""
        if self.problem_type != "classification":
            return self.prediction(outputs)
        logits = self.class_logits(outputs)
        return self.encode_classes(logits.argmax(1), logits.shape[1])

    def predicted_positions(self, outputs: Tensor) -> Tensor:
        """Position (n,) of the class that the model predicts."""
        return self.class_logits(outputs).argmax(-1)

    def positions(self, targets: Tensor) -> Tensor:
        """Targets as class positions (n,), for :meth:`margin` and :meth:`logit`."""
        return class_positions(targets)

    def example_weights(self, targets: Tensor) -> Tensor | None:  # noqa: ARG002  losses of classes take it
        """Weights (n,) of the examples in the training objective; None if all equal 1."""
        return None

    def weighs_classes(self, targets: Tensor) -> bool:  # noqa: ARG002  losses of classes take it
        """Whether a Task's class weights are inside the loss and its weights of such examples."""
        return False

    def logit(self, outputs: Tensor, positions: Tensor) -> Tensor:
        """Raw score of one class of each example, (n, ...), (n,) -> (n,)."""
        return self.class_logits(outputs).gather(1, positions[:, None])[:, 0]

    def margin(self, outputs: Tensor, positions: Tensor) -> Tensor:  # noqa: ARG002  losses of classes take it
        """Log-odds log(p / (1 - p)) of one class of each example, (n, ...), (n,) -> (n,)."""
        raise TypeError(f"{type(self).__name__} has no classes, so it has no margin.")

    def class_logits(self, outputs: Tensor) -> Tensor:  # noqa: ARG002  losses of classes take it
        """Raw score of every class, shape (n, n_classes)."""
        raise TypeError(f"{type(self).__name__} has no classes, so it has no logit.")


def class_positions(targets: Tensor) -> Tensor:
    """Class position (n,) of targets in any encoding: positions, one column, or one-hot.

    Parameters
    ----------
    targets : Tensor of shape (n,), (n, 1) or (n, n_classes)

    Returns
    -------
    Tensor of shape (n,), int64
    """
    if targets.ndim == 2 and targets.shape[1] > 1:
        return targets.argmax(1)
    flat = targets.reshape(-1)
    return flat.round().long() if flat.is_floating_point() else flat.long()


def log_floor(dtype: torch.dtype) -> float:
    """Smallest log-probability whose reciprocal square root, squared, is still finite.

    Factors of saturated outputs are clamped here, so that ``L`` and ``c`` stay finite, and their
    product, the gradient, stays correct.
    """
    return -0.9 * float(torch.log(torch.tensor(torch.finfo(dtype).max, dtype=torch.float64)))
