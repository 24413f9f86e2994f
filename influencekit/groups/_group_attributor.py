"""Scores of groups of training examples in place of single ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, clone
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from influencekit._model_checks import check_scores
from influencekit.attributors import TRAK, FurtherTraining, InfluenceFunction
from influencekit.base import BaseAttributor
from influencekit.data import Examples, open_examples
from influencekit.groups._fisher_of import fisher_of
from influencekit.groups._groupers import BaseGrouper, ClusterGrouper, LabelGrouper
from influencekit.groups._properties import property_slopes, resolve_property
from influencekit.models import Task, as_task
from influencekit.utils import OutputContainerMixin, StrOptions, validate_parameters

__all__ = ["GroupAttributor"]

#: Point scores held at a time, in numbers.
_BLOCK = 2**24


class GroupAttributor(OutputContainerMixin, BaseEstimator):
    """Scores the influence of groups of training examples on test examples, or on a property.

    Parameters
    ----------
    attributor : attributor
        Any attributor of single examples; it is cloned.
    grouper : grouper, clusterer or transformer, default=None
        Partitions the training examples in ``fit``; see :mod:`influencekit.groups`.  Clusterers
        and transformers of scikit-learn are wrapped by :class:`ClusterGrouper`.  None takes
        the ``groups`` given to ``fit``, or makes each example a group.
    reduce : {"sum", "mean"}, default="sum"
        "sum" is the effect of the whole group, which favours large ones; "mean" that of one
        of its examples on average.
    curvature : {"points", "groups"}, default="points"
        "points" sums the scores of examples, exactly.  "groups" replaces the empirical Fisher
        matrix by one of group gradients, for ``InfluenceFunction("fisher")`` and :class:`TRAK`;
        neither projects then.
    property : {"mean_neg_loss"} or callable, default=None
        Number that is explained in place of each test example's output:
        ``property(outputs, targets) -> scalar Tensor`` of all rows given to ``score``.
    fisher_form : {"auto", "sum", "mean"}, default="auto"
        Weight of a group in its Fisher matrix: "sum" takes ``G_j G_jᵀ``, "mean" divides it by the
        group's size.  "auto" is "sum" for random groups and "mean" for all others.
    trak_kernel : {"output", "loss"}, default="output"
        Gradients of TRAK's kernel in group form: of the output, which is TRAK itself for groups
        of one (variant B, two backward passes), or of the loss (variant A, one).

    Attributes
    ----------
    attributor_ : attributor
        The fitted clone.
    grouper_ : grouper or None
    labels_ : ndarray of int of shape (n_train,)
    n_groups_ : int
    group_names_ : ndarray of str of shape (n_groups,)
    group_sizes_ : ndarray of int of shape (n_groups,)
    damping_ : float
        With ``curvature="groups"``.

    Notes
    -----
    ``score[i, j] = Σ_{l in group j} score_point[i, l]``; positive marks a proponent: a group
    without which the output, or the property, is predicted to be lower.  For
    :class:`FurtherTraining` it is the measured effect of training on without the group.

    A property enters by its derivative by the outputs, so that its score is the predicted
    ``property(full) - property(without the group)`` to first order in the change of outputs, for
    every attributor.

    With ``curvature="groups"``: ``τ_j = -vᵀ (BᵀB + λI)⁻¹ G_j / W`` with group sums G_j of the
    weighted loss gradients, W the sum of weights, and rows ``G_j / √W`` ("sum") or
    ``G_j / √(W s_j)`` ("mean", s_j the group's weight) in B.  The model's own penalty
    is left out.  For groups of one both are the attributor itself.  The mean form never exceeds
    the Fisher matrix of points; the difference is the scatter inside groups.

    Cost: of "points" that of the attributor, in blocks, so that no (n_test, n_train) matrix is
    held; of "groups" ``O(n p + k² p + k³)`` for k groups and ``O(m k p)`` for m test rows.

    References
    ----------
    .. [1] D. Ley, S. Srinivas, S. Zhang, G. Rusak, H. Lakkaraju. Generalized group data
       attribution. 2024, arXiv 2410.09940.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import GradDot
    >>> from influencekit.groups import GroupAttributor
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> groups = GroupAttributor(GradDot()).fit(model, X, y, groups=y)
    >>> groups.score(X[:2], y[:2]).shape, groups.get_feature_names_out()
    ((2, 3), array(['0', '1', '2'], dtype=object))
    """

    __metadata_request__fit: ClassVar[dict[str, Any]] = {"model": UNUSED, "groups": UNUSED}

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "reduce": [StrOptions({"sum", "mean"})],
        "curvature": [StrOptions({"points", "groups"})],
        "property": [StrOptions({"mean_neg_loss"}), callable, None],
        "fisher_form": [StrOptions({"auto", "sum", "mean"})],
        "trak_kernel": [StrOptions({"output", "loss"})],
    }

    task_: Task

    def __init__(
        self,
        attributor,
        grouper=None,
        reduce="sum",
        curvature="points",
        property=None,
        *,
        fisher_form="auto",
        trak_kernel="output",
    ):
        self.attributor = attributor
        self.grouper = grouper
        self.reduce = reduce
        self.curvature = curvature
        self.property = property
        self.fisher_form = fisher_form
        self.trak_kernel = trak_kernel

    def fit(self, model, X, y=None, groups=None):
        """Partition the training examples, and learn what scoring needs.

        Parameters
        ----------
        model : fitted model or Task
            As :func:`~influencekit.as_task` takes it.
        X, y : array-like
            Training data, as given to the model's ``fit``.
        groups : array-like of shape (n_train,) or (n_train, n_columns), default=None
            Label of each row, in place of a grouper; crossings of several columns.

        Returns
        -------
        self : object
        """
        validate_parameters(self)
        self._check(groups)
        self.task_ = task = as_task(model)
        train: Any = open_examples(task, X, y)
        self.n_train_ = train.n_examples
        self._partition(task, X, y, groups)
        self.attributor_ = clone(self.attributor)
        self._output = _SlopeOutput() if self.property is not None else None
        if self._output is not None and not isinstance(self.attributor_, TRAK):
            self.attributor_.set_params(**{_output_name(self.attributor_): self._output})
        if self.curvature == "groups":
            self._fisher: Any = fisher_of(self, task, train)
            self.damping_ = self._fisher.damping
            return self
        if isinstance(self.attributor_, FurtherTraining):
            self.attributor_.set_params(groups=self.labels_, left_out=None)
        self.attributor_.fit(task, X, y)
        if self._output is not None and isinstance(self.attributor_, TRAK):
            self.attributor_._explained = self._output
        return self

    def _check(self, groups: Any) -> None:
        if not isinstance(self.attributor, BaseAttributor):
            raise ValueError(
                f"attributor: got {type(self.attributor).__name__}; accepted is an attributor of "
                "single examples, such as InfluenceFunction()."
            )
        if groups is not None and self.grouper is not None:
            raise ValueError("groups, grouper: got both; accepted is one of the two.")
        if self.curvature == "groups" and not isinstance(
            self.attributor, (InfluenceFunction, TRAK)
        ):
            raise ValueError(
                f"curvature='groups': there is no group form of {type(self.attributor).__name__}; "
                "accepted are InfluenceFunction('fisher') and TRAK. Use curvature='points'."
            )

    def _partition(self, task: Task, X: Any, y: Any, groups: Any) -> None:
        grouper = self.grouper
        if groups is not None:
            grouper = LabelGrouper(groups)
        elif grouper is not None and not isinstance(grouper, BaseGrouper):
            grouper = ClusterGrouper(grouper)
        if grouper is None:
            self.grouper_ = None
            self.labels_ = np.arange(self.n_train_)
            self.group_names_ = np.array([f"train{i}" for i in self.labels_], dtype=object)
        else:
            self.grouper_ = clone(grouper).fit(task, X, y)
            self.labels_, self.group_names_ = self.grouper_.labels_, self.grouper_.group_names_
        if self.labels_.shape != (self.n_train_,):
            raise ValueError(
                f"grouper: it gave {len(self.labels_):,} labels for {self.n_train_:,} rows."
            )
        self.n_groups_ = len(self.group_names_)
        self.group_sizes_ = np.bincount(self.labels_, minlength=self.n_groups_)

    def score(self, X, y=None) -> np.ndarray:
        """Score every group.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None
            Test targets.  None explains the model's own predictions.

        Returns
        -------
        scores : ndarray of shape (n_test, n_groups), or (1, n_groups) for a property
        """
        check_is_fitted(self, "labels_")
        queries: Any = open_examples(self.task_, X, y, require_y=False)
        if self.property is None:
            scores = self._scores(queries)
        else:
            function = resolve_property(self.task_, self.property)
            self.property_value_, slopes = property_slopes(self.task_, function, queries)
            scores = self._total(queries.with_targets(slopes))
        scores = scores / self.group_sizes_ if self.reduce == "mean" else scores
        check_scores(scores)
        return scores

    def transform(self, X, y=None):
        """Scores under the name of scikit-learn's transformers; honours ``set_output``.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None

        Returns
        -------
        scores : ndarray or DataFrame of shape (n_test, n_groups)
        """
        return self.score(X, y)

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Names of the groups.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        names : ndarray of str objects of shape (n_groups,)
        """
        check_is_fitted(self, "labels_")
        return self.group_names_

    def _blocks(self, queries: Examples) -> list[slice]:
        size = max(1, _BLOCK // self.n_train_)
        return [slice(i, i + size) for i in range(0, len(queries), size)]

    def _total(self, queries: Examples) -> np.ndarray:
        """Sum over queries, (1, n_groups)."""
        return sum(self._block(queries.take(rows)).sum(0, keepdims=True)
                   for rows in self._blocks(queries))  # fmt: skip

    def _scores(self, queries: Examples) -> np.ndarray:
        return np.concatenate([self._block(queries.take(rows)) for rows in self._blocks(queries)])

    def _block(self, queries: Examples) -> np.ndarray:
        """Sums over groups for a block of queries."""
        if self.curvature == "groups":
            return self._fisher.of(queries)
        points = self.attributor_._all_scores(queries)
        if isinstance(self.attributor_, FurtherTraining):  # each row has its group's score
            return points[:, np.unique(self.labels_, return_index=True)[1]]
        n = self.n_train_
        sums = scipy.sparse.csr_array(
            (np.ones(n), (self.labels_, np.arange(n))), shape=(self.n_groups_, n)
        )
        return (sums @ points.T).T


class _SlopeOutput:
    """Output whose gradient is that of a property: outputs times its slopes, given as targets."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs * targets).flatten(1).sum(1)


def _output_name(attributor: Any) -> str:
    """Parameter that says what is explained, of an attributor or of one inside it."""
    params: Mapping[str, Any] = attributor.get_params(deep=True)
    names = [name for name in params if name == "output" or name.endswith("__output")]
    if not names:
        raise ValueError(
            f"property: {type(attributor).__name__} has no parameter 'output', so it explains no "
            "property; accepted are attributors by gradients or by training."
        )
    return min(names, key=len)
