"""A property as the output that attributors of single examples explain."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from influencekit.attributors import TRAK, GradCos
from influencekit.base import BaseAttributor

__all__ = ["SlopeOutput", "check_explains", "explain"]


class SlopeOutput:
    """Output whose gradient is that of a property: outputs times its slopes, given as targets."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs * targets).flatten(1).sum(1)


def check_explains(attributor: BaseAttributor) -> None:
    """Refuse an attributor that cannot explain a property.

    Raises
    ------
    ValueError
        If neither it nor one inside it has an output, or rows do not add up.
    """
    name = type(attributor).__name__
    if isinstance(attributor, GradCos):
        raise ValueError(
            f"property: {name} divides the gradient of each test row by its norm, so that rows do "
            "not add up to a property. Use GradDot."
        )
    if not any(p.split("__")[-1] == "output" for p in attributor.get_params(deep=True)):
        raise ValueError(
            f"property: {name} has no parameter 'output', so it explains no property; accepted "
            "are attributors by gradients or by training."
        )


def explain(attributor: Any, output: Any) -> None:
    """Let a fitted attributor explain another output, and with it those that it holds.

    Parameters
    ----------
    attributor : fitted attributor
        Changed in place: of several models, or a search, or one by itself.
    output : callable
    """
    found = getattr(attributor, "best_attributor_", None)
    for part in (attributor._members or []) if found is None else [found]:
        explain(part, output)
    if isinstance(attributor, TRAK):  # its own output is what the model is made linear in
        attributor._explained = output
    elif found is None:
        attributor.set_params(output=output)
