"""Search of an attributor's parameters by the linear datamodeling score, with Optuna."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from sklearn.base import clone

from influencekit.base import BaseAttributor
from influencekit.damping._grid import damping_name, warn_at_edge
from influencekit.data._examples import open_examples
from influencekit.data._not_taken import same_columns
from influencekit.groups._holders import check_held
from influencekit.metrics._lds import PreparedOutputs
from influencekit.models._task import is_model_list
from influencekit.selection._attributor_search import AttributorSearch, unset_seeds
from influencekit.selection._broken_search import (
    Search,
    begin_search,
    caught_up,
    ending,
    is_new,
    try_first,
)
from influencekit.selection._ground_truth import (
    check_ground_truth,
    draw_whole_groups,
    explained_output,
    finite_subsets,
    kept_together,
)
from influencekit.selection._scorer import FitCache
from influencekit.selection._shared_study import open_study, question, quiet_optuna
from influencekit.selection._space import (
    UNDAMPED,
    check_space,
    distributions,
    draw,
    recorded,
    trial_results,
)
from influencekit.selection._storage import check_storage, study_lock
from influencekit.training._diverged import ON_NAN
from influencekit.training.subsets._retrain import retrain_on_subsets
from influencekit.training.subsets._subset_outputs import SubsetOutputs, warn_of_settings
from influencekit.utils._long_work import progress
from influencekit.utils._random import draw_seed
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import Interval, StrOptions

__all__ = ["LDSSearch"]


class LDSSearch(AttributorSearch):
    """Choose an attributor's parameters by its linear datamodeling score (LDS).

    The model is retrained on random subsets of its training data once; then Optuna searches for the
    parameters whose scores, summed over each subset, best rank the retrained outputs of the
    queries. This is expensive; :class:`SurrogateLambdaSearchCV` works without retraining. The
    search itself is an attributor, with the parameters that it chose.

    Parameters
    ----------
    attributor : attributor
        For a GroupAttributor, the groups are those of its grouper; see Notes.
    search_space : dict or None, default=None
        Maps parameter names (``a__b`` for nested ones) to an Optuna distribution or a list of
        choices. None searches ``damping`` (``attributor__damping`` for a GroupAttributor): 0, and
        the range of the curvature's eigenvalues.
    n_trials : int, default=30
    sampler : optuna sampler or None, default=None
        None is TPE seeded by ``random_state``.
    storage : str, optuna storage or None, default=None
        Storage of the study, such as ``"sqlite:///study.db"``; None is in memory.
    study_name : str or None, default=None
        An existing study with this name in ``storage`` is continued, if it has the same ground
        truth, queries, training data, model, attributor (except for the searched parameters),
        search space and metric; otherwise ``fit`` raises an error.
    n_subsets : int, default=50
    subset_fraction : float in (0, 1), default=0.5
        Fraction of the rows in each subset, or of the groups if subsets keep groups whole.
    n_repeats : int, default=1
        Number of retrainings of each subset, with different seeds.
    retrain : "auto" or callable, default="auto"
        "auto" retrains as the model was trained.  ``retrain(X, y, seed) -> fitted model``
        is needed for bare torch modules.
    correlation : {"spearman", "pearson"}, default="spearman"
    on_nan : {"raise", "keep"}, default="raise"
        What to do if a retrained model's outputs are NaN or infinite because its training diverged.
        "raise" stops with an error that names subset and seed.  "keep" keeps them as NaN in
        ``subset_outputs_`` and searches over the other subsets, with a warning.
    cache_dir : str, path or None, default=None
        Folder in which finished retrainings are saved and reused.
    n_jobs : int or None, default=None
        Number of parallel retrainings with joblib.
    random_state : int, RandomState instance or None, default=None
        Seed for the subsets, the retrainings and the sampler, and for the attributor if its
        ``random_state`` is None; a continued study keeps the seeds of its first search.
    verbose : int, default=0
        1 shows progress.

    Attributes
    ----------
    best_attributor_ : attributor
        Fitted, with the best parameters.
    best_index_ : int
        Row of the best trial in ``cv_results_``.
    best_params_ : dict
    best_score_ : float
        Mean LDS over the queries of the search.  It is tuned on them: report the LDS on
        other queries.
    cv_results_ : dict of ndarrays of shape (n_trials,)
        ``params``, ``param_damping`` and so on, ``mean_test_score`` (mean LDS over the queries),
        ``se_test_score`` (its standard error), ``rank_test_score`` (1 is best); NaN if a trial does
        not have an LDS. A continued study includes its earlier trials.
    study_ : optuna.Study
        For Optuna's own plots: ``optuna.visualization.matplotlib.plot_slice(search.study_)``.
    subset_outputs_ : SubsetOutputs
        The ground truth, which can be used again: ``fit(..., subset_outputs=...)``.
    lds_ : LDSResult
        LDS of the best parameters, per query.

    Notes
    -----
    If a GroupAttributor sums scores of rows, every subset has a sum. With ``curvature="groups"``,
    ``reduce="mean"`` or :class:`FurtherTraining`, a group has one score, so subsets are drawn over
    whole groups; a mean counts once for each row.

    Cost: ``n_subsets · n_repeats`` retrainings, one factorization for each combination of the
    parameters other than the damping, and one small product for each trial.

    References
    ----------
    .. [1] S. M. Park, K. Georgiev, A. Ilyas, G. Leclerc, A. Madry. TRAK: attributing model
       behavior at scale. ICML 2023, arXiv 2303.14186.
    .. [2] T. Akiba, S. Sano, T. Yanase, T. Ohta, M. Koyama. Optuna: a next-generation
       hyperparameter optimization framework. KDD 2019, arXiv 1907.10902.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import InfluenceFunction, LDSSearch
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X[::2], y[::2])
    >>> search = LDSSearch(InfluenceFunction(), n_subsets=10, n_trials=5, random_state=0)
    >>> search = search.fit(model, X[::2], y[::2], X_query=X[1::10], y_query=y[1::10])
    >>> list(search.best_params_)
    ['damping']
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "attributor": [BaseAttributor],
        "search_space": [dict, None],
        "n_trials": [Interval(Integral, 1, None, closed="left")],
        "sampler": [optuna.samplers.BaseSampler, None],
        "storage": [str, optuna.storages.BaseStorage, None],
        "study_name": [str, None],
        "n_subsets": [Interval(Integral, 3, None, closed="left")],
        "subset_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "retrain": [StrOptions({"auto"}), callable],
        "correlation": [StrOptions({"spearman", "pearson"})],
        "on_nan": [StrOptions(set(ON_NAN))],
        "cache_dir": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        attributor: Any,
        search_space: Any = None,
        *,
        n_trials: int = 30,
        sampler: Any = None,
        storage: Any = None,
        study_name: str | None = None,
        n_subsets: int = 50,
        subset_fraction: float = 0.5,
        n_repeats: int = 1,
        retrain: Any = "auto",
        correlation: str = "spearman",
        on_nan: str = "raise",
        cache_dir: str | os.PathLike | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.attributor = attributor
        self.search_space = search_space
        self.n_trials = n_trials
        self.sampler = sampler
        self.storage = storage
        self.study_name = study_name
        self.n_subsets = n_subsets
        self.subset_fraction = subset_fraction
        self.n_repeats = n_repeats
        self.retrain = retrain
        self.correlation = correlation
        self.on_nan = on_nan
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
        """Retrain on subsets, search, and fit the attributor with the best parameters.

        Parameters
        ----------
        model : fitted model, Task, or list of them
            Of several models, the first is retrained.
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_train examples
            The data that the model was trained on.
        y : array-like of shape (n_train,) or (n_train, n_outputs), default=None
        X_query : array-like, DataFrame, Tensor, Dataset or DataLoader
            Examples on which the LDS is measured; not training data.
        y_query : array-like, default=None
        subset_outputs : SubsetOutputs or None, default=None
            Ground truth from an earlier run on the same data and queries; then nothing is
            retrained.
        sample_weight : array-like of shape (n_train,), default=None
            The weights that the model was fitted with; each retraining uses those of its rows.
        X_fit : array-like of shape (n_train, n_features), default=None
            For a Pipeline only: the data that its last step was fitted on, for scores and
            retraining.

        Returns
        -------
        self : object
        """
        task, train = self._open(model, X, y, sample_weight, X_fit)
        check_held(self.attributor, "LDSSearch")
        check_space(self.search_space, self.attributor)
        check_storage(self.storage)
        if X_query is None:
            raise ValueError(
                "X_query: got None; LDSSearch measures the LDS on examples that the model was not "
                "trained on. Give them: fit(model, X, y, X_query=X_val, y_query=y_val)."
            )
        X_query = same_columns(X_query, X, self.task_, "X_query")
        queries = open_examples(task, X_query, y_query, require_y=False, name="X_query")
        if queries.targets is None and self.task_.problem_type == "classification":
            raise ValueError(
                "y_query: got None; retrained models must be compared on the same labels. Give "
                "y_query, for instance model.predict(X_query)."
            )
        seeds = unset_seeds(self.attributor, self.random_state)
        together = kept_together(self.attributor, seeds, self.search_space, task, train)
        if subset_outputs is None:
            first = model[0] if is_model_list(model) else model
            data = (first, X, y, X_query, y_query)
            subset_outputs = self._retrain(data, together, sample_weight, X_fit)
        else:
            warn_of_settings(self, subset_outputs)
        check_ground_truth(subset_outputs, self.attributor, self.task_, self.n_train_, queries)
        if together is not None:
            together._whole_groups(subset_outputs.masks)
        self.subset_outputs_ = subset_outputs
        self._search(task, train, queries, finite_subsets(subset_outputs, self.on_nan), seeds)
        return self

    @property
    def _asks_queries(self) -> bool:
        return True

    def _retrain(self, data: tuple, together: Any, sample_weight: Any, X_fit: Any) -> SubsetOutputs:
        masks, n, share = None, self.n_subsets, self.subset_fraction
        if together is not None:
            masks, share = draw_whole_groups(together, n, share, self.random_state), 0.5
        return retrain_on_subsets(
            *data,
            n_subsets=n,
            subset_fraction=share,
            masks=masks,
            sample_weight=sample_weight,
            X_fit=X_fit,
            n_repeats=self.n_repeats,
            output=explained_output(self.attributor),
            retrain=self.retrain,
            on_nan=self.on_nan,
            cache_dir=self.cache_dir,
            n_jobs=self.n_jobs,
            random_state=self.random_state,
            verbose=self.verbose,
        )

    def _search(
        self, task: Any, train: Any, queries: Any, measured: SubsetOutputs, seeds: Any
    ) -> None:
        truth = PreparedOutputs(measured.outputs, self.correlation)
        space, fits, search = self._open_study(task, train, queries, measured, seeds)

        def objective(trial: optuna.Trial) -> float:
            search.mark(trial)
            return recorded(trial, truth.score(fits.predict(draw(trial, space))))

        n_left = max(0, self.n_trials - len(search.trials(self.study_)))
        bar = progress(None, "trials", self.verbose, total=n_left, unit="trial")
        # until its results are there, a search can be taken over
        with ending(self.study_, search, study_lock(self.storage, self.study_name)):
            with quiet_optuna(), bar:
                self._begin(space, fits, search)
                self.study_.optimize(objective, n_left, callbacks=[lambda *_: bar.update()])
            self._choose(truth, fits, space)

    def _choose(self, truth: PreparedOutputs, fits: FitCache, space: Any) -> None:
        """Read the trials, and fit the attributor with the best parameters."""
        # read once: other processes may be adding trials
        results = trial_results(self.study_.get_trials(deepcopy=False))
        if np.isnan(results["mean_test_score"]).all():
            raise ValueError(
                "The LDS is undefined in every trial: the retrained outputs of every query are "
                "constant, or every query's gradient vanishes. Give other queries in X_query, or "
                "more varied subsets."
            )
        self.cv_results_ = results
        self.best_index_ = int(np.nanargmax(results["mean_test_score"]))
        self.best_params_ = dict(results["params"][self.best_index_])
        self.best_score_ = float(results["mean_test_score"][self.best_index_])
        self._adopt(fits.at(self.best_params_))
        self.lds_ = truth.score(fits.predict(self.best_params_))
        self._warn_at_edge(space)

    def _warn_at_edge(self, space: Any) -> None:
        """Warn if the best damping is within a factor of 2 of the ends of its range."""
        name = damping_name(self.attributor)
        choices = space.get(name)
        if isinstance(choices, FloatDistribution) and choices.log:
            best, low, high = self.best_params_[name], choices.low, choices.high
            best = low if best <= 2 * low else high if best >= high / 2 else best
            warn_at_edge(best if self.best_params_[name] else 0.0, low, high, "a search_space")

    def _open_study(
        self, task: Any, train: Any, queries: Any, truth: SubsetOutputs, seeds: dict[str, int]
    ) -> tuple[dict, FitCache, Search]:
        """Open the study; return the space, the fits that its trials score, and the search."""

        def fits_with(seeds: dict[str, int]) -> FitCache:
            attributor = clone(self.attributor).set_params(**seeds)
            return FitCache(attributor, task, train, queries, truth.masks)

        fits = fits_with(seeds)
        space = distributions(self.search_space, fits)
        asked = {}
        if self.storage is not None:
            given = None if self.search_space is None else space
            asked = question(truth, queries, train, task, self.attributor, given, self.correlation)
        with quiet_optuna():
            opened = open_study(self.storage, self.study_name, self.sampler, asked, seeds)
        self.study_, kept = opened
        if kept != seeds:
            fits = fits_with(kept)
            space = distributions(self.search_space, fits)
        with study_lock(self.storage, self.study_name), quiet_optuna():
            search = begin_search(self.study_)
        return space, fits, search

    def _begin(self, space: Any, fits: Any, search: Search) -> None:
        """Seed the sampler; a new default study starts at the attributor's own damping."""
        study = self.study_
        if self.sampler is None:  # a continued study must not repeat its first trials
            seed = draw_seed(self.random_state)
            study.sampler = optuna.samplers.TPESampler(seed=seed + search.start)
        caught_up(study.sampler, study, search, lambda trial: draw(trial, space))
        if self.search_space is not None or not is_new(study):
            return
        name = fits.damping
        low, high = space[name].low, space[name].high
        damping = float(np.mean(fits.at({}).damping_))
        first: list = [({name: min(max(damping, low), high)}, {})] if damping > 0 else []
        if self.attributor._undamped:
            first.append(({}, {UNDAMPED: name}))
        with study_lock(self.storage, self.study_name):
            try_first(study, first)
