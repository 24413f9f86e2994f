"""Rows whose label is probably wrong."""

from __future__ import annotations

from functools import cached_property
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import MetaEstimatorMixin, clone, is_classifier, is_clusterer
from sklearn.utils.validation import check_is_fitted

from influencekit.applications._evidence import METHODS, LabeledData, method_in_use
from influencekit.applications._fitting import (
    check_estimator,
    fit_on,
    inherit_tags,
    remember_features,
    with_rows,
)
from influencekit.applications._label_probabilities import (
    count_of_wrong,
    spare_classes,
)
from influencekit.applications._new_rows import JudgesNewRows
from influencekit.applications._review import review_table
from influencekit.applications._values import group_means
from influencekit.base import BaseAttributor
from influencekit.groups._groupers import BaseGrouper
from influencekit.utils._random import draw_seed
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import (
    FOLDS,
    InstanceWith,
    Interval,
    StrOptions,
    SuggestingEstimator,
    validate_parameters,
)

__all__ = ["NoisyLabelDetector"]


class NoisyLabelDetector(JudgesNewRows, MetaEstimatorMixin, SuggestingEstimator):
    """Find training rows whose label is probably wrong.

    The default method fits the estimator in cross-validation, leaves out the rows that it
    contradicts with confidence, fits again, and ranks rows by minus the logarithm of the mean
    probability of their label.

    Parameters
    ----------
    estimator : estimator
        Cloned and fitted in :meth:`fit`, on every row that it is given: ``train_split`` of
        skorch nets and ``early_stopping`` are switched off.  A FrozenEstimator is used as it
        is.
    attributor : attributor or None, default=None
        For the methods by influence.  None is ``InfluenceFunction("ekfac", output="margin")``,
        for trees ``TreeInfluence(output="margin")``, for "further_training"
        ``FurtherTraining()``.  A GroupAttributor
        groups all rows once, by a fit on them; rows of a group share its score per row, whatever
        its ``reduce``.
    method : {"auto", "rounds", "loss", "margin", "self_influence", "validation_influence", \
"further_training"}, default="auto"
        "auto" is "rounds" for classifiers; "loss" for regressors and for a FrozenEstimator.

        - "rounds": see Notes.
        - "loss": ``-log p(label)``, for regressors the squared error.
        - "margin": highest probability of another class minus that of the label.
        - "self_influence": of the row on its own loss.
        - "validation_influence": predicted harm to rows that the model did not learn from.
        - "further_training": the same, measured by training further without each row.
    cv : int, splitter or None, default=None
        Folds.  None is 5 for "rounds", and for harm to other rows; "loss" and "margin" are then
        taken in sample, and out of fold with any other value.  Integers are shuffled folds,
        stratified for classifiers.
    n_rounds : int, default=1
        For "rounds": number of cross-validations after the first.
    contamination : "auto" or float in (0, 0.5], default="auto"
        Share of rows to suspect.  "auto" estimates the number of wrong labels, see Notes; for harm
        to other rows, it counts positive scores.  The scores of regressors, and "self_influence",
        have no such count: then rows are only ranked.
    grouper : grouper, clusterer or None, default=None
        One of ``influencekit.groups``, anything else with ``fit(model, X, y)`` and then
        ``labels_``, or a scikit-learn clusterer: rows of a group share the mean of their scores.
    refit : bool, default=True
        Fit ``estimator_`` on the rows that are not suspected.
    n_jobs : int or None, default=None
        Number of folds fitted in parallel, with joblib.
    random_state : int, RandomState instance or None, default=None
        Seed for folds and fits.
    verbose : int, default=0
        1 shows progress.

    Attributes
    ----------
    label_scores_ : ndarray of shape (n,)
        Higher is more suspicious.  Unit: nats for "rounds" and "loss".
    ranking_ : ndarray of int of shape (n,)
        Rows, most suspicious first.
    suspected_ : ndarray of bool of shape (n,)
        The first rows of the ranking, as many as ``contamination`` says.
    threshold_ : float
        Lowest score among the suspected rows; infinite if there is none.
    estimator_ : fitted estimator
        Learned from the rows that are not suspected, and from the five least suspicious ones of
        a class that would have fewer.  Only with ``refit=True``.
    probabilities_ : ndarray of shape (n, n_classes) or None
        Probabilities from which the scores of "rounds", "loss" and "margin" were computed.
    classes_ : ndarray of shape (n_classes,)
        Classes of a classifier.
    method_ : str
        Method in use.
    review_table_ : DataFrame
        The suspected rows, most suspicious first (where rows are only ranked, the first 20):
        ``row``, ``score``, ``given`` label, ``likely`` label and the ``confidence`` in it; five
        nearest rows (``neighbors``), and how many of them hold the given and the likely label.
        "Near" is by the Euclidean distance of rows as the estimator's last step sees them, columns
        of a table in units of their standard deviation.  Made when it is asked for.
    attributor_ : attributor or None
        The attributor of the methods by influence; fitted if one model was explained.

    Notes
    -----
    ``method="rounds"``: P₀ are out-of-fold probabilities, as in confident learning and cleanlab.
    For r = 1, 2, ... the rows that ``P_{r-1}`` contradicts with confidence are left out of fitting,
    and ``P_r`` are again out-of-fold probabilities of *all* rows.  A row is contradicted where a
    class k beats the label and ``p_k >= t_k``, the mean of ``p_k`` over the rows labeled k: so
    where classes overlap few rows are left out.  In each round one more
    model is fitted, on the rows that ``P_r`` keeps, and gives ``K_r`` for all rows.  The score is
    minus the logarithm of the label's mean over all ``P_r`` and ``K_r``.  The procedure was put
    together here, see the user guide.

    Count of wrong labels: the share of other labels among the surest fifth of the rows predicted
    as a class, times their number, summed over classes; too high where no row is sure.

    Cost: ``(cv + 1) · (n_rounds + 1)`` fits, and one more with ``refit``.  A wrong label that most
    similar rows share cannot be found by any method here.

    References
    ----------
    .. [1] C. G. Northcutt, L. Jiang, I. L. Chuang. Confident learning: estimating uncertainty in
       dataset labels. JAIR 2021, arXiv 1911.00068.
    .. [2] Y. Shen, S. Sanghavi. Learning with bad training data via iterative trimmed loss
       minimization. ICML 2019, arXiv 1810.11874.
    .. [3] D. Ley, S. Srinivas, S. Zhang, G. Rusak, H. Lakkaraju. Generalized group data
       attribution. arXiv 2410.09940.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit.applications import NoisyLabelDetector
    >>> X, y = load_iris(return_X_y=True)
    >>> y[10] = 2
    >>> detector = NoisyLabelDetector(LogisticRegression(max_iter=1000), random_state=0).fit(X, y)
    >>> int(detector.ranking_[0])
    10
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "estimator": [object],  # looked at by check_estimator
        "attributor": [BaseAttributor, None],
        "method": [StrOptions({"auto", *METHODS})],
        "cv": FOLDS,
        "n_rounds": [Interval(Integral, 0, None, closed="left")],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "grouper": [InstanceWith(["fit"]), None],
        "refit": ["boolean"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any,
        attributor: Any = None,
        *,
        method: str = "auto",
        cv: Any = None,
        n_rounds: int = 1,
        contamination: Any = "auto",
        grouper: Any = None,
        refit: bool = True,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.attributor = attributor
        self.method = method
        self.cv = cv
        self.n_rounds = n_rounds
        self.contamination = contamination
        self.grouper = grouper
        self.refit = refit
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @with_gradients
    def fit(
        self,
        X: Any,
        y: Any,
        X_val: Any = None,
        y_val: Any = None,
        *,
        sample_weight: Any = None,
        groups: Any = None,
    ) -> NoisyLabelDetector:
        """Score the labels of all rows.

        Parameters
        ----------
        X : array-like, DataFrame, sparse matrix or Tensor of n rows
        y : array-like of shape (n,) or (n, 1)
            Labels, some of them wrong.
        X_val, y_val : array-like of n_val rows, default=None
            Rows whose labels are trusted, for "validation_influence" and "further_training".  A
            Pipeline's earlier steps do not transform them.
        sample_weight : array-like of shape (n,), default=None
            Weights that the estimator is fitted with.
        groups : array-like of shape (n,), default=None
            For the folds: rows of a group (a patient, a document) are held out together.

        Returns
        -------
        self : NoisyLabelDetector

        Raises
        ------
        ValueError
            If arguments contradict each other or the data; the message says what to do.
        TypeError
            If the method needs class probabilities and the estimator has none.
        """
        validate_parameters(self)
        check_estimator(self.estimator)
        classifier = is_classifier(self.estimator)
        seed = draw_seed(self.random_state)
        X, y, sample_weight = map(with_rows, (X, y, sample_weight))
        data = LabeledData.checked(X, y, X_val, y_val, classifier, seed // 2, sample_weight, groups)
        self.method_ = method_in_use(self)
        self._check_method(data)
        evidence = METHODS[self.method_](self, data)
        self.label_scores_ = evidence.scores
        self.probabilities_, self.attributor_ = evidence.probabilities, evidence.attributor
        if classifier:
            self.classes_ = data.given_classes
        if self.grouper is not None:
            self.label_scores_ = group_means(evidence.scores, self._groups(data))
        if not np.isfinite(self.label_scores_).all():
            raise ValueError(
                f"method={self.method_!r} gave NaN or infinite scores. Training has diverged: "
                "lower the learning rate or scale the features."
            )
        self._suspect(data)
        if self.refit:
            keep = ~self.suspected_
            if classifier:
                keep = spare_classes(keep, self.label_scores_, data.given_labels)
            rows, weights = np.flatnonzero(keep), data.sample_weight
            self.estimator_ = fit_on(self.estimator, X, data.y, rows, data.seed, weights)
        elif hasattr(self, "estimator_"):
            del self.estimator_  # of an earlier fit
        remember_features(self, X)
        self._learned = X, np.ravel(data.y)
        self.__dict__.pop("review_table_", None)  # of an earlier fit
        return self

    @cached_property
    def review_table_(self) -> Any:
        """Suspected rows with their likely labels, as a DataFrame; see the class."""
        check_is_fitted(self, "label_scores_")
        return review_table(self, *self._learned)

    def _check_method(self, data: LabeledData) -> None:
        if data.labels is None and self.method_ in ("rounds", "margin"):
            raise ValueError(
                f"method: {self.method_!r} reads class probabilities, but "
                f"{type(self.estimator).__name__} is not a classifier. Use method='loss'."
            )
        takes_trusted_rows = self.method_ in ("validation_influence", "further_training")
        in_sample = self.method_ in ("loss", "margin") and self.cv is None
        if data.groups is not None and (
            in_sample or self.method_ == "self_influence" or data.X_val is not None
        ):
            raise ValueError(
                f"groups: they are for folds, of which method={self.method_!r} makes none here. "
                "Leave groups out, or use method='rounds', or 'loss' with cv=5."
            )
        if data.X_val is not None and not takes_trusted_rows:
            raise ValueError(
                f"X_val: method={self.method_!r} does not use trusted rows; leave X_val and y_val "
                f"out, or use method='validation_influence'."
            )

    def _groups(self, data: LabeledData) -> np.ndarray:
        """Group of every row by the grouper."""
        if is_clusterer(self.grouper) and not isinstance(self.grouper, BaseGrouper):
            return np.asarray(clone(self.grouper).fit_predict(data.X))
        model = fit_on(self.estimator, data.X, data.y, None, data.seed, data.sample_weight)
        return np.asarray(clone(self.grouper).fit(model, data.X, data.y).labels_)

    def _suspect(self, data: LabeledData) -> None:
        """Set ranking, suspected rows and threshold."""
        scores = self.label_scores_
        self.ranking_ = np.argsort(-scores, kind="stable")
        first = self.ranking_[: self._count_suspected(data)]
        self.suspected_ = np.zeros(len(scores), dtype=bool)
        self.suspected_[first] = True
        self.threshold_ = float(scores[first].min()) if len(first) else float("inf")

    def _count_suspected(self, data: LabeledData) -> int:
        if self.contamination != "auto":
            return round(self.contamination * len(self.label_scores_))
        if self.probabilities_ is not None:
            return count_of_wrong(self.probabilities_, data.given_labels)
        if self.method_ in ("validation_influence", "further_training"):
            return int((self.label_scores_ > 0).sum())
        return 0  # rows are ranked only

    def __sklearn_tags__(self) -> Any:
        """Tags of scikit-learn: those of the estimator's inputs."""
        return inherit_tags(super().__sklearn_tags__(), self.estimator)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether fit has been called."""
        return hasattr(self, "label_scores_")
