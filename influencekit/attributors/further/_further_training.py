"""Further training with and without each example: the gold standard of a final model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from influencekit._fitted import Fitted
from influencekit.attributors.further._fitted_further_training import FittedFurtherTraining
from influencekit.attributors.further._removals import make_removals
from influencekit.base import BaseAttributor
from influencekit.data._examples import Examples, each
from influencekit.models._outputs import OUTPUTS
from influencekit.models._task import Task
from influencekit.training.further._config import ADJUSTMENTS, REMOVALS, ResolvedTraining
from influencekit.training.further._plan import ENGINES, FurtherPlan, endpoint_seed
from influencekit.training.further._scores import FurtherTrainingScores
from influencekit.training.further._step import KEPT, Removals
from influencekit.training.further._training import Training
from influencekit.utils._random import draw_seed
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import Interval, StrOptions, validate_parameters

__all__ = ["FurtherTraining"]

_COUNT = Interval(Integral, 1, None, closed="left")
#: What of a :class:`Training` may be said by plain keywords.
_SHORT_FORM = ("optimizer", "lr", "epochs", "n_steps")


class FurtherTraining(BaseAttributor):
    """Measured effect of leaving an example out of further training.

    The fitted model is trained further, with and without each example, with the same seeds, and the
    explained output is compared::

        score_ij = mean over seeds of  f_i(θ after D) - f_i(θ after D without j)

    Positive marks a proponent, in units of the output.  It describes *this* model and a stated
    amount of training, not the training that led to the model.

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
        Amount of further training; give one of them, or none for one epoch.
    training : Training or None, default=None
        The training as a separate object, in place of the four parameters above. It has more
        options: batches, momentum, several horizons, clipping.
    left_out : int, array-like or None, default=None
        Training rows to leave out, each on its own: positions; or a number of rows, which
        are spread evenly over the rows that the model learned from (no random draw); None is
        all of them.  With ``groups``: labels, or a number of groups.
    groups : array-like of shape (n_train,) or None, default=None
        A label for each training row: all rows with the same label are left out together, and every
        row's score is that of its group.
    n_repeats : int, default=10
        Number of seeds to average scores over.
    removal : {"paired", "drop", "subtract"}, default="paired"
        How an example is left out, see Notes.
    adjust : {"full", "center"} or None, default="full"
        "full" compares with the full-data run of the same seed.  "center" compares with the
        mean over the left-out runs.  None compares with the fitted model, so scores include the
        effect that further training has in any case.
    output : {"auto", "neg_loss", "margin", "logit", "prediction"} or callable, default="auto"
        The explained output; see :class:`InfluenceFunction`.
    engine : {"auto", "stacked", "loop"}, default="auto"
        "stacked" trains the full-data run and the others together, "loop" one after the
        other; "auto" stacks if the module allows it (with a warning if it does not). Results agree
        up to rounding.
    max_memory : int, str or None, default=None
        Memory limit of a stack in bytes, or a string such as "2GB"; None is at most 1 GiB.
    cache_dir : path-like or None, default=None
        Folder in which every finished seed is stored. A later call with the same model, data and
        settings continues from there, even after the process was killed. Pickle is not used. Needs
        an int ``random_state``.
    random_state : int, RandomState instance or None, default=None
        Seed for drawing the seeds. More seeds do not change the first ones.
    verbose : int, default=0
        1 shows progress.

    Attributes
    ----------
    task_ : Task
        Snapshot of the model.
    config_ : ResolvedTraining
        Optimizer, learning rate, batch size, steps: with all defaults filled in.
    seeds_ : ndarray of shape (n_repeats,)
    left_out_ : ndarray of shape (n_left_out,)
        Rows that are left out, or labels of groups.
    n_train_ : int
    train_rows_ : ndarray of int
        Rows of the training data that the model learned from.

    Notes
    -----
    Training happens in ``score``, where the test examples are known: ``fit`` is quick, and two
    calls of ``score`` train twice unless ``cache_dir`` is set and the test examples are the same.

    *Removal.*  "paired": the same batches, the example's weight is zero, and the batch's loss is
    divided by what remains.  "drop": the example is deleted from the epoch's order and later
    rows move up, so all later batches differ by a row and the last one is shorter.
    "subtract": batches stay, and ``w_j loss_j / W`` is taken off the loss at every step, so the
    effect is spread over all steps; the row's own dropout noise has its own stream.

    *Seeds.*  A run under a seed is ``torch.manual_seed(seed)`` for dropout and
    ``DataLoader(rows, batch_size, shuffle=True, generator=torch.Generator().manual_seed(seed))``
    for the order; all runs of a seed share both.  (Where rows are dropped, the noise is that of
    the run's own batches.)

    *Objective.*  Mean loss of the batch with the model's class weights, plus its penalty (weight
    decay of SGD or Adam, Ridge's alpha, C), which is added to every gradient whatever the
    optimizer.  A mean-type penalty stays when rows are left out; a sum-type one is added to the
    sum, unless ``removal="subtract"``.  An optimizer given by name or class has no weight decay
    of its own, AdamW neither; the net's own AdamW keeps its decoupled one.

    *Mode.*  Dropout is active.  Layers with running statistics (BatchNorm) stay as the fitted
    model has them: in training mode every loss would depend on the other rows of its batch, and
    no row could be taken out of it.  Callbacks and schedules of a net are not run.

    *Precision.*  Training is in the model's dtype.  Outputs are evaluated in float64 where the
    module can be, and differences are taken in float64.

    *Divergence.*  Runs that diverge are refused: a number is not finite, no digit of the fitted
    parameters is left, or the loss is above 1,000 times that of the model with all of them zero.

    Cost: ``n_repeats · (1 + n_left_out)`` further trainings.  Memory: two tables
    ``n_horizons × n_test × n_left_out``, the outputs of one seed, and the stack.

    References
    ----------
    .. [1] D. Wei, I. Padhi, S. Ghosh, A. Dhurandhar, K. N. Ramamurthy, M. Chang. Final-model-only
       data attribution with a unifying view of gradient-based methods. NeurIPS 2025,
       arXiv 2412.03906.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import FurtherTraining
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> further = FurtherTraining(lr=0.01, n_steps=5, n_repeats=2, left_out=10, random_state=0)
    >>> further.fit(model, X, y).score(X[:2], y[:2]).shape
    (2, 150)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **{name: Training._parameter_constraints[name] for name in _SHORT_FORM},
        "training": [Training, None],
        "left_out": [_COUNT, "array-like", None],
        "groups": ["array-like", None],
        "n_repeats": [_COUNT],
        "removal": [StrOptions(set(REMOVALS))],
        "adjust": [StrOptions(set(ADJUSTMENTS)), None],
        "output": [StrOptions(set(OUTPUTS)), callable],
        "engine": [StrOptions(set(ENGINES))],
        "max_memory": [Interval(Integral, 1, None, closed="left"), str, None],
        "cache_dir": [str, os.PathLike, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    fitted_: Sequence[FittedFurtherTraining]

    def __init__(
        self,
        optimizer: Any = None,
        lr: float | None = None,
        *,
        epochs: int | None = None,
        n_steps: int | None = None,
        training: Any = None,
        left_out: Any = None,
        groups: Any = None,
        n_repeats: int = 10,
        removal: str = "paired",
        adjust: str | None = "full",
        output: str | Callable = "auto",
        engine: str = "auto",
        max_memory: int | str | None = None,
        cache_dir: str | os.PathLike | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.optimizer = optimizer
        self.lr = lr
        self.epochs = epochs
        self.n_steps = n_steps
        self.training = training
        self.left_out = left_out
        self.groups = groups
        self.n_repeats = n_repeats
        self.removal = removal
        self.adjust = adjust
        self.output = output
        self.engine = engine
        self.max_memory = max_memory
        self.cache_dir = cache_dir
        self.random_state = random_state
        self.verbose = verbose

    def resolve(self, task: Task, n_rows: int) -> ResolvedTraining:
        """Optimizer, learning rate and steps for a model, without fitting or training.

        Parameters
        ----------
        task : Task
        n_rows : int
            Training rows that the model learned from.

        Returns
        -------
        ResolvedTraining
        """
        validate_parameters(self)
        return self._described()._configure(task, n_rows, self.removal)[0]  # noqa: SLF001  kept from users

    def _described(self) -> Training:
        """The training, given as such or by plain keywords.

        Raises
        ------
        ValueError
            If both are given.
        """
        plain = {name: getattr(self, name) for name in _SHORT_FORM}
        if self.training is None:
            return Training(**plain)
        for name, value in plain.items():
            if value is not None:
                raise ValueError(
                    f"training, {name}: got training={self.training!r} and {name}={value!r}; "
                    f"accepted is one of the two. Leave {name} out here, or say it in the "
                    f"training: Training({name}={value!r}, ...)."
                )
        return self.training

    def _fit(self, task: Task, train: Examples) -> Fitted:
        if self.cache_dir is not None and self.random_state is None:
            raise ValueError(
                "cache_dir: with random_state=None every fit draws other seeds, so nothing "
                "stored could be found again. Set random_state to an int."
            )
        removals, left_out = make_removals(
            self.left_out, self.groups, self.train_rows_, self.n_train_
        )
        removal_of_row = np.full(self.n_train_, KEPT, dtype=np.int64)
        removal_of_row[self.train_rows_] = removals.removal_of_row
        plan = self._planned(task, train, removals)
        return FittedFurtherTraining(self, plan, left_out, removal_of_row)

    @property
    def config_(self) -> ResolvedTraining:
        """Optimizer, learning rate and steps; of the first of several models."""
        return self.fitted_[0].plan.config

    @property
    def left_out_(self) -> np.ndarray:
        """Rows or groups left out, see ``Attributes``; for several models, those of the first."""
        return self.fitted_[0].left_out

    @property
    def seeds_(self) -> np.ndarray:
        """Seeds of the runs; of the first of several models."""
        return self.fitted_[0].seeds

    @with_gradients
    def measure(self, X: Any, y: Any = None) -> FurtherTrainingScores:
        """Scores at every horizon, with the halves that tell their reliability.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None

        Returns
        -------
        FurtherTrainingScores
        """
        fitted = self._only()
        return fitted.measure(each(self._queries(X, y))[0], fitted.output)

    @with_gradients
    def iter_seeds(self, X: Any, y: Any = None) -> Iterator[np.ndarray]:
        """Yield the scores of one seed after the other, at every horizon.

        Parameters
        ----------
        X, y : array-like
            As in :meth:`measure`.

        Yields
        ------
        ndarray of shape (n_horizons, n_test, n_left_out)
        """
        yield from self._only().iter_seeds(each(self._queries(X, y))[0])

    @with_gradients
    def endpoint(self, run: int = 0) -> Task:
        """Fitted model after one full-data further training, as a Task.

        Parameters
        ----------
        run : int, default=0
            Number of the run: each has its own seed, different from those in ``seeds_``.

        Returns
        -------
        Task
            As ``task_``, with the parameters at the last horizon.
        """
        fitted = self._only()
        return fitted.plan.endpoint(endpoint_seed(fitted.entropy, len(fitted.seeds), run))

    @with_gradients
    def endpoint_of(self, task: Task, train: Examples, run: int = 0) -> Task:
        """The same for a task and the examples that it learned from, without a fit.

        ``left_out`` and ``groups`` are ignored.

        Parameters
        ----------
        task : Task
        train : Examples
        run : int, default=0
        """
        validate_parameters(self)
        entropy = draw_seed(self.random_state)
        plan = self._planned(task, train, Removals(np.full(len(train), KEPT), 0))
        return plan.endpoint(endpoint_seed(entropy, self.n_repeats, run))

    def _planned(self, task: Task, train: Examples, removals: Removals) -> FurtherPlan:
        config, spec = self._described()._configure(task, len(train), self.removal)  # noqa: SLF001  kept from users
        return FurtherPlan(task, train, removals, config, spec, self.max_memory, self.engine)

    def _only(self) -> FittedFurtherTraining:
        """What was learned from one model; refuses several."""
        check_is_fitted(self, "fitted_")
        if len(self.fitted_) > 1:
            raise ValueError(
                "model: got several models, for which only score is available, as a mean. "
                "Horizons, seeds and endpoints belong to one model: fit FurtherTraining on each."
            )
        return self.fitted_[0]
