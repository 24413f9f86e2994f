"""A net's weights along its training."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping

from influencekit.exceptions import InfluenceKitWarning, UnsupportedModelError, warn_user
from influencekit.training._diverged import check_on_nan
from influencekit.training._randomness import seeded
from influencekit.training._step_checkpoints import (
    State,
    StepCheckpoints,
    check_n,
    copied_state,
)
from influencekit.training.estimator._recipe import (
    device_of,
    fresh_copy,
    match_net_dtype,
    read_recipe,
)
from influencekit.utils._random import draw_seed
from influencekit.utils._torch import with_gradients

__all__ = ["KeepCheckpoints", "kept_checkpoints", "train_checkpoints"]


class KeepCheckpoints(Callback):
    """Callback of a skorch net that keeps its weights: n times along the run, or by epoch.

    Parameters
    ----------
    epochs : iterable of int or None, default=None
        0 is the net before its first step, 1 the net after its first epoch; None keeps every
        epoch, unless ``n`` is given.
    n : int, default=None
        Keep the weights before the steps nearest to ``(k + ½) / n`` of the run, k = 0 … n - 1,
        instead of whole epochs, as needed for :class:`~influencekit.RunAverage`.

    Attributes
    ----------
    checkpoints_ : dict of int to dict
        State dict of the module, copied to the CPU, by epoch; with ``n`` by step, with the weights
        before that step. ``fit`` starts again, ``partial_fit`` continues.
    n_steps_ : int
        With ``n``: number of training batches so far.

    Raises
    ------
    ValueError
        When training begins, if both are given, or ``n`` is not a positive integer.

    Notes
    -----
    Memory: one copy of the module's parameters and buffers for each checkpoint.  With ``n``, if the
    net may stop early or its batches cannot be counted, up to ``4 n`` copies are held during
    training.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetRegressor
    >>> from torch import nn
    >>> from influencekit.training import KeepCheckpoints
    >>> X = np.ones((4, 1), dtype=np.float32)
    >>> keep = KeepCheckpoints([1, 3])
    >>> net = NeuralNetRegressor(nn.Linear, module__in_features=1, module__out_features=1,
    ...     max_epochs=3, train_split=None, callbacks=[("keep", keep)], verbose=0).fit(X, X)
    >>> list(dict(net.callbacks_)["keep"].checkpoints_)
    [1, 3]
    """

    def __init__(self, epochs: Iterable[int] | None = None, *, n: int | None = None):
        self.epochs = epochs
        self.n = n

    def on_train_begin(self, net: NeuralNet, **_: Any) -> None:
        self._check()
        fresh = len(net.history) == 0 or not hasattr(self, "checkpoints_")
        if fresh:
            self.checkpoints_: dict[int, State] = {}
        if self.n is not None:
            if fresh:
                self.steps_ = StepCheckpoints(self.n)
            self.counted_ = False
        elif fresh:
            self._keep(net)

    def on_epoch_begin(self, net: NeuralNet, dataset_train: Any = None, **_: Any) -> None:
        if self.n is not None and not self.counted_:
            self.steps_.expect(_steps_to_come(net, dataset_train))
            self.counted_ = True

    def on_batch_begin(self, net: NeuralNet, training: bool = False, **_: Any) -> None:
        if self.n is not None and training:
            self.steps_.before_step(net.module_)

    def on_epoch_end(self, net: NeuralNet, **_: Any) -> None:
        if self.n is None:
            self._keep(net)

    def on_train_end(self, _net: NeuralNet, **_: Any) -> None:
        if self.n is not None:
            self.checkpoints_, self.n_steps_ = self.steps_.finish(), self.steps_.n_steps

    def _check(self) -> None:
        if self.n is None:
            return
        check_n(self.n)
        if self.epochs is not None:
            raise ValueError("epochs, n: got both; accepted is one of the two.")

    def _keep(self, net: NeuralNet) -> None:
        epoch = len(net.history)
        if epoch in self.epochs if self.epochs is not None else epoch > 0:
            self.checkpoints_[epoch] = copied_state(net.module_)


def _steps_to_come(net: NeuralNet, dataset_train: Any) -> int | None:
    """Number of training batches in a fit of ``max_epochs``; None if unknown."""
    if any(isinstance(callback, EarlyStopping) for _, callback in net.callbacks_):
        return None
    try:  # of the class: a recorder may have replaced the net's own
        batches = len(type(net).get_iterator(net, dataset_train, training=True))
    except TypeError:
        return None
    return batches * net.max_epochs


def kept_checkpoints(model: Any, epochs: list[int]) -> dict[int, State] | None:
    """Checkpoints at the given epochs kept by a fitted net itself; None if one is missing.

    Parameters
    ----------
    model : estimator
        A skorch net, or a Pipeline or search that holds one.
    epochs : list of int

    Returns
    -------
    dict of int to state dict, or None
    """
    net = _net_of(model)
    for _, callback in getattr(net, "callbacks_", []):
        by_epoch = isinstance(callback, KeepCheckpoints) and callback.n is None
        kept = getattr(callback, "checkpoints_", {}) if by_epoch else {}
        if set(epochs) <= set(kept):
            return {epoch: kept[epoch] for epoch in epochs}
    return None


@with_gradients
def train_checkpoints(
    model: Any,
    X: Any,
    y: Any,
    epochs: Iterable[int],
    *,
    on_nan: str = "raise",
    random_state: Any = None,
) -> dict[int, State]:
    """Train a copy of a net once, and keep its weights at given epochs.

    Parameters
    ----------
    model : skorch.NeuralNet, or Pipeline or search that ends in one
        It is cloned, never changed.  A Pipeline's fitted transformers are kept.
    X, y : array-like
        All training rows, as given to the model's ``fit``.
    epochs : iterable of int
        Epochs to keep; 0 is the net before its first step. Training ends after the largest one; the
        net's own ``max_epochs`` is ignored.
    on_nan : {"raise", "keep"}, default="raise"
        Whether checkpoints with NaN or infinite weights are refused, with an error that names their
        epochs, or kept with a warning.
    random_state : int, RandomState or None, default=None
        Seed for initialization and training.

    Returns
    -------
    dict of int to dict
        State dict of the module by epoch, ascending;
        :func:`influencekit.models.load_checkpoints` makes models from them.

    Raises
    ------
    UnsupportedModelError
        If the model is not a skorch net.
    ValueError
        If epochs are not integers of at least 0, or training ended before the largest or diverged.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetRegressor
    >>> from torch import nn
    >>> from influencekit.training import train_checkpoints
    >>> X = np.ones((4, 1), dtype=np.float32)
    >>> net = NeuralNetRegressor(nn.Linear, module__in_features=1, module__out_features=1)
    >>> list(train_checkpoints(net, X, X, [0, 5], random_state=0))
    [0, 5]
    """
    wanted = check_epochs(epochs)
    check_on_nan(on_nan)
    recipe = read_recipe(model)
    _net_of(model)
    seed = draw_seed(random_state)
    net = fresh_copy(recipe.estimator, seed)
    own = net.callbacks if isinstance(net.callbacks, (list, tuple)) else []
    keep = KeepCheckpoints(wanted)
    net.set_params(max_epochs=max(wanted), callbacks=[*own, ("keep_checkpoints", keep)])
    with seeded(seed, device_of(net)):
        net.fit(recipe.transform(X), match_net_dtype(y, recipe.estimator))
    kept = dict(net.callbacks_)["keep_checkpoints"].checkpoints_
    missing = sorted(set(wanted) - set(kept))
    if missing:
        raise ValueError(
            f"epochs: training ended after {len(net.history)} epochs (a callback stopped it, or "
            f"it was interrupted), so the checkpoints {missing} do not exist. Give smaller epochs."
        )
    found = {epoch: kept[epoch] for epoch in wanted}
    _look_for_nan(found, seed, on_nan)
    return found


def _look_for_nan(checkpoints: dict[int, State], seed: int, on_nan: str) -> None:
    """Refuse checkpoints with weights that are not finite, or warn."""
    bad = [
        epoch
        for epoch, state in checkpoints.items()
        if not all(bool(torch.isfinite(t).all()) for t in state.values())
    ]
    if not bad:
        return
    found = (
        f"model: training under seed {seed} diverged: the weights after epochs {bad} are NaN or "
        f"infinite. Use a smaller learning rate, or give smaller epochs."
    )
    if on_nan == "raise":
        raise ValueError(f"{found} Use on_nan='keep' to keep these checkpoints.")
    warn_user(f"{found} They are kept.", InfluenceKitWarning)


def check_epochs(epochs: Any, name: str = "epochs") -> list[int]:
    """Ascending distinct epochs of 0 or more.

    Raises
    ------
    ValueError
    """
    values = [] if isinstance(epochs, str) or not hasattr(epochs, "__iter__") else list(epochs)
    whole = all(isinstance(e, Integral) and not isinstance(e, bool) and int(e) >= 0 for e in values)
    if not values or not whole:
        raise ValueError(
            f"{name}: got {epochs!r}; accepted is a list of integers of 0 or more, such as "
            "[1, 3, 10]."
        )
    return sorted({int(e) for e in values})


def _net_of(model: Any) -> NeuralNet:
    net = read_recipe(model).estimator
    if not isinstance(net, NeuralNet):
        raise UnsupportedModelError(
            f"model: got {type(net).__name__}; checkpoints during training can only be kept for "
            f"skorch nets. Train and save them yourself, and give them as checkpoints "
            "(influencekit.models.load_checkpoints reads state dicts)."
        )
    return net
