"""Choice of the damping by the surrogate indicator, without retraining."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import brentq
from sklearn.base import clone
from sklearn.utils import check_random_state

from influencekit.base import BaseAttributor
from influencekit.curvature._spectrum import grad_dot_cosines
from influencekit.damping._grid import (
    at_damping,
    damping_grid,
    damping_name,
    own_damping,
    warn_at_edge,
)
from influencekit.damping._indicators import score_vector_cosine, score_vector_xi
from influencekit.data._examples import open_examples
from influencekit.data._not_taken import same_columns
from influencekit.exceptions import LambdaPathWarning, warn_user
from influencekit.groups._holders import check_held
from influencekit.selection._attributor_search import AttributorSearch, seeded_clone
from influencekit.selection._surrogate_table import (
    query_folds,
    results_table,
    split_means,
    with_row,
)
from influencekit.selection._surrogate_trust import better_damping, dimension_ratio, warn_of_pick
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import FOLDS, Interval, StrOptions, present

__all__ = ["SurrogateLambdaSearchCV"]

#: Relative precision of a refined damping.
_ROOT_WIDTH = 1e-3
#: Default levels: the paper's for ξ, and one calibrated by retraining for the cosine.
_THRESHOLDS = {"xi": 0.5, "cosine": 0.57}
#: Names in messages.
_SYMBOLS = {"xi": "ξ", "cosine": "cosine"}


class SurrogateLambdaSearchCV(AttributorSearch):
    """Choose λ by the indicator ξ; folds only show the spread, nothing is refitted on them.

    For a query with output gradient g and the curvature F of the training data,
    ``ξ(λ) = t_2 / √(t_1 t_3)`` with ``t_k = gᵀ F (F + λI)⁻ᵏ g``.  It is between 0 and 1. It rises
    from small values, where a larger λ raises the linear datamodeling score (LDS), to 1, where
    scores are inner products of gradients. The λ of ξ is the one whose mean ξ over queries is
    closest to ``threshold``. On small tables it can be far too small, so the default uses it only
    as far as the training rows support it. The search itself is an attributor, with the λ that it
    chose.

    Parameters
    ----------
    attributor : attributor with a ``damping`` parameter, or a GroupAttributor around one
    dampings : "auto" or array-like of shape (n_dampings,), default="auto"
        Candidates.  "auto": 0, and quarters of a decade around the curvature's eigenvalues.
    cv : int, splitter or iterable, default=5
        Folds of the *queries*, which show the spread of ξ and of the chosen λ. The attributor is
        fitted once, on all training rows.
    threshold : float in (0, 1) or "auto", default="auto"
        Level of the mean indicator.  "auto" is the paper's 0.5 for ξ and 0.57 for the cosine,
        see the user guide.
    criterion : {"auto", "xi", "cosine"}, default="auto"
        "xi" is the paper's rule.  "auto" uses the geometric mean of the λ of ξ and the attributor's
        own λ. It uses the attributor's own λ if the effective dimension at the λ of ξ exceeds what
        the training rows support (``dimension_ratio_`` above 1), or if the mean ξ never crosses
        ``threshold``.  "cosine" is the paper's rule with another indicator: the cosine between a
        query's scores and its scores at infinite λ, over the training examples.
    refine : bool, default=False
        Whether to refine the closest candidate to the λ at which the mean indicator equals
        ``threshold``, to within 0.1%. That λ is then one more row of ``cv_results_``. False uses
        the candidate.
    n_queries : int or None, default=100
        Largest number of queries; if there are more, this many are drawn. None uses all.
    random_state : int, RandomState instance or None, default=None
        Seed for drawing queries and folds.

    Attributes
    ----------
    best_attributor_ : attributor
        Fitted, with the chosen damping.
    best_params_ : dict
        ``{"damping": λ}``; for a GroupAttributor ``{"attributor__damping": λ}``.
    best_index_ : int
        Row of the chosen damping in ``cv_results_``. With "xi" and "cosine" it is the one whose
        mean indicator is closest to the threshold, or the attributor's own damping if the mean over
        candidates never crosses it.
    best_score_ : float
        ``-|mean indicator - threshold|`` of the chosen damping: ``mean_test_score`` at
        ``best_index_``.
    cv_results_ : dict of ndarrays
        ``param_damping`` (ascending), ``params``, ``mean_xi``, ``std_xi`` (over folds),
        ``split{i}_xi``; ``mean_test_score``, ``std_test_score``, ``split{i}_test_score`` and
        ``rank_test_score`` (1 is best).  With ``criterion="cosine"`` the first names end in
        ``cosine``. Rows are the candidates, and the chosen damping if it is not one of them.
        ``split{i}_test_score`` is minus the distance of that fold's mean indicator from the
        threshold, and ``std_test_score`` its spread; ``mean_test_score`` is minus the distance of
        the mean over folds, by which λ is chosen, and not the mean of the folds' scores.
    n_splits_ : int
        Number of folds.
    split_dampings_ : ndarray of shape (n_splits,)
        The candidate that each fold alone would pick.
    threshold_ : float
        The level in use.
    indicator_ : {"xi", "cosine"}
        The indicator of the path.
    dimension_ratio_ : float
        Effective dimension at the λ of the indicator, divided by the dimension that the effective
        sample size of the training rows supports. NaN for attributors other than influence
        functions with eigenvalues; "auto" then is "xi".
    n_crossings_ : int
        Number of times that the mean indicator crosses the threshold along the candidates.
    n_undefined_ : int
        Number of queries left out because the indicator is not defined for them (zero gradient).
    xi_form_ : {"spectral", "score_vectors"}
        How the indicator was computed: with eigenvalues, or from scores alone if the curvature does
        not have eigenvalues.

    Notes
    -----
    The formula is a reconstruction: the paper's abstract and poster state what ξ does; the
    expression was derived from that and is not quoted from the paper. The model's own penalty is
    added to the curvature like λ and is not part of F. The cosine and "auto" are not from the paper
    and are based only on measurements, see the user guide.

    Cost: one fit of the attributor and, with eigenvalues, elementwise operations for each λ; for
    the cosine, the scores of the queries at each λ. ``refine`` tries about ten more λ, between the
    closest candidate and its neighbor.

    References
    ----------
    .. [1] W. Wang, J. Deng, Y. Hu, S. Zhang, X. Jiang, R. Zhang, H. Zhao, J. W. Ma. Taming
       hyperparameter sensitivity in data attribution: practical selection without costly
       retraining. NeurIPS 2025, arXiv 2505.24261.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import InfluenceFunction, SurrogateLambdaSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> search = SurrogateLambdaSearchCV(InfluenceFunction("fisher"), random_state=0)
    >>> search.fit(model, X, y).score(X[:2], y[:2]).shape
    (2, 150)
    >>> search.xi_form_
    'spectral'
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "attributor": [BaseAttributor],
        "dampings": ["array-like", StrOptions({"auto"})],
        "cv": FOLDS,
        "threshold": [Interval(Real, 0, 1, closed="neither"), StrOptions({"auto"})],
        "criterion": [StrOptions({"auto", "xi", "cosine"})],
        "refine": ["boolean"],
        "n_queries": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        attributor: Any,
        dampings: Any = "auto",
        *,
        cv: Any = 5,
        threshold: Any = "auto",
        criterion: str = "auto",
        refine: bool = False,
        n_queries: int | None = 100,
        random_state: Any = None,
    ):
        self.attributor = attributor
        self.dampings = dampings
        self.cv = cv
        self.threshold = threshold
        self.criterion = criterion
        self.refine = refine
        self.n_queries = n_queries
        self.random_state = random_state

    @with_gradients
    def fit(
        self,
        model: Any,
        X: Any,
        y: Any = None,
        *,
        X_query: Any = None,
        y_query: Any = None,
        sample_weight: Any = None,
        X_fit: Any = None,
    ) -> Self:
        """Choose the damping and fit the attributor with it.

        Parameters
        ----------
        model : fitted model, Task, or list of them
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_train examples
            The data that the model was trained on.
        y : array-like of shape (n_train,) or (n_train, n_outputs), default=None
        X_query : array-like, DataFrame, Tensor, Dataset or DataLoader, default=None
            Examples over which ξ is averaged; None draws them from the training data.
        y_query : array-like, default=None
            Targets of the queries; None explains the model's own predictions.
        sample_weight : array-like of shape (n_train,), default=None
            The weights that the model was fitted with.
        X_fit : array-like of shape (n_train, n_features), default=None
            For a Pipeline only: the data that its last step was fitted on.

        Returns
        -------
        self : object
        """
        task, train = self._open(model, X, y, sample_weight, X_fit)
        check_held(self.attributor, "SurrogateLambdaSearchCV")
        if damping_name(self.attributor) is None:
            raise ValueError(
                f"attributor: {type(self.attributor).__name__} does not have a parameter "
                f"'damping'. Accepted are attributors with one, such as InfluenceFunction."
            )
        queries = None
        if X_query is None and y_query is not None:
            raise ValueError(
                "y_query: got targets without X_query. Give both, or neither to draw the queries "
                "from the training data."
            )
        if X_query is not None:
            X_query = same_columns(X_query, X, self.task_, "X_query")
            queries = open_examples(task, X_query, y_query, require_y=False, name="X_query")
        return self._search(task, train, queries)

    def _search(self, task: Any, train: Any, queries: Any) -> Self:
        attributor = seeded_clone(self.attributor, self.random_state)
        fitted = clone(attributor).fit(task, train)
        rng = check_random_state(self.random_state)
        queries = self._draw(train.take(fitted.train_rows_) if queries is None else queries, rng)
        dampings = damping_grid(self.dampings, fitted)
        if isinstance(self.dampings, str) and fitted._undamped:
            dampings = np.insert(dampings, 0, 0.0)
        self.indicator_ = "cosine" if self.criterion == "cosine" else "xi"
        default = self.threshold == "auto"
        self.threshold_ = _THRESHOLDS[self.indicator_] if default else float(self.threshold)
        by_rows = fitted._by_rows
        indicator = self._indicator(by_rows, task, train, queries, dampings)

        def ratio_at(damping: float) -> float:
            return dimension_ratio(by_rows, damping)

        self._choose(dampings, indicator, own_damping(fitted), rng, ratio_at)
        if self.criterion != "auto":
            own = own_damping(fitted)
            warn_of_pick(self.task_, self._symbol, self._picked(), own, self.dimension_ratio_)
        self._adopt(at_damping(fitted, self._picked(), task, train))
        return self

    def _draw(self, queries: Any, rng: np.random.RandomState) -> Any:
        if self.n_queries is None or queries.n_examples <= self.n_queries:
            return queries
        return queries.take(np.sort(rng.choice(queries.n_examples, self.n_queries, replace=False)))

    def _indicator(self, fitted: Any, task: Any, train: Any, queries: Any, grid: Any) -> Callable:
        """Function from dampings to the indicators of the queries, (n_dampings, n_queries)."""
        if hasattr(fitted, "damping_path"):
            self.xi_form_ = "spectral"
            path = fitted.damping_path(queries)
            return grad_dot_cosines(path) if self.indicator_ == "cosine" else path.xi
        self.xi_form_ = "score_vectors"
        form = score_vector_cosine if self.indicator_ == "cosine" else score_vector_xi
        return form(lambda d: at_damping(fitted, d, task, train).score(queries), grid)

    @property
    def _symbol(self) -> str:
        return _SYMBOLS[self.indicator_]

    def _choose(
        self,
        dampings: np.ndarray,
        xi_at: Callable,
        own: float | None,
        rng: Any,
        ratio_at: Callable[[float], float],
    ) -> None:
        """Set the results from a function that computes the indicator at dampings.

        ``own`` is the attributor's own damping, ``ratio_at`` its :func:`dimension_ratio`.
        """
        xi = xi_at(dampings)
        defined = ~np.isnan(xi[dampings > 0]).any(axis=0)
        self.n_undefined_ = int((~defined).sum())
        if not defined.any():
            raise ValueError(
                f"{self._symbol} is not defined for any query: their gradients are zero, the "
                f"curvature is not positive on them, or the scores are not products with (C + "
                f"λI)⁻¹, as it assumes. Give other queries in X_query, larger dampings, or use "
                f"LDSSearch, which does not need these assumptions."
            )
        if dampings[0] == 0 and np.isnan(xi[0, defined]).any():
            dampings, xi = dampings[1:], xi[1:]  # some queries have no curvature left
        folds = query_folds(int(defined.sum()), self.cv, rng)

        @cache
        def splits_at(damping: float) -> np.ndarray:
            return split_means(xi_at(np.array([damping]))[:, defined], folds)[:, 0]

        splits = split_means(xi[:, defined], folds)
        self.split_dampings_ = dampings[np.abs(splits - self.threshold_).argmin(axis=1)]
        mean = splits.mean(axis=0)
        self.n_crossings_ = int(np.abs(np.diff(mean[dampings > 0] > self.threshold_)).sum())
        asked = self.criterion == "auto" or self.n_crossings_ == 0
        usable = asked and own is not None and bool(np.isfinite(splits_at(own)).all())
        if self.n_crossings_ == 0:
            pick = own if usable else None
        else:
            pick = self._root(dampings, mean, splits_at) if self.refine else None
        found = float(dampings[np.abs(mean - self.threshold_).argmin()]) if pick is None else pick
        self.dimension_ratio_ = ratio_at(found)
        if self.criterion == "auto" and usable and own is not None and self.n_crossings_ > 0:
            pick = better_damping(found, own, self.dimension_ratio_)
        if pick is not None:
            dampings, splits = with_row(dampings, splits, pick, splits_at(pick))
        self._set_results(dampings, splits)
        self._take(pick if self.criterion == "auto" or self.n_crossings_ == 0 else None)
        if self.criterion == "auto" and usable:
            return
        self._warn_unless_one_crossing(mean, pick)
        if self.n_crossings_ > 0:
            warn_at_edge(self._picked(), dampings[0], dampings[-1], "dampings")

    def _root(self, dampings: np.ndarray, mean: np.ndarray, splits_at: Callable) -> float | None:
        """Root of the mean indicator next to the closest candidate, if there is one."""
        gaps = mean - self.threshold_
        k = int(np.argmin(np.abs(gaps)))
        inside = [j for j in (k - 1, k + 1) if 0 <= j < len(gaps) and dampings[min(j, k)] > 0]
        beside = [j for j in inside if gaps[j] * gaps[k] < 0]
        if not beside:
            return None
        ends = sorted((k, min(beside, key=lambda j: abs(gaps[j]))))
        known = {float(np.log(dampings[j])): float(gaps[j]) for j in ends}

        def gap(log_damping: float) -> float:
            if log_damping in known:
                return known[log_damping]
            return float(splits_at(float(np.exp(log_damping))).mean() - self.threshold_)

        return float(np.exp(brentq(gap, *known, xtol=_ROOT_WIDTH)))

    def _set_results(self, dampings: np.ndarray, splits: np.ndarray) -> None:
        """Set ``cv_results_`` from the means of the folds, (n_splits, n_dampings)."""
        name = present(damping_name(self.attributor), "parameter of the damping")
        self.n_splits_ = len(splits)
        self.cv_results_ = results_table(name, self.indicator_, dampings, splits, self.threshold_)

    def _take(self, damping: float | None) -> None:
        """Choose a row of the results: that of a damping, or the closest to the threshold."""
        results = self.cv_results_
        if damping is None:
            self.best_index_ = int(np.argmax(results["mean_test_score"]))
        else:
            column = f"param_{damping_name(self.attributor)}"
            self.best_index_ = int(np.searchsorted(results[column], damping))
        self.best_params_ = dict(results["params"][self.best_index_])
        self.best_score_ = float(results["mean_test_score"][self.best_index_])

    def _picked(self) -> float:
        """The chosen λ."""
        return self.best_params_[damping_name(self.attributor)]

    def _warn_unless_one_crossing(self, mean: np.ndarray, pick: float | None) -> None:
        """Warn of a path (mean over queries) that does not determine λ clearly."""
        if self.n_crossings_ == 1:
            return
        damping = self._picked()
        if self.n_crossings_ > 1:
            what = f"crosses {self.n_crossings_} times"
            taken = f"the nearest candidate, damping={damping:.2g}, is used"
        else:
            what = "never crosses"
            whose = "nearest candidate's" if pick is None else "attributor's own"
            taken = f"the {whose} damping={damping:.2g} is used"
        others = ["criterion='cosine'"] * (self.criterion != "cosine")
        others += ["criterion='auto'"] * (self.n_crossings_ > 1)
        otherwise = f", or choose otherwise: {' or '.join(others)}" if others else ""
        warn_user(
            f"Mean {self._symbol} {what} threshold={self.threshold_} on the path "
            f"(it runs from {mean[0]:.2f} to {mean[-1]:.2f}); {taken}. Look at the path with "
            f"LambdaPathDisplay.from_estimator(search), and give wider or denser "
            f"dampings{otherwise}.",
            LambdaPathWarning,
        )
