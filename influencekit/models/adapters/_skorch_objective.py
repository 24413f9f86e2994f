"""The objective that a skorch net's own ``get_loss`` computes."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.models.losses._criteria import frozen_criterion

__all__ = ["SkorchObjective"]


class _OutOfReach:
    """What a per-example loss of outputs and targets must not read."""

    def __init__(self, net: str, what: str):
        self._message = (
            f"model: get_loss of {net} reads {what}, so its objective is not a function of the "
            "module's output and the targets alone. Give the loss of an example without that "
            "part: as_task(net, loss=lambda output, y: ...). A penalty of the weights is given as "
            "weight_decay of the optimizer."
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copying and pickling look for these
            raise AttributeError(name)
        raise UnsupportedModelError(self._message)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise UnsupportedModelError(self._message)

    __getitem__ = __iter__ = __len__ = __call__ = __add__ = __sub__ = __rsub__ = _refuse


class SkorchObjective:
    """``get_loss`` of a fitted net as a function of the module's output and the targets.

    Parameters
    ----------
    net : skorch.NeuralNet
        Its parameters and its criterion are kept, not its module.
    """

    def __init__(self, net: NeuralNet):
        self.kind, self.name = type(net), type(net).__name__
        self.settings = {k: vars(net)[k] for k in net.get_params(deep=False) if k in vars(net)}
        self.settings["criterion_"] = frozen_criterion(net.criterion_)

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        net = object.__new__(self.kind)
        vars(net).update(self.settings)
        vars(net)["module_"] = _OutOfReach(self.name, "the module")
        inputs = _OutOfReach(self.name, "the inputs X")
        return net.get_loss(outputs, targets, X=inputs, training=False)
