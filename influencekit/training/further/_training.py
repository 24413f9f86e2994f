"""A training, described by what its optimizer does and for how long."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from influencekit.models._task import Task
from influencekit.training.further._config import ResolvedTraining, make_config
from influencekit.training.further._optimizer import NAMES, resolve_optimizer
from influencekit.training.stack._step import OptimizerSpec
from influencekit.utils.validation import (
    Interval,
    StrOptions,
    SuggestingEstimator,
    validate_parameters,
)

__all__ = ["Training"]

_COUNT = Interval(Integral, 1, None, closed="left")


class Training(SuggestingEstimator):
    """How a model is trained, and for how long.

    It is given wherever a training is described: to :class:`~influencekit.FurtherTraining`, and to
    :class:`~influencekit.InfluenceFunction` for ``damping="matched"`` and ``at``.

    Parameters
    ----------
    optimizer : {"sgd", "adam", "adamw"}, torch.optim class or None, default=None
        None is the fitted skorch net's own optimizer with all its options, or else "sgd".
        Accepted are optimizers that work parameter by parameter, so that runs can be trained
        together: SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adamax, NAdam, RAdam.
    lr : float or None, default=None
        Learning rate for the mean loss of a batch. None uses that of the fitted net's optimizer if
        it has the same class; other models need a number.
    epochs, n_steps : int or None, default=None
        Amount of training; give one of them, or none for one epoch.
    horizons : sequence of int or None, default=None
        Several amounts in one run, ascending, in epochs, or in steps if ``n_steps`` is given.
    batch_size : int or None, default=None
        Rows of a *training* batch: results depend on it.  None is the net's own, or else 128.
    momentum : float or None, default=None
        Momentum of SGD and RMSprop.
    optimizer_params : dict or None, default=None
        Further parameters of the optimizer, such as ``{"betas": (0.9, 0.99)}``.
        A ``weight_decay`` given here replaces the model's own penalty.
    optimizer_state : {"fresh", "own"}, default="fresh"
        "own" continues with the moments of the fitted net's optimizer.
    max_grad_norm : float or None, default=None
        Clip the norm of every run's gradient, as ``clip_grad_norm_`` does.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import FurtherTraining, InfluenceFunction, Training
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> training = Training("sgd", 0.01, n_steps=5, batch_size=50)
    >>> measured = FurtherTraining(training=training, n_repeats=2, left_out=3, random_state=0)
    >>> measured.fit(model, X, y).score(X[:2], y[:2]).shape
    (2, 150)
    >>> predicted = InfluenceFunction(damping="matched", further_training=training)
    >>> float(predicted.fit(model, X, y).damping_)  # 1 / (learning rate · steps)
    20.0
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "optimizer": [StrOptions(set(NAMES)), type, None],
        "lr": [Interval(Real, 0, None, closed="neither"), None],
        "epochs": [_COUNT, None],
        "n_steps": [_COUNT, None],
        "horizons": ["array-like", None],
        "batch_size": [_COUNT, None],
        "momentum": [Interval(Real, 0, None, closed="left"), None],
        "optimizer_params": [dict, None],
        "optimizer_state": [StrOptions({"fresh", "own"})],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(
        self,
        optimizer: Any = None,
        lr: float | None = None,
        *,
        epochs: int | None = None,
        n_steps: int | None = None,
        horizons: Any = None,
        batch_size: int | None = None,
        momentum: float | None = None,
        optimizer_params: dict[str, Any] | None = None,
        optimizer_state: str = "fresh",
        max_grad_norm: float | None = None,
    ):
        self.optimizer = optimizer
        self.lr = lr
        self.epochs = epochs
        self.n_steps = n_steps
        self.horizons = horizons
        self.batch_size = batch_size
        self.momentum = momentum
        self.optimizer_params = optimizer_params
        self.optimizer_state = optimizer_state
        self.max_grad_norm = max_grad_norm

    def resolve(self, task: Task, n_rows: int) -> ResolvedTraining:
        """Optimizer, learning rate and steps for a model, without training it.

        Parameters
        ----------
        task : Task
        n_rows : int
            Training rows that the model learned from.

        Returns
        -------
        ResolvedTraining
        """
        return self._configure(task, n_rows, "paired")[0]

    def _configure(
        self, task: Task, n_rows: int, removal: str
    ) -> tuple[ResolvedTraining, OptimizerSpec]:
        """The numbers for a model, and its optimizer, for runs that leave rows out."""
        validate_parameters(self)
        for name in set(self.optimizer_params or {}) & {"lr", "momentum"}:
            if getattr(self, name) is not None:
                raise ValueError(
                    f"optimizer_params, {name}: got both; accepted is one of the two. Leave {name} "
                    "out of optimizer_params."
                )
        spec = resolve_optimizer(
            task,
            self.optimizer,
            self.lr,
            self.momentum,
            self.optimizer_params,
            self.optimizer_state,
        )
        config = make_config(
            task,
            n_rows,
            spec,
            epochs=self.epochs,
            n_steps=self.n_steps,
            horizons=self.horizons,
            batch_size=self.batch_size,
            removal=removal,
            max_grad_norm=self.max_grad_norm,
        )
        return config, spec
