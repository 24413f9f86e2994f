"""An attributor whose training side lives in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from influencekit._fitted import Fitted, check_scores, of_models
from influencekit._top_k import top_frame
from influencekit.base import BaseAttributor
from influencekit.data._examples import Examples, ExamplesList, each
from influencekit.index._build import Plan, read_map
from influencekit.index._build_folder import built, check_held
from influencekit.index._contents import Contents, inner_folder, read_contents
from influencekit.index._coordinates import Coordinates
from influencekit.index._fitted_index import FittedIndex
from influencekit.index._shards import DTYPES
from influencekit.index.files._fingerprints import check_models
from influencekit.index.maps._leading import INDEX_PROJECTIONS
from influencekit.index.recall._approximate import ApproximateIndex
from influencekit.models._task import Task, TaskList
from influencekit.utils._arguments import check_flag, check_path
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import Interval, StrOptions, validate_parameters

__all__ = ["AttributionIndex"]


def _has_damping(index: AttributionIndex) -> bool:
    check_is_fitted(index, "fitted_")
    return index.fitted_[0].coordinates.has_damping


class AttributionIndex(ApproximateIndex):
    """An attributor whose training side lives in a folder, and is queried without the data.

    Every training row becomes a row of numbers in a memory-mapped file; a score is the product of
    a query's numbers with it.  ``fit`` builds the folder, and goes on with one whose build was
    ended; :meth:`open` needs the model and the folder, not the training data.

    Parameters
    ----------
    attributor : attributor
        InfluenceFunction with an exact or projected curvature, "logra", "kfac" or "ekfac"; TRAK;
        GradDot, GradCos or TracIn; RunAverage or a search around them.
    folder : path-like
        Where the index is built. A new folder, an empty one, or one in which a build of the same
        index was ended.
    dtype : {"float32", "float16", "int8"}, default="float32"
        How an entry is stored: 4, 2 or 1 bytes. What that costs is measured, see ``rounding_``.
    shard_rows : int or None, default=None
        Rows of a file; a build that is killed loses one. None is about 64 MB.
    curvature_rows : int or None, default=None
        Rows, evenly spaced, on which the attributor is fitted before all rows are written. None is
        all, which needs the memory that the attributor needs.
    projection_dim : int or None, default=None
        For "kfac", "ekfac", GradDot, GradCos and TracIn: numbers that a gradient is projected to.
        None keeps as many as parameters.
    projection : {"auto", "pca", "rademacher", "gaussian", "factored", "two_sided"}, default="auto"
        Kind of that projection. "pca": the leading directions of 2,000 rows, or of twice as many
        as numbers, which hold ``n_parameters * projection_dim`` numbers. "auto" is that up to
        2**26 of them, if there are twice as many rows as numbers; the other kinds, and "auto"
        beyond, are those of :func:`influencekit.gradients.make_projection`.
    max_memory : int, str or None, default=None
        Bytes that a shard's work may take, or a text such as "2GB"; None makes shards of 64 MiB.
        The attributor has its own.
    n_jobs : int or None, default=None
        Workers that write shards; :func:`joblib.parallel_config` sets their kind: processes
        ("loky"), "threading", or a cluster ("dask") that shares the folder. The bytes are the
        same whoever writes them, and a shard whose worker was killed is written by another.
    random_state : int or None, default=None
        Seed of a random projection.
    verbose : int, default=0
        1 shows progress over shards.

    Attributes
    ----------
    task_ : Task
        Snapshot of the (first) model.
    dim_ : int
        Numbers of a row.
    bytes_per_row_ : float
        Bytes in the files, per row.
    rounding_ : dict
        Scores from stored rows against those from rows in float64, on a sample: "spearman" (mean
        over queries), "least_spearman" and "relative_error"; the same names after ``exact_``
        against the attributor's own scores, which differ where ``projection_dim`` is given here.
    removed_rows_ : ndarray of int
        Rows that were removed and still have their place.
    n_train_ : int
    train_rows_ : ndarray of int
        Rows that count.

    See Also
    --------
    influencekit.index.save : Any fitted attributor in a folder, with its training data.
    influencekit.index.TwoStage : A dearer method on the rows that an index finds.

    Notes
    -----
    Entries are coordinates in the eigenbasis, each times ``(s + λ)^-½``, so that rounding costs
    every direction the same. Each row is stored with its own scale. The scan goes over all rows in
    blocks that depend on the files and the number of queries alone, so that every process and
    thread gets the same bits; they share the pages of the files. ``score`` computes in float32;
    ``top_k`` finds the rows that float64 finds, with their scores in float64.

    Cost: of a build, that of the attributor and one pass more over the gradients; of a query, its
    gradient and ``O(n dim)``.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import InfluenceFunction
    >>> from influencekit.index import AttributionIndex
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index = AttributionIndex(InfluenceFunction(), folder, dtype="float16").fit(model, X, y)
    ...     rows, scores = AttributionIndex.open(folder, model).top_k(X[:2], y[:2], k=3)
    >>> rows.shape, index.rounding_["spearman"] > 0.999
    ((2, 3), True)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "attributor": [BaseAttributor],
        "folder": [str, os.PathLike],
        "dtype": [StrOptions(set(DTYPES))],
        "shard_rows": [Interval(Integral, 1, None, closed="left"), None],
        "curvature_rows": [Interval(Integral, 1, None, closed="left"), None],
        "projection_dim": [Interval(Integral, 1, None, closed="left"), None],
        "projection": [StrOptions({"auto", *INDEX_PROJECTIONS})],
        "max_memory": [Interval(Integral, 1, None, closed="left"), str, None],
        "n_jobs": [Integral, None],
        "random_state": [Integral, None],
        "verbose": ["verbose"],
    }

    fitted_: Sequence[FittedIndex]

    def __init__(
        self,
        attributor: Any,
        folder: str | os.PathLike,
        *,
        dtype: str = "float32",
        shard_rows: int | None = None,
        curvature_rows: int | None = None,
        projection_dim: int | None = None,
        projection: str = "auto",
        max_memory: int | str | None = None,
        n_jobs: int | None = None,
        random_state: int | None = None,
        verbose: int = 0,
    ):
        self.attributor = attributor
        self.folder = folder
        self.dtype = dtype
        self.shard_rows = shard_rows
        self.curvature_rows = curvature_rows
        self.projection_dim = projection_dim
        self.projection = projection
        self.max_memory = max_memory
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @with_gradients
    def fit(
        self, model: Any, X: Any, y: Any = None, *, sample_weight: Any = None, X_fit: Any = None
    ) -> Self:
        """Build the index, or what is missing of it.

        Parameters
        ----------
        model : fitted model, Task, or list of them
        X, y : array-like
            The data given to the model's ``fit``.
        sample_weight, X_fit : array-like, default=None
            As every attributor takes them.

        Returns
        -------
        self : object

        Raises
        ------
        FileExistsError
            If the folder holds something else, such as an index of other data or settings.
        LostWorkersError
            If all workers, or their scheduler, are lost. The same call then goes on.
        """
        validate_parameters(self)
        check_held(self.attributor)
        models, train = self._open(model, X, y, sample_weight, X_fit)
        plan = Plan.of(models, train)
        coordinates, contents = built(self, plan, each(models))
        self._train = plan.train
        self._adopt(coordinates, contents)
        return self

    @classmethod
    @with_gradients
    def open(cls, folder: str | os.PathLike, model: Any, *, verify: bool = True) -> Self:
        """Open an index that was built, without its training data.

        Parameters
        ----------
        folder : path-like
        model : fitted model, Task, or list of them
            The model of the build, compared by a digest of its weights.
        verify : bool, default=True
            Read all rows once and compare them with their checksums, about a second for a
            gigabyte. Without it, a changed bit in them gives wrong scores.

        Returns
        -------
        index : AttributionIndex
            Fitted. Nothing is unpickled, and files are compared with the manifest before they are
            mapped.

        Raises
        ------
        ValueError
            If the folder is damaged, of another format, or of another model.
        """
        check_path("folder", folder)
        check_flag("verify", verify)
        path = Path(folder)
        contents = read_contents(path)
        index = cls(**{**contents.settings(path, set(cls._get_param_names())), "folder": folder})
        validate_parameters(index)
        models = index._read_models(model, (), None)
        tasks = each(models)
        check_models(tasks, contents.models)
        *_, coordinates = read_map(inner_folder(path, contents.map), tasks)
        contents.check(coordinates.dim, coordinates.n_blocks, path)
        index._models, index.task_, index._given = models, tasks[0], (None, None)
        index._train = None
        for name in ("n_features_in", "feature_names_in"):
            if getattr(index.task_, name) is not None:
                setattr(index, f"{name}_", getattr(index.task_, name))
        index.train_index_ = contents.labels
        index._adopt(coordinates, contents, verify)
        return index

    def _adopt(self, coordinates: Coordinates, contents: Contents, verify: bool = False) -> None:
        """Answer from the files of a folder from here on."""
        shards = contents.open_shards(Path(self.folder), verify)
        self.contents_ = contents
        self.n_train_ = contents.n_rows
        self.dim_, self.rounding_ = contents.dim, contents.rounding
        self.bytes_per_row_ = contents.bytes_per_row
        self.removed_rows_ = contents.removed
        fitted = FittedIndex(coordinates, shards, contents.n_rows)
        fitted.kept = np.ones(contents.n_rows, dtype=bool)
        fitted.kept[contents.removed] = False
        learned = fitted.kept.copy()
        if contents.learned:
            learned &= np.any(contents.learned, axis=0)
        self._keep([fitted], [np.arange(contents.n_rows)])
        self.train_rows_ = np.flatnonzero(learned)

    def __getstate__(self) -> dict[str, Any]:
        """Without the rows of the files, and without the training data."""
        state = {**super().__getstate__(), "_given": (None, None), "_train": None}
        if "fitted_" in state:
            state["fitted_"] = [fitted.holding(()) for fitted in state["fitted_"]]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the files of the folder again, which must be where it was."""
        super().__setstate__(state)
        if "fitted_" in vars(self):
            shards = self.contents_.open_shards(Path(self.folder))
            self.fitted_ = [fitted.holding(shards) for fitted in self.fitted_]

    def _read_models(self, model: Any, X: Any, y: Any) -> Task | TaskList:
        return self.attributor._read_models(model, X, y)

    def _task_of(self, model: Any) -> Task:
        return self.attributor._task_of(model)

    def _fit(self, _task: Task, _train: Examples) -> Fitted:
        raise TypeError("AttributionIndex fits the attributor that it holds.")

    def _all_scores(self, queries: Examples | ExamplesList) -> np.ndarray:
        scores = self.fitted_[0].scores(queries)
        check_scores(scores)
        return scores

    @with_gradients
    def top_k(
        self,
        X: Any,
        y: Any = None,
        k: int = 10,
        *,
        opponents: bool = False,
        as_frame: bool = False,
        interval: float | None = None,
        among: Any = None,
    ) -> Any:
        """Training examples with the highest scores.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None
        k : int, default=10
        opponents : bool, default=False
            Return the lowest scores instead of the highest.
        as_frame : bool, default=False
            Return one table instead of two arrays; needs pandas. It shows the data of training
            rows where ``fit`` was given them.
        interval : None, default=None
            An index has no intervals.
        among : array-like of bool of shape (n_train,), default=None
            Rows that may be returned; None is all. Removed rows are never.

        Returns
        -------
        indices : ndarray of shape (n_test, k)
        scores : ndarray of shape (n_test, k)
        frame : pandas.DataFrame of n_test * k rows
            With ``as_frame=True``.
        """
        if interval is not None:
            raise ValueError(
                f"interval: got {interval!r}; accepted is None. An index keeps no intervals: ask "
                "the fitted attributor for them."
            )
        queries = self._queries(X, y)
        found = self.fitted_[0].best(queries, k, -1.0 if opponents else 1.0, among)
        if not as_frame:
            return found
        return top_frame(*found, self._query_names(queries), self.train_index_, *self._given)

    @with_gradients
    def self_influence(self) -> np.ndarray:
        check_is_fitted(self, "fitted_")
        return self.fitted_[0].self_scores()

    @property
    def damping_(self) -> Any:
        """λ in use: a float, or an ndarray with one for each model and checkpoint."""
        return of_models(list(self.fitted_[0].coordinates.damping))

    @available_if(_has_damping)
    def set_damping(self, damping: float) -> Self:
        """Change the damping of queries; the files stay as they are.

        Parameters
        ----------
        damping : float
            Directions of curvature that a build at λ = 0 left out stay out.

        Returns
        -------
        self : object
        """
        wrong = isinstance(damping, bool) or not isinstance(damping, (int, float))
        if wrong or not 0 <= damping < np.inf:
            raise ValueError(f"damping: got {damping!r}; accepted is a finite number from 0.")
        self.fitted_ = [self.fitted_[0].at(float(damping))]
        return self
