"""Weight decay of a torch optimiser as an L2 penalty."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from influencekit.exceptions import InfluenceKitWarning, UnsupportedModelError, warn_user

__all__ = ["weight_decay_penalty"]

# Optimisers that add weight_decay * θ to the gradient, so that it belongs to the objective.
# Some have a switch, read from the parameter group, that decouples it.
COUPLED = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.Adamax,
    torch.optim.ASGD,
)
DECOUPLED = ("AdamW", "Adafactor", "Muon")


def weight_decay_penalty(
    optimizer: torch.optim.Optimizer, module: nn.Module, scale: float = 1.0
) -> dict[str, Tensor]:
    """Strength of the L2 penalty beside the mean loss, by parameter name.

    AdamW, Adafactor and Muon shrink the weights apart from the gradient.  That is no term of
    an objective, so nothing is carried for them.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        The optimiser that trained the module's own parameters.
    module : torch.nn.Module
    scale : float, default=1.0
        Factor on every strength.

    Returns
    -------
    dict of str to Tensor
        Scalars, only for parameters with a penalty.

    Raises
    ------
    UnsupportedModelError
        If a parameter with weight decay is none of the module's.
    """
    names = {id(p): name for name, p in module.named_parameters()}
    penalty = {}
    for group in optimizer.param_groups:
        decay = float(group.get("weight_decay", 0.0))
        if decay == 0 or not _is_coupled(optimizer, group):
            continue
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise UnsupportedModelError(_stranger(optimizer, decay))
            if parameter.requires_grad:
                strength = torch.tensor(scale * decay, dtype=torch.float64)
                penalty[names[id(parameter)]] = strength
    return penalty


def _is_coupled(optimizer: torch.optim.Optimizer, group: dict) -> bool:
    name = type(optimizer).__name__
    if isinstance(optimizer, COUPLED):
        return not group.get("decoupled_weight_decay", False)
    if name not in DECOUPLED:
        warn_user(
            f"The optimiser {name} has weight_decay={group['weight_decay']}, but influencekit does "
            "not know whether it is part of the objective; it was left out. If it is, add it: "
            "dataclasses.replace(task, penalty={parameter_name: strength}).",
            InfluenceKitWarning,
        )
    return False


def _stranger(optimizer: torch.optim.Optimizer, decay: float) -> str:
    return (
        f"model: its optimiser {type(optimizer).__name__} has weight_decay={decay} on a parameter "
        "that is not in the module (a learnable criterion, or a module replaced after training). "
        "Accepted is weight decay on the module's own parameters."
    )
