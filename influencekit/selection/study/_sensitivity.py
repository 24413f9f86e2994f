"""How much an attributor's LDS depends on its hyperparameters."""

from __future__ import annotations

import os
from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar, Self

import joblib
import numpy as np
import sklearn
import torch
from sklearn.base import clone

from influencekit._version import __version__
from influencekit.base import BaseAttributor
from influencekit.damping._grid import damping_name
from influencekit.data._examples import open_examples
from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.metrics._lds import PreparedOutputs
from influencekit.selection._attributor_search import seeded_clone
from influencekit.selection._ground_truth import check_ground_truth, check_subset_outputs
from influencekit.selection.study._study_cells import (
    N_FACTS,
    CellJob,
    CellResult,
    Problem,
    run_group,
    unpack,
)
from influencekit.selection.study._study_grid import Cell, Entry, read_attributors, same_value
from influencekit.selection.study._study_models import StudyModels, data_fingerprint
from influencekit.selection.study._study_tables import (
    CALLER,
    best_rows,
    results_table,
    sensitivity_table,
)
from influencekit.training._cache import OutputCache
from influencekit.training._fingerprint import fingerprint
from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.utils._long_work import progress
from influencekit.utils._optional import import_optional
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import StrOptions, SuggestingEstimator, validate_parameters

__all__ = ["SensitivityStudy"]


class SensitivityStudy(SuggestingEstimator):
    """Linear datamodeling score (LDS) of attributors over grids of their hyperparameters.

    Every cell of every grid is scored against one ground truth.  Cells that differ in the
    damping, or in the number of models, share one fit.  A cell that fails becomes a row
    without a score, with the text of the error.

    Parameters
    ----------
    attributors : attributor, pair (attributor, grid), list of them, or dict from name to them
        A grid is a dict from parameter (``a__b`` for nested ones) to a list of values, or a
        list of such dicts, as in scikit-learn's ParameterGrid.  Two axes are not parameters.
        ``"checkpoint"`` has labels of checkpoints; "final" is the model given to ``fit``, and
        tuples of labels are for attributors that take several checkpoints (TracIn). ``"n_models"``
        is how many of the models given to ``fit`` are used, starting with the first. A
        GroupAttributor's damping is ``attributor__damping``; with ``curvature="groups"`` or
        ``reduce="mean"`` the ground truth's subsets must hold whole groups.
    training_epochs : list of int or None, default=None
        Checkpoints at the end of these epochs (0 is the untrained net), labeled by epoch. They come
        from the net's own KeepCheckpoints callback, or else from one training of a clone of each
        net. All are scored against the ground truth of the fully trained model.
    correlation : {"spearman", "pearson"}, default="spearman"
    cache_dir : str, path or None, default=None
        Folder in which finished cells are saved as they come, and reused by a later call with the
        same data, models, ground truth and parameters. Workers need access to it. Cells that failed
        are tried again. Pickle is not used.
    n_jobs : int or None, default=None
        Number of parallel fits; see :func:`joblib.parallel_config` for backends.
    random_state : int, RandomState instance or None, default=None
        Seed for every attributor with ``random_state=None``, and for ``training_epochs``. Needed
        with ``cache_dir``.
    verbose : int, default=0
        1 shows progress over fits.

    Attributes
    ----------
    results_ : DataFrame
        One row for each cell: ``attributor``; a column for each axis, with the grid's value, or the
        attributor's own value if only another of its grids has the axis, or NaN if none has;
        ``lds``, its standard error ``lds_se``, ``n_undefined`` queries left out; ``damping_`` in
        use (the mean of several models'); ``xi``, the mean surrogate indicator over the queries, if
        there is a damping path with one damping; ``default``, whether all of the cell's values are
        the attributor's own; ``seconds``, with the shared fit divided equally; ``error``, empty if
        there was none.
    per_query_ : ndarray of shape (n_cells, n_query)
        Correlation of each query, in the order of ``results_``; for paired comparisons.
    best_ : DataFrame
        Row of ``results_`` with the highest LDS of each attributor, under its name.
    best_params_ : dict of str to dict
        Values of the axes in those rows.
    sensitivity_ : DataFrame
        A row for each attributor and axis with at least two values, see Notes.
    axes_ : dict of str to list
        Axes of each attributor.
    defaults_ : dict of str to dict
        The attributor's own value on each of its axes.
    noise_ceiling_ : float or None
        Highest attainable LDS; None if the ground truth has only one repeat.

    Raises
    ------
    ImportError
        If pandas is not installed.

    See Also
    --------
    influencekit.displays.SensitivityDisplay : Draws the results.
    LDSSearch : Finds good parameters without trying all of them.

    Notes
    -----
    ``lds_se`` is the standard deviation over queries divided by the square root of their number.
    All cells share queries and subsets: it measures variation over queries, not over subsets or
    retrainings. The error of a difference between cells is smaller than it suggests (use
    differences of ``per_query_``).

    ``sensitivity_``, for one attributor and axis: a line is a set of cells that differ only in this
    axis. Lines with fewer values than others are left out (they come from grids that vary something
    else). ``range`` is the highest minus the lowest LDS on the line with the highest LDS, at the
    axis's values ``best`` and ``worst``; ``range_se`` is the paired standard error of this
    difference over queries; ``range_tuned`` is the range over the axis of the highest LDS of all
    lines at each value, that is, with the other axes tuned again; the relative values are divided
    by the highest LDS. Failed cells are ignored. The best cell of a grid is tuned on these queries:
    report its LDS on other queries.

    Cost: one fit for each combination of the axes other than damping and n_models (for each cell,
    if an attributor cannot change its damping after the fit), and for each cell a small product, or
    a score matrix if there is no damping path.

    References
    ----------
    .. [1] W. Wang, J. Deng, Y. Hu, S. Zhang, X. Jiang, R. Zhang, H. Zhao, J. W. Ma. Taming
       hyperparameter sensitivity in data attribution: practical selection without costly
       retraining. NeurIPS 2025, arXiv 2505.24261.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import InfluenceFunction, SensitivityStudy, retrain_on_subsets
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X[::2], y[::2])
    >>> data = X[::2], y[::2], X[1::10], y[1::10]
    >>> truth = retrain_on_subsets(model, *data, n_subsets=8, random_state=0)
    >>> grid = {"damping": ["auto", 1e-3, 1e-1], "projection_dim": [None, 4]}
    >>> study = SensitivityStudy((InfluenceFunction(), grid), random_state=0)
    >>> study = study.fit(model, *data, subset_outputs=truth)
    >>> len(study.results_)
    6
    >>> list(study.sensitivity_["parameter"])
    ['damping', 'projection_dim']
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "attributors": [BaseAttributor, tuple, list, dict],
        "training_epochs": ["array-like", None],
        "correlation": [StrOptions({"spearman", "pearson"})],
        "cache_dir": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        attributors: Any,
        *,
        training_epochs: Any = None,
        correlation: str = "spearman",
        cache_dir: str | os.PathLike | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.attributors = attributors
        self.training_epochs = training_epochs
        self.correlation = correlation
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
        X_query: Any = None,
        y_query: Any = None,
        *,
        subset_outputs: Any,
        checkpoints: Any = None,
        sample_weight: Any = None,
        X_fit: Any = None,
    ) -> Self:
        """Evaluate every cell.

        Parameters
        ----------
        model : fitted model, Task, or list of them
            A list is an ensemble, trained on the same data with different seeds.
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_train examples
            The data that the models were trained on.
        y : array-like of shape (n_train,) or (n_train, n_outputs), default=None
        X_query : array-like, DataFrame, Tensor, Dataset or DataLoader
            Queries that the ground truth was measured on.
        y_query : array-like, default=None
        subset_outputs : SubsetOutputs
            Ground truth, from :func:`influencekit.training.retrain_on_subsets` with the same
            data and queries.
        checkpoints : dict or None, default=None
            Maps labels to a model, a state dict of the model's module, or the path of one; for
            several models, to a list with one for each.
        sample_weight : array-like of shape (n_train,), default=None
            The weights that the models were fitted with, as for ``subset_outputs``.
        X_fit : array-like of shape (n_train, n_features), default=None
            For a Pipeline only: the data that its last step was fitted on.

        Returns
        -------
        self : object
        """
        validate_parameters(self)
        import_optional("pandas", CALLER)
        self._check_seed()
        models = StudyModels(model, X, y, checkpoints, self.training_epochs, self.random_state)
        entries = read_attributors(self.attributors, len(models), models.labels)
        self._check_used(entries, models)
        given = {"sample_weight": sample_weight, "X_fit": X_fit}
        given = {name: value for name, value in given.items() if value is not None}
        cache = self._open(entries, models, (X, y), (X_query, y_query), subset_outputs, given)
        truth = PreparedOutputs(subset_outputs.outputs, self.correlation)
        problem = Problem((X, y), given, (X_query, y_query), subset_outputs.masks, truth, cache)
        results = self._evaluate(entries, models, problem)
        self._summarize(entries, results, truth)
        return self

    def _check_seed(self) -> None:
        if self.cache_dir is not None and self.random_state is None:
            raise ValueError(
                "cache_dir: with random_state=None every call draws other seeds, so nothing "
                "stored could be found again. Set random_state to an int."
            )

    def _check_used(self, entries: list[Entry], models: StudyModels) -> None:
        if models.labels and not any("checkpoint" in entry.axes for entry in entries):
            raise ValueError(
                f"attributors: checkpoints {models.labels} were given, but none of the grids has "
                f"the axis "
                f"'checkpoint'. Add it, for instance {{'checkpoint': {[*models.labels, 'final']}}}."
            )

    def _open(
        self,
        entries: Any,
        models: Any,
        train: Any,
        queries: Any,
        subset_outputs: SubsetOutputs,
        given: dict[str, Any],
    ) -> OutputCache | None:
        """Check data and ground truth; return the cache of this combination."""
        check_subset_outputs(subset_outputs)
        if queries[0] is None:
            raise ValueError("X_query: got None; give the queries of subset_outputs.")
        tasks = models.at("final", len(models))
        opened = open_examples(tasks, *train).weighted(given.get("sample_weight"))
        asked = open_examples(tasks, *queries, require_y=False, name="X_query")
        task = tasks[0] if models.is_list else tasks
        if asked.targets is None and task.problem_type == "classification":
            raise ValueError(
                "y_query: got None; attributors must explain the labels at which the retrained "
                "models were measured. Give the y_query of subset_outputs."
            )
        for entry in entries:
            check_ground_truth(subset_outputs, entry.attributor, task, opened.n_examples, asked)
        if self.cache_dir is None:
            return None
        data = [data_fingerprint(opened), data_fingerprint(asked)]
        versions = __version__, torch.__version__, sklearn.__version__
        truth = subset_outputs.masks, subset_outputs.outputs, self.correlation
        key = fingerprint("sensitivity-1", versions, data, truth, *given.items())
        return OutputCache(self.cache_dir, key, "this cell is computed again")

    def _evaluate(self, entries: Any, models: Any, problem: Problem) -> list[CellResult]:
        """Results of all cells, in order; cells in the cache are not computed again."""
        results: dict[int, CellResult] = {}
        groups: dict[tuple, list[CellJob]] = {}
        n_stored = N_FACTS + problem.truth.shape[0]
        cells = [(entry, cell) for entry in entries for cell in entry.cells]
        seeded = {id(e): seeded_clone(e.attributor, self.random_state) for e in entries}
        for position, (entry, cell) in enumerate(cells):
            attributor = clone(seeded[id(entry)]).set_params(**cell.given)
            checkpoint, n_models = _models_of(cell, len(models))
            key = stored = None
            if problem.cache is not None:
                own = models.key(checkpoint, n_models, problem.train, problem.queries)
                key = fingerprint(attributor, own)
                stored = problem.cache.load(key, (1, n_stored))
            if stored is not None:
                results[position] = unpack(position, stored)
                continue
            job = CellJob(position, attributor, n_models, key)
            groups.setdefault(_group_of(entry, cell, attributor), []).append(job)
        for result in self._run(list(groups.values()), dict(enumerate(cells)), models, problem):
            results[result.position] = result
        return [results[position] for position in range(len(cells))]

    def _run(
        self, groups: Any, cells: Any, models: StudyModels, problem: Any
    ) -> Iterator[CellResult]:
        """Results of the groups as they finish."""

        def calls() -> Iterator[tuple]:
            for jobs in groups:
                checkpoint, _ = _models_of(cells[jobs[0].position][1], len(models))
                tasks = models.at(checkpoint, max(job.n_models for job in jobs))
                splits = models.is_list and not isinstance(checkpoint, tuple)
                yield joblib.delayed(run_group)(jobs, tasks, splits, problem)

        try:
            parallel = joblib.Parallel(n_jobs=self.n_jobs, return_as="generator_unordered")
        except ValueError:  # a backend that cannot stream (multiprocessing)
            parallel = joblib.Parallel(n_jobs=self.n_jobs)
        done = progress(parallel(calls()), "fits", self.verbose, total=len(groups))
        for results in done:
            yield from results

    def _summarize(self, entries: Any, results: list[CellResult], truth: PreparedOutputs) -> None:
        self.results_ = results_table(entries, results, self.correlation)
        self.per_query_ = np.array([result.per_query for result in results])
        lds = self.results_["lds"].to_numpy()
        best = best_rows(entries, lds)
        self.best_ = self.results_.loc[list(best.values())].set_index("attributor")
        cells = [cell for entry in entries for cell in entry.cells]
        self.best_params_ = {name: dict(cells[row].values) for name, row in best.items()}
        self.sensitivity_ = sensitivity_table(entries, self.per_query_, lds)
        self.axes_ = {entry.name: list(entry.axes) for entry in entries}
        self.defaults_ = {entry.name: dict(entry.defaults) for entry in entries}
        self.noise_ceiling_ = truth.noise_ceiling
        failed = self.results_[self.results_["error"] != ""]
        if len(failed):
            warn_user(
                f"{len(failed)} of {len(results)} cells failed and do not have an LDS; the first "
                f"error: {failed['error'].iloc[0]} All errors are in results_['error'].",
                InfluenceKitWarning,
            )


def _models_of(cell: Cell, n_models: int) -> tuple[Any, int]:
    """Checkpoint and number of models of a cell."""
    values = cell.values
    return values.get("checkpoint", "final"), int(values.get("n_models", n_models))


def _group_of(entry: Entry, cell: Cell, attributor: Any) -> tuple[int, int]:
    """Name of the fit that a cell shares: the first cell with the same fit."""
    free = ["n_models"]
    if hasattr(attributor, "set_damping"):
        free.append(str(damping_name(attributor)))
    rest = [axis for axis in entry.axes if axis not in free]
    for i, other in enumerate(entry.cells):
        if all(same_value(cell.values[axis], other.values[axis]) for axis in rest):
            return id(entry), i
    return id(entry), -1
