"""Scores averaged over checkpoints of the training run."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from influencekit._fitted import Fitted, reject_data_as_model
from influencekit._seeded_copies import seeded_copies
from influencekit.attributors.along_the_run._fitted_run import FittedRun
from influencekit.attributors.along_the_run._runs import read_runs
from influencekit.attributors.along_the_run._trajectory_influence import TrajectoryInfluence
from influencekit.attributors.influence._influence_function import InfluenceFunction
from influencekit.base import BaseAttributor
from influencekit.curvature._mean_path import MeanPath
from influencekit.curvature._spectrum import DampingPath
from influencekit.data._examples import Examples, each
from influencekit.exceptions import NotStationaryWarning, collected_warnings, warn_user
from influencekit.models._run_task import RunTask
from influencekit.models._task import Task, TaskList
from influencekit.training._kept_run import SOURCES, even_positions
from influencekit.utils._random import draw_seed
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import Interval, StrOptions, validate_parameters

__all__ = ["RunAverage"]


def _has_path(average: RunAverage) -> bool:
    """Whether scores are means of products with a spectrum."""
    check_is_fitted(average, "fitted_")
    eigenvalues = all(one.eigenvalues is not None for one in average.fitted_)
    return average.slopes != "unit" and eigenvalues


def _has_damping(average: RunAverage) -> bool:
    return hasattr(average.attributor, "set_damping")


class RunAverage(BaseAttributor):
    """Scores of an attributor averaged over checkpoints of the run that trained the model.

    ``score_ij = (1/K) Σ_k S_ij(θ_k; λ_k)`` with the weights θ_k before the steps
    ``⌊(k + ½) T / K⌋`` of a run of T steps, and each checkpoint's own default damping λ_k.

    Parameters
    ----------
    attributor : attributor, default=InfluenceFunction()
        Attributor for the scores at each checkpoint. Any attributor of a single model: ``TRAK()``,
        ``InfluenceFunction("ekfac")``, ``GradDot()``.
    n_checkpoints : int, default=8
        Number of checkpoints of a run to average; if there are more, this many are used, evenly
        spaced.
    checkpoints : Trajectory, recorder, mapping, list or path-like, default=None
        Weights along the run of the model that ``fit`` gets: a
        :class:`~influencekit.training.Trajectory` or its folder, what
        :func:`~influencekit.training.record_checkpoints` or a recorder of trajectories gave, or
        state dicts (or files of them) in the order of training.  None uses those that a skorch
        net kept itself, by its callback :class:`~influencekit.training.KeepCheckpoints` or
        :class:`~influencekit.training.TrajectoryRecorder`.
    slopes : {"mean", "end", "own", "unit"}, default="mean"
        How the queries' gradients are made.  "mean": one gradient s_i of the output by the
        model's outputs z for all checkpoints, with each checkpoint's Jacobian, ``J_k(x_i)ᵀ s_i``;
        s_i has the mean direction of ``∂f_i/∂z`` over the checkpoints, and its mean length.
        "end": that of the final model in its place, so that scores have the size of its outputs.
        "own": the whole gradient at each checkpoint.  "unit": the same, with each query's scores
        at each checkpoint divided by their length.
    damping_factor : float, default=1.0
        Factor on the damping that the attributor chooses by ``damping="auto"`` at each checkpoint.
    retrain : bool, default=False
        Whether to train again, keeping checkpoints, if the model does not have any.
    random_state : int, RandomState instance or None, default=None
        Seed for that training.

    Attributes
    ----------
    task_ : Task
        Snapshot of the model at the end of the (first) run.
    n_checkpoints_ : int
        Checkpoints averaged, of all runs together.
    damping_ : ndarray of shape (n_checkpoints,)
        λ in use at each checkpoint, if the attributor has a damping.
    eigenvalues_ : ndarray
        Eigenvalues of the curvatures at all checkpoints together, if they have any.
    n_train_ : int
    train_rows_ : ndarray of int
        Rows of the training data that the model learned from.

    See Also
    --------
    TracIn : Inner products of gradients, summed over checkpoints with their learning rates.
    SGDInfluence : The derivative of a recorded run, step by step.

    Notes
    -----
    The usual question is what retraining without the row would show, and a retraining is a
    different run with a different end. The mean along the run describes a typical run better than
    the end does, where only few gradients remain. The page "Averages along the run" of the guide
    shows the measurements.

    ``∂f/∂z`` changes along a run: that of a loss, ``1 - p``, is largest when the model knows least,
    so a plain mean of loss scores (``slopes="own"``) weights the checkpoints wrongly. One slope for
    all of them keeps their weights equal.  The slope at the end belongs to a model that has fitted
    more than a retrained one: there, the error of a regressor may have the other sign. Mean
    directions along the run are typical.

    Only the last checkpoint can cause a warning about stationarity.

    Cost: that of the attributor, for each checkpoint, in time and memory; and one forward pass of
    the queries more through each.

    References
    ----------
    .. [1] G. Pruthi, F. Liu, M. Sundararajan, S. Kale. Estimating training data influence by
       tracing gradient descent. NeurIPS 2020, arXiv 2002.08484.
    .. [2] J. Bae, W. Lin, J. Lorraine, R. Grosse. Training data attribution via approximate
       unrolled differentiation. NeurIPS 2024, arXiv 2405.12186.
    .. [3] Influence functions as the limit of unrolling in distribution. 2025, arXiv 2506.12965.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from sklearn.datasets import load_iris
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from influencekit import RunAverage
    >>> import warnings
    >>> from influencekit.exceptions import NotStationaryWarning
    >>> from influencekit.training import KeepCheckpoints
    >>> X, y = load_iris(return_X_y=True)
    >>> X = ((X - X.mean(0)) / X.std(0)).astype(np.float32)
    >>> net = NeuralNetClassifier(nn.Linear, module__in_features=4, module__out_features=3,
    ...     criterion=nn.CrossEntropyLoss, lr=1.0, max_epochs=99, train_split=None, verbose=0,
    ...     batch_size=150, callbacks=[KeepCheckpoints(n=8)]).fit(X, y)
    >>> warnings.simplefilter("ignore", NotStationaryWarning)  # a few epochs, no optimum
    >>> average = RunAverage().fit(net, X, y)
    >>> average.n_checkpoints_, average.score(X[:2], y[:2]).shape
    (8, (2, 150))
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "attributor": [BaseAttributor, None],
        "n_checkpoints": [Interval(Integral, 1, None, closed="left")],
        "checkpoints": [*SOURCES, list, tuple, None],
        "slopes": [StrOptions({"mean", "end", "own", "unit"})],
        "damping_factor": [Interval(Real, 0, None, closed="neither")],
        "retrain": ["boolean"],
        "random_state": ["random_state"],
    }

    fitted_: Sequence[FittedRun]

    def __init__(
        self,
        attributor: Any = None,
        *,
        n_checkpoints: int = 8,
        checkpoints: Any = None,
        slopes: Any = "mean",
        damping_factor: float = 1.0,
        retrain: Any = False,
        random_state: Any = None,
    ):
        self.attributor = InfluenceFunction() if attributor is None else attributor
        self.n_checkpoints = n_checkpoints
        self.checkpoints = checkpoints
        self.slopes = slopes
        self.damping_factor = damping_factor
        self.retrain = retrain
        self.random_state = random_state

    def _read_models(self, model: Any, X: Any, y: Any) -> Task | TaskList:
        self._check_attributor()
        if not isinstance(model, (list, tuple)):
            reject_data_as_model(self, model, X)
        seed = draw_seed(self.random_state) if self.retrain else None
        return read_runs(model, X, y, given=self.checkpoints, n=self.n_checkpoints, rerun_seed=seed)

    def _check_attributor(self) -> None:
        """Refuse attributors that do not explain one model and its rows."""
        held, name = self.attributor, type(self.attributor).__name__
        if held._grouped is not None:
            raise ValueError(
                "attributor: got one that scores groups; accepted is an attributor of single "
                "examples. Put the groups around the average: GroupAttributor(RunAverage())."
            )
        if held._asks_queries:
            raise ValueError(
                f"attributor: {name} needs examples beyond the training data, which RunAverage "
                f"does not pass on. Put it around the average: {name}(RunAverage())."
            )
        if isinstance(held, (TrajectoryInfluence, RunAverage)):
            raise ValueError(
                f"attributor: {name} follows the run itself; accepted are attributors of a single "
                f"model, such as InfluenceFunction()."
            )

    def _fit(self, task: Any, train: Examples) -> Fitted:
        run: RunTask = task
        checkpoints = run.checkpoints
        taken = [checkpoints[i] for i in even_positions(len(checkpoints), self.n_checkpoints)]
        members = (
            seeded_copies(self.attributor, len(taken))
            if len(taken) > 1
            else [clone(self.attributor)]
        )
        told: dict[type[Warning], str] = {}
        for member, checkpoint in zip(members, taken, strict=True):
            with collected_warnings() as found:
                member.fit(checkpoint, train)
            told.pop(NotStationaryWarning, None)  # only the last checkpoint should be near the end
            told |= {category: message for message, category in found}
        for category, message in told.items():
            warn_user(message, category)
        return FittedRun(task, taken, train, members, self.slopes, self.damping_factor)

    @property
    def n_checkpoints_(self) -> int:
        """Checkpoints averaged, of all runs together."""
        return sum(len(fitted.parts) for fitted in self.fitted_)

    @property
    def damping_(self) -> np.ndarray:
        """λ in use at each checkpoint."""
        return np.concatenate([fitted.damping for fitted in self.fitted_])

    @property
    def eigenvalues_(self) -> np.ndarray:
        """Eigenvalues of the curvatures at all checkpoints together."""
        found = [fitted.eigenvalues for fitted in self.fitted_]
        known = [values for values in found if values is not None]
        if len(known) < len(found):
            raise AttributeError("eigenvalues_: the curvature does not have eigenvalues.")
        return np.sort(np.concatenate(known))

    @available_if(_has_damping)
    @with_gradients
    def set_damping(self, damping: float | str) -> Self:
        """Change the damping of a fitted average; nothing else of the fit depends on it.

        Parameters
        ----------
        damping : float or str
            One λ for all checkpoints, or a name that the attributor's ``damping`` accepts:
            "auto" is each checkpoint's own.

        Returns
        -------
        self : object
        """
        check_is_fitted(self, "fitted_")
        changed = clone(self.attributor).set_params(damping=damping)
        validate_parameters(changed)
        self.fitted_ = [fitted.at(damping) for fitted in self.fitted_]
        self.attributor = changed
        return self

    @available_if(_has_path)
    @with_gradients
    def damping_path(self, X: Any, y: Any = None) -> DampingPath:
        """Scores, surrogate indicator and subset sums of test examples at any damping.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None

        Returns
        -------
        DampingPath
            Mean over the checkpoints, at one damping for all, or an array with one for each:
            ``path.scores(average.damping_)`` are the scores.
        """
        triples = zip(self.fitted_, self._rows, each(self._queries(X, y)), strict=True)
        paths, rows = [], []
        for fitted, own, queries in triples:
            paths += fitted.paths(queries)
            rows += [own] * len(fitted.parts)
        return MeanPath(paths, rows, self.train_rows_)
