"""A check that each example's number does not depend on the other examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["check_separate", "check_slopes"]

#: Most examples that are evaluated again.
_MOST = 64


def check_separate(
    function: Callable[[Tensor, Tensor], Tensor],
    outputs: Tensor,
    targets: Tensor,
    values: Tensor,
    name: str = "loss",
) -> None:
    """Refuse a function whose value for one example moves with the other examples.

    Every other example is evaluated without those between, and the last one by itself; then every
    other one beside other examples in a batch of the same shape, where there is no other rounding.

    Parameters
    ----------
    function : callable
        ``(outputs, targets) -> (n,)``.
    outputs : Tensor of shape (n, ...)
    targets : Tensor of shape (n, ...)
    values : Tensor of shape (n,)
        What the function returned for all of them.
    name : str, default="loss"
        The argument that holds the function, for the error.

    Raises
    ------
    ValueError
        If a value moves.
    """
    n, known = len(outputs), values.detach()
    try:
        scale = float(known.abs().max()) if n > 1 else float("nan")
    except RuntimeError:  # inside a torch.func transform values cannot be read
        return
    if not scale < float("inf"):
        return
    eps = torch.finfo(known.dtype).eps
    rounding = 100 * eps * float(outputs.detach().abs().max()) + 1e-30
    allowed = 2 * eps**0.5 * scale + rounding
    for rows in (torch.arange(0, n, 2)[:_MOST], torch.tensor([n - 1])):
        rows = rows.to(outputs.device)
        found = _at(function, outputs, targets, rows)
        moved = (found.to(known) - known[rows]).abs() if found.shape == rows.shape else None
        if moved is None or bool((moved > allowed).any()):
            worst = None if moved is None else int(rows[int(moved.argmax())])
            raise ValueError(_message(name, n, found, known, worst, rows))
    _check_exchanged(function, outputs, targets, name)


def _at(
    function: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Any, rows: Tensor
) -> Tensor:
    """What a function returns for some of the examples."""
    some: Any = None if targets is None else targets[rows.to(targets.device)]
    with torch.no_grad():
        return function(outputs.detach()[rows], some)


def _check_exchanged(
    function: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Any, name: str
) -> None:
    """Compare values of every other example where the first stands in for all between."""
    place = torch.arange(min(len(outputs), _MOST), device=outputs.device)
    exchanged = torch.where(place % 2 == 1, 0, place)
    before, after = (_at(function, outputs, targets, rows) for rows in (place, exchanged))
    kept, eps = place[::2], torch.finfo(before.dtype).eps
    # bit by bit, except for functions that choose rows (z[mask]) and round them otherwise
    allowed = 64 * eps * float(before.abs().max()) + 8 * eps * float(outputs.detach().abs().max())
    moved = (after - before).abs()[kept]
    if bool((moved > allowed).any()):
        worst = int(moved.argmax())
        raise ValueError(_message(name, len(place), after[kept], before, int(kept[worst]), kept))


def check_slopes(
    function: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Any
) -> None:
    """Refuse a loss whose value for one example has a gradient in the others' outputs.

    A detached part may leave the values alone: ``loss + m - m.detach()``.

    Parameters
    ----------
    function : callable
        ``(outputs, targets) -> (n,)``.
    outputs : Tensor of shape (n, ...)
    targets : Tensor of shape (n, ...)

    Raises
    ------
    ValueError
        If it has.
    """
    z = outputs.detach().requires_grad_()
    with torch.enable_grad():
        total = function(z, targets)[::2].sum()
    found = torch.autograd.grad(total, z, allow_unused=True)[0] if total.requires_grad else None
    if found is None or not bool(found.isfinite().all()):
        return
    size, others = float(found.abs().max()), float(found[1::2].abs().max())
    if others > 64 * torch.finfo(found.dtype).eps * size:
        raise ValueError(
            f"loss: an example's value changes with the other examples of the batch: of {len(z)} "
            f"examples, every other one has a gradient of {others:.3g} in the outputs of those "
            f"between, and {size:.3g} in its own. Accepted is a function of each example's own "
            "outputs and target."
        )


def _message(
    name: str, n: int, found: Tensor, known: Tensor, worst: int | None, rows: Tensor
) -> str:
    if worst is None:
        got = f"on {len(rows)} of {n} examples it returned shape {tuple(found.shape)}"
    else:
        own = float(found[int((rows == worst).nonzero()[0, 0])])
        got = (
            f"example {worst} of a batch of {n} has {float(known[worst]):.6g}, but {own:.6g} in a "
            f"batch with other examples"
        )
    return (
        f"{name}: an example's value changes with the other examples of the batch ({got}), so it "
        "has no gradient per example. Accepted is a function of each example's own outputs and "
        "target, without random numbers. Causes: contrastive losses that compare examples with "
        "each other, normalization or means over the batch, and targets whose shape (n,) is "
        "broadcast against outputs (n, 1) to (n, n): give y the shape of the outputs."
    )
