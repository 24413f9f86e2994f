"""What a Trainer of the transformers library divides the loss of a step by, seen at the model."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from influencekit.exceptions import TrajectoryError
from influencekit.training._unrecorded import INSTEAD
from influencekit.training.trajectory._recording import Recording

__all__ = ["LossWatch"]

N_ITEMS = "num_items_in_batch"


class LossWatch:
    """Tells a recording how a Trainer's model makes the loss of a step.

    The Trainer counts the labels of all batches of a step, and hands the number to models that take
    it.  Some divide by it; others take the mean of each batch, and these means are added.

    Parameters
    ----------
    model : torch.nn.Module
        As the Trainer calls it.
    recording : Recording
    """

    def __init__(self, model: nn.Module, recording: Recording):
        self.recording = recording
        self._known = False
        self._hook = model.register_forward_hook(self._see, with_kwargs=True)

    def remove(self) -> None:
        """Stop watching."""
        self._hook.remove()

    def _see(self, module: nn.Module, _args: Any, named: dict[str, Any], _output: Any) -> None:
        if not module.training or "labels" not in named:
            return  # an evaluation between two steps
        n_items = named.get(N_ITEMS)
        if n_items is not None and not self._known:
            self._find_out(module, named)
        widths = {
            name: leaf.shape[1]
            for name, leaf in named.items()
            if isinstance(leaf, Tensor) and leaf.ndim > 1
        }
        self.recording.saw(None if n_items is None else float(n_items), widths)

    def _find_out(self, module: nn.Module, named: dict[str, Any]) -> None:
        """Whether the loss is divided by the number that is handed over."""
        once, twice = (_loss(module, named, factor) for factor in (1, 2))
        if once is None or twice is None or once == 0 or not math.isfinite(once):
            return
        ratio = twice / once
        if min(abs(ratio - 0.5), abs(ratio - 1)) > 1e-5:  # halves are exact, whatever the precision
            raise TrajectoryError(
                f"TrainerRecorder: the loss of this {type(module).__name__} adds terms to the "
                "mean over its labels (router_aux_loss?), so a step cannot be replayed; accepted "
                f"is a model without them.{INSTEAD}"
            )
        self._known = True
        self.recording.divides = ratio < 0.75


def _loss(module: nn.Module, named: dict[str, Any], factor: int) -> float | None:
    """Loss of a batch in eval mode for a multiple of its number of labels; leaves no trace."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            output = module.forward(**{**named, N_ITEMS: named[N_ITEMS] * factor})
    finally:
        for part, mode in modes.items():
            part.training = mode
    loss = output.get("loss") if isinstance(output, dict) else output[0]
    return float(loss) if isinstance(loss, Tensor) and loss.ndim == 0 else None
