"""Facts about torch's optimizers, and their weight decay as an L2 penalty."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from influencekit.exceptions import InfluenceKitWarning, UnsupportedModelError, warn_user

__all__ = ["OPTIMIZERS", "OptimizerFacts", "optimizers_that", "weight_decay_penalty"]


@dataclass(frozen=True)
class OptimizerFacts:
    """Facts about a class of torch.optim, read from its code.

    Parameters
    ----------
    coupled : bool
        ``weight_decay * θ`` is added to the gradient, so it belongs to the objective. Some
        optimizers have an option in the parameter group that decouples it.
    elementwise : bool, default=False
        Each parameter entry is updated only from its own gradients, so stacked models train as they
        would alone.
    recorded : bool, default=False
        ``training/trajectory`` can record and differentiate its step.
    descends : bool, default=False
        Gradient descent: on a quadratic its steps are a function of the curvature.
    """

    coupled: bool
    elementwise: bool = False
    recorded: bool = False
    descends: bool = False


#: Keys are names, because not every version of torch has all of them.
OPTIMIZERS = {
    "SGD": OptimizerFacts(coupled=True, elementwise=True, recorded=True, descends=True),
    "Adam": OptimizerFacts(coupled=True, elementwise=True, recorded=True),
    "AdamW": OptimizerFacts(coupled=False, elementwise=True, recorded=True),
    "RMSprop": OptimizerFacts(coupled=True, elementwise=True, recorded=True),
    "Adagrad": OptimizerFacts(coupled=True, elementwise=True, recorded=True),
    "Adadelta": OptimizerFacts(coupled=True, elementwise=True, recorded=True),
    "Adamax": OptimizerFacts(coupled=True, elementwise=True, recorded=True),
    "NAdam": OptimizerFacts(coupled=True, elementwise=True, recorded=True),
    "RAdam": OptimizerFacts(coupled=True, elementwise=True, recorded=True),
    "ASGD": OptimizerFacts(coupled=True),
    "Adafactor": OptimizerFacts(coupled=False),
    "Muon": OptimizerFacts(coupled=False),
}


def optimizers_that(fact: str) -> dict[str, type[Optimizer]]:
    """Classes of torch.optim for which a fact is true, by name.

    Parameters
    ----------
    fact : {"coupled", "elementwise", "recorded", "descends"}

    Returns
    -------
    dict of str to type
    """
    names = [name for name, facts in OPTIMIZERS.items() if getattr(facts, fact)]
    return {name: getattr(torch.optim, name) for name in names}


def weight_decay_penalty(
    optimizer: Optimizer, module: nn.Module, scale: float = 1.0
) -> dict[str, Tensor]:
    """Strength of the L2 penalty that is added to the mean loss, by parameter name.

    AdamW, Adafactor and Muon shrink the weights separately from the gradient. That is not a term of
    an objective, so they have no penalty here.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        The optimizer that trained the module's own parameters.
    module : torch.nn.Module
    scale : float, default=1.0
        Factor on every strength.

    Returns
    -------
    dict of str to Tensor
        Scalars, for only the parameters with a penalty.

    Raises
    ------
    UnsupportedModelError
        If a parameter with weight decay does not belong to the module.
    """
    names = {id(p): name for name, p in module.named_parameters()}
    penalty = {}
    for group in optimizer.param_groups:
        decay = float(group.get("weight_decay", 0.0))
        if decay == 0 or not _is_coupled(optimizer, group):
            continue
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise UnsupportedModelError(_unknown_optimizer(optimizer, decay))
            if parameter.requires_grad:
                strength = torch.tensor(scale * decay, dtype=torch.float64)
                penalty[names[id(parameter)]] = strength
    return penalty


def _is_coupled(optimizer: Optimizer, group: dict) -> bool:
    name = type(optimizer).__name__
    if isinstance(optimizer, tuple(optimizers_that("coupled").values())):
        return not group.get("decoupled_weight_decay", False)
    facts = OPTIMIZERS.get(name)
    if facts is None or facts.coupled:  # from another library
        warn_user(
            f"The optimizer {name} has weight_decay={group['weight_decay']}, but influencekit does "
            "not know whether it is part of the objective; it was left out. If it is, add it: "
            "dataclasses.replace(task, penalty={parameter_name: strength}).",
            InfluenceKitWarning,
        )
    return False


def _unknown_optimizer(optimizer: Optimizer, decay: float) -> str:
    return (
        f"model: its optimizer {type(optimizer).__name__} has weight_decay={decay} on a parameter "
        "that is not in the module (a learnable criterion, or a module replaced after training). "
        "Accepted is weight decay on the module's own parameters."
    )
