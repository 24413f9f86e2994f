"""Search of the learning rate and the horizon of a look ahead together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from influencekit.applications._fitting import checked_labels
from influencekit.applications._look_ahead import LookAheadSelector
from influencekit.data._targets import one_column
from influencekit.training._randomness import seeded
from influencekit.training.estimator._recipe import device_of
from influencekit.training.estimator._rows import count_rows, take_rows
from influencekit.utils._arguments import check_integer, check_number
from influencekit.utils._random import draw_seed
from influencekit.utils.validation import FOLDS, validate_parameters

__all__ = ["HorizonSearchCV"]


def _has(name: str) -> Any:
    return available_if(lambda search: hasattr(search.estimator, name))


class HorizonSearchCV(MetaEstimatorMixin, BaseEstimator):
    """Learning rate and horizon of a look ahead, chosen together by cross-validation.

    The validation rows are what is folded: a selector that sees some of them is judged on the
    others, and every net learns from all training rows.  So no wrong training label takes part in
    the judgment.

    Parameters
    ----------
    estimator : skorch net
        Unfitted.  It is cloned, never changed.
    selector : LookAheadSelector
        With the validation data, and all parameters but the horizon.
    learning_rates : sequence of float, default=(0.001, 0.003, 0.01)
    horizons : sequence of int or None, default=(None, 0, 1, 4)
        None is training on all rows, without selection.
    scoring : str, callable or None, default=None
        As in scikit-learn; None is the net's own ``score``.
    cv : int, splitter or None, default=None
        Folds of the validation rows; None is five, by class for classifiers.
    n_jobs : int or None, default=None
        Nets trained at a time.
    random_state : int, RandomState instance or None, default=None
        All nets start alike.

    Attributes
    ----------
    best_params_ : dict
        "lr" and "horizon".
    best_score_ : float
        Mean over folds.
    best_estimator_ : net
        Trained on all rows, its selector with all of the validation rows.
    cv_results_ : dict of ndarray
        A row for each pair, as in scikit-learn: ``param_lr``, ``param_horizon``,
        ``mean_test_score``, ``std_test_score``, ``rank_test_score``, and the mean
        ``n_gradients`` of single rows that selection and training took (NaN for None).
    n_splits_ : int

    See Also
    --------
    LookAheadSelector : What is searched for.

    Notes
    -----
    ``len(learning_rates) * len(horizons) * n_splits + 1`` trainings.  A longer horizon sees more
    of the future and gathers more first-order error, faster at a higher rate [1]_: neither
    can be chosen without the other.  Of equal scores the first is taken: give short horizons first.
    The validation rows have been used up by the search; test on others.

    References
    ----------
    .. [1] J. Deng, P. Hu, et al. How faithful is trajectory-based data attribution? Error sources,
       remedies, and practical guidelines. 2026, arXiv 2605.18814.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from sklearn.datasets import load_iris
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from influencekit.applications import HorizonSearchCV, LookAheadSelector
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> net = NeuralNetClassifier(nn.Linear, module__in_features=4, module__out_features=3,
    ...     criterion=nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, batch_size=30,
    ...     max_epochs=2, train_split=None, verbose=0, classes=[0, 1, 2])
    >>> search = HorizonSearchCV(net, LookAheadSelector(X[::5], y[::5]), cv=2, random_state=0,
    ...     learning_rates=[0.01, 0.1], horizons=[None, 0, 2]).fit(X, y)
    >>> search.best_params_["lr"], len(search.cv_results_["mean_test_score"])
    (0.1, 6)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "estimator": [object],  # looked at by fit
        "selector": [object],
        "learning_rates": [list, tuple, np.ndarray],
        "horizons": [list, tuple, np.ndarray],
        "scoring": [str, callable, None],
        "cv": FOLDS,
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        selector: LookAheadSelector,
        *,
        learning_rates: Sequence[float] = (0.001, 0.003, 0.01),
        horizons: Sequence[int | None] = (None, 0, 1, 4),
        scoring: Any = None,
        cv: Any = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.selector = selector
        self.learning_rates = learning_rates
        self.horizons = horizons
        self.scoring = scoring
        self.cv = cv
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Search, then train with the best pair.

        Parameters
        ----------
        X, y : array-like of n rows

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If the estimator is not a skorch net, or the selector not a LookAheadSelector.
        ValueError
            If there is nothing to search over, or a training diverged.
        """
        self._check()
        y = checked_labels(X, y, is_classifier(self.estimator))
        seed, pairs = draw_seed(self.random_state), self._pairs()
        scorer = check_scoring(self.estimator, scoring=self.scoring)
        X_val, y_val = self.selector.X_val, one_column(self.selector.y_val)
        folds = self._folds(count_rows(X_val), y_val)

        def judged(pair: tuple, seen: np.ndarray, unseen: np.ndarray) -> tuple[float, float]:
            net = self._trained(pair, X, y, seed, seen)
            return scorer(net, take_rows(X_val, unseen), take_rows(y_val, unseen)), _cost(net)

        jobs = (delayed(judged)(pair, *fold) for pair in pairs for fold in folds)
        found = np.array(Parallel(self.n_jobs)(jobs), dtype=float)
        scores, costs = found.reshape(len(pairs), len(folds), 2).transpose(2, 0, 1)
        self.n_splits_ = len(folds)
        self._keep(pairs, scores, costs)
        best = pairs[int(np.argmin(self.cv_results_["rank_test_score"]))]
        self.best_params_ = {"lr": best[0], "horizon": best[1]}
        self.best_score_ = float(np.max(self.cv_results_["mean_test_score"]))
        self.best_estimator_ = self._trained(best, X, y, seed)
        return self

    def _check(self) -> None:
        validate_parameters(self)
        for rate in self.learning_rates:
            accepted = "numbers above 0"
            check_number("learning_rates", rate, 0, np.inf, accepted)
        for horizon in self.horizons:
            if horizon is not None:
                check_integer("horizons", horizon, 0)
        if not isinstance(self.estimator, NeuralNet):
            raise TypeError(
                f"estimator: got {type(self.estimator).__name__}; accepted is a skorch net, whose "
                "batches the look ahead chooses from."
            )
        if not isinstance(self.selector, LookAheadSelector):
            raise TypeError(
                f"selector: got {type(self.selector).__name__}; accepted is a LookAheadSelector "
                "with the validation data."
            )

    def _folds(self, n_rows: int, y_val: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        """Folds of the validation rows."""
        cv = check_cv(self.cv, y_val, classifier=is_classifier(self.estimator))
        try:
            return list(cv.split(np.zeros(n_rows), y_val))
        except ValueError as error:
            raise ValueError(
                f"cv: got {self.cv!r}, which cannot split the {n_rows} validation rows of the "
                f"selector ({error}). Give fewer folds, or the selector more rows."
            ) from error

    def _pairs(self) -> list[tuple[float, int | None]]:
        pairs = list(product(self.learning_rates, self.horizons))
        if not pairs:
            raise ValueError(
                f"learning_rates, horizons: got {self.learning_rates!r} and {self.horizons!r}; "
                "accepted are sequences with one value each at least."
            )
        return pairs

    def _trained(
        self, pair: tuple[float, int | None], X: Any, y: Any, seed: int, seen: Any = None
    ) -> Any:
        """A net trained at a rate and a horizon, its selector with some of the validation rows."""
        lr, horizon = pair
        net = clone(self.estimator).set_params(lr=lr)
        if horizon is not None:
            selector = clone(self.selector)
            if seen is not None:
                selector.X_val = take_rows(selector.X_val, seen)
                selector.y_val = take_rows(selector.y_val, seen)
            selector.horizon = horizon
            selector.every = min(selector.every, max(horizon, 1))
            net.set_params(callbacks=[*(net.callbacks or []), ("look_ahead", selector)])
        with seeded(seed, device_of(net)):
            return net.fit(X, y)

    def _keep(self, pairs: list, scores: np.ndarray, costs: np.ndarray) -> None:
        means = scores.mean(1)
        worst = np.where(np.isnan(means), -np.inf, means)
        horizons = np.empty(len(pairs), dtype=object)
        horizons[:] = [horizon for _, horizon in pairs]
        self.cv_results_ = {
            "param_lr": np.array([lr for lr, _ in pairs], dtype=float),
            "param_horizon": horizons,
            "params": [{"lr": lr, "horizon": horizon} for lr, horizon in pairs],
            **{f"split{i}_test_score": column for i, column in enumerate(scores.T)},
            "mean_test_score": means,
            "std_test_score": scores.std(1),
            "rank_test_score": rankdata(-worst, method="min").astype(int),
            "n_gradients": costs.mean(1),
        }

    @property
    def classes_(self) -> Any:
        """For the best net."""
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.classes_

    @_has("predict")
    def predict(self, X: Any) -> Any:
        """Predictions of the best net.

        Parameters
        ----------
        X : array-like

        Returns
        -------
        ndarray
        """
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict(X)

    @_has("predict_proba")
    def predict_proba(self, X: Any) -> Any:
        """Probabilities of the best net.

        Parameters
        ----------
        X : array-like

        Returns
        -------
        ndarray of shape (n, n_classes)
        """
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict_proba(X)

    def score(self, X: Any, y: Any) -> float:
        """Score of the best net, as in the search.

        Parameters
        ----------
        X, y : array-like of n rows

        Returns
        -------
        float
        """
        check_is_fitted(self, "best_estimator_")
        scorer = check_scoring(self.estimator, scoring=self.scoring)
        return float(scorer(self.best_estimator_, X, y))


def _cost(net: Any) -> float:
    """Gradients of single rows that a net with a selector took."""
    selector = dict(net.callbacks_).get("look_ahead")
    return float("nan") if selector is None else float(selector.n_gradients_)
