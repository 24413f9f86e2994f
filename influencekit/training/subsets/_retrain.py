"""Retraining a model on subsets of its training rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.pipeline import Pipeline

from influencekit.data._inputs import check_sample_weight
from influencekit.data._not_taken import same_columns
from influencekit.data._targets import one_column
from influencekit.models._estimator_outputs import asked_as_it_is, check_output
from influencekit.training._diverged import DivergedRuns, warn_kept
from influencekit.training._randomness import draw_seeds, spawn_generators
from influencekit.training.estimator._recipe import Recipe, match_net_dtype, read_recipe
from influencekit.training.estimator._rows import count_rows, dataset_of, yields_targets
from influencekit.training.subsets._checks import (
    check_arguments,
    check_classes,
    check_data,
    check_queries,
    warn_of_unused,
)
from influencekit.training.subsets._engines import Job, evaluate_runs
from influencekit.training.subsets._recorded_run import check_record
from influencekit.training.subsets._subset_outputs import SubsetOutputs, check_masks, draw_masks
from influencekit.training.subsets._subset_runs import with_states
from influencekit.utils._random import draw_seed
from influencekit.utils._torch import with_gradients

__all__ = ["Retraining", "retrain_on_subsets"]


@with_gradients
def retrain_on_subsets(
    model: Any,
    X: Any,
    y: Any,
    X_query: Any,
    y_query: Any = None,
    *,
    n_subsets: int = 50,
    subset_fraction: float = 0.5,
    masks: Any = None,
    sample_weight: Any = None,
    X_fit: Any = None,
    n_repeats: int = 1,
    output: str | Callable = "neg_loss",
    engine: str = "auto",
    refit_transformers: bool = False,
    retrain: str | Callable = "auto",
    record: str | None = None,
    on_nan: str = "raise",
    cache_dir: str | os.PathLike | None = None,
    n_jobs: int | None = None,
    random_state: Any = None,
    verbose: int = 0,
) -> SubsetOutputs:
    """Retrain a model on random subsets of its training rows and evaluate it at queries.

    The outputs are the ground truth of the linear datamodeling score.

    Parameters
    ----------
    model : estimator
        Any scikit-learn estimator, also one without gradients (forests, boosting, SVC, and
        those of XGBoost, LightGBM and CatBoost), a skorch net, a Pipeline, a fitted search (its
        ``best_estimator_`` counts) or a FrozenEstimator.  It is cloned, never changed.
    X, y : array-like of shape (n_train, ...) and (n_train,)
        All training rows. Subsets are drawn from all of them, even if the model's own
        ``train_split`` or ``early_stopping`` held rows out: every retraining learns from all rows
        of its subset.
    X_query, y_query : array-like of shape (n_query, ...) and (n_query,)
        Queries at which the retrained models are evaluated. Without ``y_query``, a classifier is
        evaluated at the labels that the given model predicts.
    n_subsets : int, default=50
        Number of subsets; a larger number does not change the first ones.
    subset_fraction : float in (0, 1), default=0.5
        Fraction of the rows in a subset.
    masks : bool array-like of shape (n_subsets, n_train), default=None
        Your own subsets, of any sizes, in place of random ones.
    sample_weight : array-like of shape (n_train,), default=None
        Weights that the model was fitted with; each training uses those of its rows.
    X_fit : array-like of shape (n_train, n_features), default=None
        For a Pipeline whose transformers are kept: the data that its last step was fitted on.
    n_repeats : int, default=1
        Number of trainings of each subset, with different seeds.
    output : {"neg_loss", "margin", "logit", "prediction"} or callable, default="neg_loss"
        Evaluated on the retrained model, higher is better; a callable is
        ``output(outputs, targets) -> (n,)`` on natural outputs.  For models without gradients
        see Notes; there it is ``output(model, X, y) -> (n,)``.
    engine : {"auto", "stacked", "joblib"}, default="auto"
        "stacked" trains many skorch nets at once, each as it would train alone with its seed, up to
        rounding. "joblib" trains one model per worker. "auto" stacks if possible, on a CPU nets of
        up to 200,000 parameters.
    refit_transformers : bool, default=False
        Whether a Pipeline's transformers are fitted again on each subset, rather than kept. Needs
        ``engine="joblib"``.
    retrain : callable, default="auto"
        ``retrain(X_subset, y_subset, seed) -> fitted model``, your own training function in place
        of ``clone(model).fit``. Then ``model`` is not used and may be None.
    record : {"checkpoints", "trajectory"} or None, default=None
        What to keep of the training of a skorch net: nine checkpoints, for
        :class:`~influencekit.RunAverage`, or a :class:`Trajectory`, for
        :class:`~influencekit.SGDInfluence` and :class:`~influencekit.AdamWInfluence`. The result is
        then a :class:`SubsetRuns`. Trainings and outputs do not change.
    on_nan : {"raise", "keep"}, default="raise"
        What to do if a retrained model's outputs are NaN or infinite because its training diverged.
        "raise" stops with an error that names subset, seed and queries, and does not write the
        outputs to ``cache_dir``. "keep" sets these outputs to NaN in the result, with a warning;
        metrics refuse them, see :attr:`SubsetOutputs.diverged`.
    cache_dir : path-like, default=None
        Folder in which finished work is stored, and reused by a later call with the same data,
        model, output and ``random_state``, even after an error. Pickle is not used.
    n_jobs : int, default=None
        Number of workers, each of which trains a model, or a stack where there are several; see
        :func:`joblib.parallel_config` for backends (loky, threading, dask). torch and numpy have
        one global random state per process, so the threading backend trains nets one at a time.
    random_state : int, RandomState or None, default=None
        Seed for drawing subsets and seeds.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    SubsetOutputs
        A :class:`SubsetRuns` with ``record``.

    Raises
    ------
    ValueError
        If an argument is not among those accepted, engine="stacked" cannot train this
        model, or a training diverged; the message says why.
    UnsupportedModelError
        If the model cannot be retrained.

    Warns
    -----
    InfluenceKitWarning
        If outputs are not finite and ``on_nan="keep"``.

    Notes
    -----
    One training is ``torch.manual_seed(seed); clone(net).set_params(train_split=None).fit(...)``;
    every ``random_state`` inside a scikit-learn estimator is set to the seed.  The random states of
    torch, numpy and Python are not changed.

    A model without gradients is asked by its own methods.  "neg_loss" is the logarithm of the
    label's probability by ``predict_proba``, "margin" that of its odds.  Logarithms are taken of
    half a vote at least, where probabilities are shares of votes (forests, neighbors, bagging of
    these), else of the resolution of the numbers, as :func:`sklearn.metrics.log_loss` does.  A
    class that a subset misses has probability 0.  Without probabilities (SVC) "margin" is the
    decision for the label minus the highest other one, for two classes the decision itself, and
    "neg_loss" is minus :func:`sklearn.metrics.hinge_loss`; without decisions it is minus the
    0/1 error.  For regressors "neg_loss" is minus the squared error, for boosted trees half of
    it, as their loss is, and "prediction" is what they predict.  ``output(model, X, y)`` gets
    the fitted last step of a Pipeline whose transformers are kept, and transformed rows.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit.training import retrain_on_subsets
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 3))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> truth = retrain_on_subsets(
    ...     LogisticRegression(), X, y, X[:5], y[:5], n_subsets=4, random_state=0
    ... )
    >>> truth
    SubsetOutputs(n_subsets=4, n_repeats=1, n_train=60, n_query=5, output='neg_loss')
    """
    given: dict[str, Any] = {
        "n_subsets": n_subsets,
        "subset_fraction": subset_fraction,
        "masks": masks,
        "n_repeats": n_repeats,
        "engine": engine,
        "refit_transformers": refit_transformers,
        "retrain": retrain,
        "on_nan": on_nan,
        "cache_dir": cache_dir,
        "n_jobs": n_jobs,
        "random_state": random_state,
        "verbose": verbose,
    }
    check_arguments(given)
    X, X_query = dataset_of(X), dataset_of(X_query)
    y, y_query = one_column(y), one_column(y_query)
    n_train = count_rows(X)
    check_data(X, y, X_query, y_query)
    same_columns(X_query, X, model, "X_query")
    if masks is not None:
        masks = check_masks(masks, n_train)
        n_subsets = len(masks)
    entropy = draw_seed(random_state)
    generators = spawn_generators(entropy, n_subsets)
    if masks is None:
        masks = draw_masks(generators, n_train, subset_fraction)
    seeds = np.stack([draw_seeds(generator, n_repeats) for generator in generators])

    if (
        y_query is None
        and not yields_targets(X_query)
        and hasattr(model, "fit")
        and hasattr(model, "predict")
        and is_classifier(model)
    ):
        y_query = model.predict(X_query)
    own_training = retrain if callable(retrain) else None
    if own_training and sample_weight is not None:
        raise ValueError(
            "sample_weight: it is not passed to your own training function, retrain=. Weight rows "
            "inside that function, or leave retrain out."
        )
    recipe = Recipe(None, []) if own_training else read_recipe(model, refit_transformers)
    is_pipeline = isinstance(model, Pipeline)
    warn_of_unused(given, is_pipeline)
    if X_fit is not None and not is_pipeline:
        raise ValueError(
            f"X_fit: {type(model).__name__} is not a Pipeline, so it is fitted on X itself. Leave "
            "X_fit out."
        )
    job = Job(
        None if own_training else clone(recipe.estimator),  # a fitted net cannot go to workers
        own_training,
        recipe.of_training_rows(X, y)
        if X_fit is None
        else match_net_dtype(X_fit, recipe.estimator),
        match_net_dtype(y, recipe.estimator),
        recipe.transform(X_query),
        y_query,
        output,
        None if sample_weight is None else check_sample_weight(sample_weight, n_train),
        record,
    )
    check_record(job.estimator, record)
    if own_training is None:
        if asked_as_it_is(recipe.estimator, output):
            check_queries(job)
        has_targets = y_query is not None or yields_targets(X_query)
        check_output(recipe.estimator, output, has_targets)
        check_classes(recipe.estimator, masks, y, y_query, output)
    rows = [np.flatnonzero(mask) for mask in masks]
    runs = [(rows[s], int(seed)) for s in range(n_subsets) for seed in seeds[s]]
    outputs, states = evaluate_runs(
        job, runs, engine, cache_dir, n_jobs, verbose, on_nan, n_repeats
    )
    outputs = outputs.reshape(n_subsets, n_repeats, -1)
    name = output if isinstance(output, str) else getattr(output, "__name__", repr(output))
    truth = SubsetOutputs(masks, outputs, seeds, name)
    truth = truth if record is None else with_states(truth, states)
    bad = [f"subset {s} under seed {seeds[s, r]}" for s, r in np.argwhere(truth.diverged)]
    warn_kept(bad, seeds.size)
    return truth


@dataclass(frozen=True)
class Retraining:
    """How models are retrained without some rows; see :func:`retrain_on_subsets`."""

    n_repeats: int
    engine: str
    cache_dir: str | os.PathLike | None
    n_jobs: int | None
    on_nan: str
    random_state: Any
    verbose: int
    sample_weight: Any = None
    X_fit: Any = None

    def outputs(
        self, model: Any, data: tuple, masks: np.ndarray, names: Sequence[str], output: Any
    ) -> np.ndarray:
        """Outputs (n_subsets, n_repeats, n_query) of models retrained on subsets with names.

        Parameters
        ----------
        model : estimator
        data : tuple of X, y, X_query and y_query
        masks : ndarray of bool of shape (n_subsets, n_train)
        names : sequence of str
            Name of every subset, such as ``"without group 'a'"``, for errors.
        output : str or callable

        Returns
        -------
        ndarray of shape (n_subsets, n_repeats, n_query)

        Raises
        ------
        DivergedRuns
        """
        try:
            return retrain_on_subsets(
                model, *data, masks=masks, output=output, **vars(self)
            ).outputs
        except DivergedRuns as error:
            raise DivergedRuns(error.runs, error.n_query, names, error.kept) from None
