"""Scores that learn from retrained outputs, with another attributor's scores as their prior."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from influencekit._fitted import Fitted
from influencekit.attributors.along_the_run._run_average import RunAverage
from influencekit.attributors.posterior._known_queries import (
    KnownQueries,
    check_subset_outputs,
    open_queries,
)
from influencekit.attributors.posterior._learned import LDS_FROM, Learned, learn, prior_only
from influencekit.attributors.posterior._self_reported import lds_difference
from influencekit.attributors.posterior._sweeps import Sweeps, check_factors, check_runs, sweep_runs
from influencekit.attributors.posterior._trainings import blocks, joined, predictions_of
from influencekit.base import BaseAttributor
from influencekit.data._examples import Examples, ExamplesList, each
from influencekit.models._outputs import OUTPUTS
from influencekit.models._plain_task import plain_task
from influencekit.models._task import Task, TaskList, is_model_list
from influencekit.training.subsets._retrain import retrain_on_subsets
from influencekit.training.subsets._subset_outputs import SubsetOutputs, warn_of_settings
from influencekit.training.subsets._subset_runs import SubsetRuns
from influencekit.utils._random import draw_seed
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import Interval, StrOptions

__all__ = ["SubsetPosterior"]


class SubsetPosterior(BaseAttributor):
    """Posterior of scores, given the outputs of models retrained on subsets.

    For each query the outputs of M trainings are ``y = μ + c Zτ + Zb + e`` with the centered masks
    Z, the prior's scores τ, ``b ~ N(0, ρσ²D)`` and ``e ~ N(0, σ²)``; the scores are the posterior
    mean of ``cτ + b``, ``c τ + ρ D Zᵀ V⁻¹ (y - μ - c Zτ)`` with ``V = I + ρ Z D Zᵀ``.

    Parameters
    ----------
    prior : attributor, "run_average" or None, default="run_average"
        Attributor whose scores are the prior mean, up to the slope c; "run_average" is
        ``RunAverage()``. None sets the prior mean to 0: a linear datamodel, with regularization
        estimated from the outputs.
    n_trainings : int or "auto", default=20
        Number of trainings on random subsets; 0 returns the prior's scores unchanged. "auto" trains
        20 at a time until ``target_lds``, ``target_std_error`` or ``max_trainings`` is reached.
    subset_fraction : float in (0, 1), default=0.5
        Share of the rows in a subset.
    scores : {"prior", "sweep"}, default="prior"
        With "sweep", the trainings on subsets are recorded, and scores of all rows along each of
        them (``SGDInfluence(rows="all")``, ``AdamWInfluence(rows="all")``) join the prior's scores,
        which count as five of them. For skorch nets.
    slope : {"auto", "shared", "own"}, default="auto"
        One slope c for all queries ("shared"), or one for each ("own"); "auto" shares it below 50
        trainings.
    damping_factors : array-like of float, default=(0.3, 1.0, 3.0)
        Multiples of the prior's damping to choose from, if it has a damping path.
    cv : int, default=5
        Number of folds of the trainings for the self-reported LDS.
    target_lds, target_std_error : float or None, default=None and 0.04
        Self-reported LDS, and standard error of it, at which ``n_trainings="auto"`` stops.
    max_trainings : int, default=200
        Number of trainings at which ``n_trainings="auto"`` stops.
    output : {"auto", "neg_loss", "margin", "logit", "prediction"} or callable, default="auto"
        Output of the retrained models; "auto" is the output that the prior explains.
    cache_dir : path-like, default=None
        Folder in which trainings are stored and reused; see
        :func:`~influencekit.retrain_on_subsets`.
    n_jobs : int, default=None
        Number of parallel trainings.
    random_state : int, RandomState instance or None, default=None
        Seed for subsets, trainings, folds and bootstrap.
    verbose : int, default=0
        1 shows progress over trainings.

    Attributes
    ----------
    prior_ : attributor or None
        The fitted prior.
    subset_outputs_ : SubsetOutputs or None
        The outputs that the scores learned from.
    slope_ : ndarray of shape (n_query,)
        Slope on the prior's scores: 1 if they have the size of effects on retrained models.
    noise_ratio_ : float
        ρ, the prior variance of a row's score over the variance of the noise.
    damping_factor_ : float
        Chosen factor on the prior's damping.
    cross_validated_lds_ : float
        Estimate of the LDS of these scores, against *one* training for each subset, by
        cross-validation over trainings; against means of several trainings it is higher. NaN below
        20 trainings.
    cross_validated_lds_std_error_ : float
        Its standard error, by a bootstrap over trainings and queries.
    predictions_ : ndarray of shape (n_trainings, n_query) or None
        Sums of scores over each training's rows, learned without it.
    task_ : Task
    n_train_ : int
    train_rows_ : ndarray of int

    See Also
    --------
    RunAverage : The default prior.
    LDSSearch : Uses such outputs only to choose parameters of an attributor.

    Notes
    -----
    ρ, D (equal for all rows, or mixed with the mean square or the mean absolute value of the
    prior's scores) and the factor on the prior's damping maximize the restricted likelihood, summed
    over the queries. With few trainings, a separate slope for each query was measured to do harm.

    Scores are known only for the queries given to ``fit``: ``score`` takes some or all of them, in
    any order. Without ``y``, the targets of ``y_query`` are used.

    A sweep is the derivative of the outputs through one recorded training on a subset. For each row
    half of the weight is on the trainings with it, half on those without, each at length 1 for each
    query; from 50 trainings on, the largest and the smallest fifth are left out.

    Cost: the prior's, one training for each subset, and an eigendecomposition of n_trainings
    dimensions for each candidate prior. A sweep costs about as much as n_query trainings.

    References
    ----------
    .. [1] A. Ilyas, S. M. Park, L. Engstrom, G. Leclerc, A. Madry. Datamodels: predicting
       predictions from training data. ICML 2022, arXiv 2202.00622.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import SubsetPosterior
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X[::2], y[::2])
    >>> posterior = SubsetPosterior(n_trainings=20, random_state=0)
    >>> posterior = posterior.fit(model, X[::2], y[::2], X_query=X[1::10], y_query=y[1::10])
    >>> posterior.score(X[1::10], y[1::10]).shape
    (15, 75)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "prior": [BaseAttributor, StrOptions({"run_average"}), None],
        "n_trainings": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "scores": [StrOptions({"prior", "sweep"})],
        "target_lds": [Interval(Real, 0, 1, closed="both"), None],
        "target_std_error": [Interval(Real, 0, None, closed="neither"), None],
        "max_trainings": [Interval(Integral, 3, None, closed="left")],
        "subset_fraction": [Interval(Real, 0, 1, closed="neither")],
        "slope": [StrOptions({"auto", "shared", "own"})],
        "damping_factors": ["array-like"],
        "output": [StrOptions(set(OUTPUTS)), callable],
        "cv": [Interval(Integral, 2, None, closed="left")],
        "cache_dir": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        prior: Any = "run_average",
        *,
        n_trainings: Any = 20,
        subset_fraction: float = 0.5,
        scores: str = "prior",
        slope: str = "auto",
        damping_factors: Any = (0.3, 1.0, 3.0),
        cv: Any = 5,
        target_lds: float | None = None,
        target_std_error: float | None = 0.04,
        max_trainings: int = 200,
        output: str | Callable = "auto",
        cache_dir: str | os.PathLike | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.prior = prior
        self.n_trainings = n_trainings
        self.subset_fraction = subset_fraction
        self.scores = scores
        self.slope = slope
        self.damping_factors = damping_factors
        self.cv = cv
        self.target_lds = target_lds
        self.target_std_error = target_std_error
        self.max_trainings = max_trainings
        self.output = output
        self.cache_dir = cache_dir
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @with_gradients
    def fit(
        self,
        model: Any,
        X: Any,
        y: Any = None,
        *,
        X_query: Any = None,
        y_query: Any = None,
        subset_outputs: SubsetOutputs | None = None,
        sample_weight: Any = None,
        X_fit: Any = None,
    ) -> Self:
        """Fit the prior, retrain on subsets, and combine both.

        Parameters
        ----------
        model : fitted model, Task, or list of them
            As the prior accepts it. Of several models, the first one is retrained.
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_train examples
            The data that the model was trained on.
        y : array-like of shape (n_train,) or (n_train, n_outputs), default=None
        X_query : array-like, DataFrame, Tensor, Dataset or DataLoader
            The test examples whose scores are wanted.
        y_query : array-like, default=None
            Targets of the queries, at which the retrained models are evaluated.
        subset_outputs : SubsetOutputs or None, default=None
            Outputs of earlier trainings on the same data and queries; then nothing is trained. With
            ``scores="sweep"``, a :class:`~influencekit.training.SubsetRuns` with trajectories.
        sample_weight : array-like of shape (n_train,), default=None
            The weights that the model was fitted with; each retraining uses those of its rows.
        X_fit : array-like of shape (n_train, n_features), default=None
            For a Pipeline only: the data that its last step was fitted on.

        Returns
        -------
        self : object
        """
        models, train = self._open(model, X, y, sample_weight, X_fit)
        self._check(subset_outputs)
        queries = open_queries(models, X_query, y_query)
        rng = check_random_state(self.random_state)
        seed = draw_seed(rng)
        prior = self._prior()
        self.prior_ = None if prior is None else clone(prior).fit(models, train)
        priors = None if prior is None else self._prior_scores(self.prior_, queries)
        first = model[0] if is_model_list(model) else model
        data = X, y, X_query, y_query
        weights = {"sample_weight": sample_weight, "X_fit": X_fit}
        parts: Iterable[SubsetOutputs] = [] if subset_outputs is None else [subset_outputs]
        if subset_outputs is None and self.n_trainings:
            retrain = partial(self._retrain, first, data, weights)
            parts = blocks(retrain, self.n_trainings, self.max_trainings, seed)
        learned = self._learn(priors, parts, first, train, queries, rng)
        self._keep([KnownQueries(each(queries)[0], learned.scores)], [np.arange(self.n_train_)])
        return self

    def lds_difference(self, other: Any) -> tuple[float, float]:
        """How far the LDS of these scores is above that of others, by the same trainings.

        Parameters
        ----------
        other : fitted SubsetPosterior, or array-like of shape (n_query, n_train)
            A posterior that learned from the same ``subset_outputs_``, or the scores of any other
            attributor for the same queries.

        Returns
        -------
        difference : float
            Positive if these scores are ahead.
        std_error : float
            Its standard error by a bootstrap over trainings and queries. It is paired: both are
            compared on the same ones.

        Raises
        ------
        ValueError
            Below 20 trainings, or if the trainings or shapes are not the same.
        """
        check_is_fitted(self, "fitted_")
        outputs, own = self.subset_outputs_, self.predictions_
        if outputs is None or own is None:
            raise ValueError(
                f"n_trainings: an LDS needs {LDS_FROM} trainings or more; fit again with more."
            )
        rng = np.random.RandomState(0)
        others = predictions_of(other, outputs, own.shape[1])
        return lds_difference(own, others, outputs.mean_outputs(), rng)

    def _fit(self, _task: Task, _train: Examples) -> Fitted:
        raise TypeError("SubsetPosterior fits its prior and learns from trainings on subsets.")

    def _prior(self) -> BaseAttributor | None:
        return RunAverage() if isinstance(self.prior, str) else self.prior

    def _task_of(self, model: Any) -> Task:
        return plain_task(model, categories=True)

    def _read_models(self, model: Any, X: Any, y: Any) -> Task | TaskList:
        prior = self._prior()
        reader: Any = super() if prior is None else prior
        return reader._read_models(model, X, y)

    @property
    def _asks_queries(self) -> bool:
        return True

    def _check(self, subset_outputs: SubsetOutputs | None) -> None:
        """Refuse invalid arguments before any work is done."""
        check_factors(self.damping_factors)
        prior = self._prior()
        if prior is not None and (prior._grouped is not None or prior._asks_queries):
            raise ValueError(
                f"prior: got {type(prior).__name__}, which scores groups or is measured on other "
                "examples; accepted is an attributor of single examples, such as RunAverage()."
            )
        if subset_outputs is None:
            if self.n_trainings in (1, 2) or (prior is None and not self.n_trainings):
                raise ValueError(
                    f"n_trainings: got {self.n_trainings}; accepted are 3 or more, or 0 to use "
                    f"the prior alone (then prior must not be None)."
                )
        else:
            check_subset_outputs(subset_outputs)
            warn_of_settings(self, subset_outputs)
            if self.scores == "sweep":
                check_runs(subset_outputs)

    def _prior_scores(self, prior: Any, queries: Any) -> dict[float, np.ndarray]:
        """Scores of the queries by a fitted prior, at each factor on its damping."""
        if not hasattr(prior, "damping_path"):
            return {1.0: prior.score(queries)}
        path, own, found = prior.damping_path(queries), np.asarray(prior.damping_), {}
        for factor in np.atleast_1d(np.asarray(self.damping_factors, dtype=float)):
            scores = np.zeros((queries.n_examples, self.n_train_))
            damping = own * factor
            scores[:, prior.train_rows_] = path.scores(damping if own.ndim else float(damping))
            found[float(factor)] = scores
        return found

    def _retrain(
        self, model: Any, data: tuple, weights: dict[str, Any], n_trainings: int, seed: int
    ) -> SubsetOutputs:
        return retrain_on_subsets(
            model,
            *data,
            **weights,
            n_subsets=n_trainings,
            subset_fraction=self.subset_fraction,
            output=self._explained(),
            record="trajectory" if self.scores == "sweep" else None,
            cache_dir=self.cache_dir,
            n_jobs=self.n_jobs,
            random_state=seed,
            verbose=self.verbose,
        )

    def _explained(self) -> Any:
        """The output at which retrained models are evaluated."""
        prior = self._prior()
        if self.output != "auto" or prior is None:
            return "neg_loss" if self.output == "auto" else self.output
        params = prior.get_params(deep=True)
        names = sorted((n for n in params if n.split("__")[-1] == "output"), key=len)
        found = params[names[0]] if names else "auto"
        return "neg_loss" if found == "auto" else found

    def _learn(
        self,
        priors: Any,
        parts: Iterable[SubsetOutputs],
        model: Any,
        train: Any,
        queries: Any,
        rng: np.random.RandomState,
    ) -> Learned:
        """Learn from trainings, block after block, until it is enough; sets the results."""
        known: SubsetOutputs | None = None
        sweeps: Sweeps | None = None
        learned = None
        for part in parts:
            known = joined(known, part)
            if isinstance(part, SubsetRuns) and self.scores == "sweep":
                found = sweep_runs(model, part, train, queries, self._explained(), self.verbose)
                sweeps = found if sweeps is None else sweeps.joined(found)
            learned = learn(priors, known, sweeps, self.slope, self.cv, rng)
            if learned.reaches(self.target_lds, self.target_std_error):
                break
        learned = prior_only(priors) if learned is None else learned
        self.subset_outputs_, self.predictions_ = known, learned.predictions
        self.slope_, self.noise_ratio_ = learned.slopes, learned.noise_ratio
        self.damping_factor_ = learned.factor
        self.cross_validated_lds_ = learned.lds
        self.cross_validated_lds_std_error_ = learned.std_error
        return learned

    def _all_scores(self, queries: Examples | ExamplesList) -> np.ndarray:
        return self.fitted_[0].scores(each(queries)[0])
