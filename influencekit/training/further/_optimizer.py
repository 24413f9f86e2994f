"""The optimizer of further training: by name, by class, or the fitted net's own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from influencekit.models._optimizers import optimizers_that
from influencekit.models._task import Task
from influencekit.training.stack._step import OptimizerSpec, ParameterGroup, groups_of
from influencekit.utils._suggest import did_you_mean

__all__ = ["NAMES", "fitted_net", "resolve_optimizer"]

#: What ``optimizer`` may be by name: "sgd", "adam", "adamw".
NAMES = {cls.__name__.lower(): cls for cls in (SGD, Adam, AdamW)}


def fitted_net(task: Task) -> NeuralNet | None:
    """The skorch net that a task was made of, if it is there with its optimizer."""
    net = task.estimator
    trained = isinstance(net, NeuralNet) and getattr(net, "optimizer_", None) is not None
    return net if trained else None


def resolve_optimizer(
    task: Task,
    optimizer: str | type[Optimizer] | None = None,
    lr: float | None = None,
    momentum: float | None = None,
    params: Mapping[str, Any] | None = None,
    state: str = "fresh",
) -> OptimizerSpec:
    """Optimizer that the arguments mean for a task.

    Raises
    ------
    ValueError
        If the optimizer is not elementwise, a learning rate is missing, or a parameter or
        state is asked for that the optimizer does not have.
    """
    net = fitted_net(task)
    own = net.optimizer_ if net is not None and optimizer is None else None
    if state == "own" and own is None:
        raise ValueError(
            "optimizer_state='own': there is no fitted optimizer to continue; accepted if the "
            "model is a fitted skorch net and optimizer=None. Use optimizer_state='fresh'."
        )
    cls = type(own) if own is not None else _class_of(optimizer)
    accepted = optimizers_that("elementwise")
    if cls not in accepted.values():
        whose = "the net's " if own is not None else ""
        raise ValueError(
            f"optimizer: {whose}{cls.__name__} does not work parameter by parameter, so runs "
            f"cannot be trained together with it; accepted are {sorted(NAMES)} or a class "
            f"of torch.optim among {', '.join(accepted)}."
        )
    changes = dict(params or {})
    if momentum is not None:
        changes["momentum"] = float(momentum)
    if lr is None and "lr" not in changes:
        lr = _own_lr(task, net, cls, fresh=own is None)
    if lr is not None:
        changes["lr"] = float(lr)
    fresh = (ParameterGroup(tuple(task.parameters), {"weight_decay": 0.0}),)
    groups = fresh if own is None else _own_groups(task, net)
    groups = tuple(ParameterGroup(g.names, g.options | changes) for g in groups)
    kept = _own_state(task, net) if state == "own" else {}
    spec = OptimizerSpec(cls, groups, kept, "weight_decay" in changes)
    _check_options(spec, changes)
    return spec


def _class_of(optimizer: Any) -> Any:
    if optimizer is None:
        return NAMES["sgd"]
    if isinstance(optimizer, type) and not issubclass(optimizer, Optimizer):
        raise ValueError(
            f"optimizer: got the class {optimizer.__name__}; accepted is a class of torch.optim, "
            f"{sorted(NAMES)} or None."
        )
    return NAMES[optimizer] if isinstance(optimizer, str) else optimizer


def _own_lr(task: Task, net: NeuralNet | None, cls: Any, fresh: bool) -> float | None:
    """Rate of the net's optimizer for a fresh one of its class; None where groups hold it."""
    if net is None or type(net.optimizer_) is not cls:
        raise ValueError(
            f"lr: needed for {task.name} with {cls.__name__}; got None. A fitted skorch net has "
            f"the learning rate of its own optimizer; other models do not. A tenth of the rate in "
            f"the model's training is a usual choice."
        )
    if getattr(net.criterion_, "reduction", "mean") == "sum":
        raise ValueError(
            "lr: needed, because this net's criterion sums over a batch, while further training "
            "takes the mean; got None. The net's rate times its batch size is the same step for "
            "SGD."
        )
    return float(net.optimizer_.param_groups[0]["lr"]) if fresh else None


def _own_groups(task: Task, net: NeuralNet) -> tuple[ParameterGroup, ...]:
    """Groups of a net's optimizer; weight decay that the task's penalty holds is left to it."""
    return tuple(
        replace(group, options=group.options | {"weight_decay": 0.0})
        if any(name in task.penalty for name in group.names)
        else group
        for group in groups_of(net.optimizer_, _names(task, net))
    )


def _names(task: Task, net: NeuralNet) -> dict[int, str]:
    module = getattr(net.module_, "_orig_mod", net.module_)
    return {id(p): n for n, p in module.named_parameters() if n in task.parameters}


def _own_state(task: Task, net: NeuralNet) -> dict[str, dict[str, Any]]:
    names = _names(task, net)
    return {
        names[id(p)]: {
            k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in state.items()
        }
        for p, state in net.optimizer_.state.items()
        if id(p) in names
    }


def _check_options(spec: OptimizerSpec, changes: Mapping[str, Any]) -> None:
    """Let torch look at the options, and say whose they are."""
    known = spec.cls([torch.zeros(1, requires_grad=True)], lr=1.0).defaults
    unknown = sorted(set(changes) - set(known))
    if unknown:
        name = "momentum" if unknown == ["momentum"] else "optimizer_params"
        raise ValueError(
            f"{name}: {spec.cls.__name__} does not have {', '.join(unknown)}; accepted are "
            f"{sorted(known)}.{did_you_mean(unknown[0], known)}"
        )
    taken = inspect.signature(spec.cls.__init__).parameters
    options = {key: v for key, v in spec.groups[0].options.items() if key in taken}
    try:
        spec.cls([torch.zeros(1, requires_grad=True)], **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"optimizer_params: {spec.cls.__name__} refuses them: {error}.") from error
