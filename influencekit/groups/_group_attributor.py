"""Scores of groups of training examples in place of single ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse
from sklearn.base import clone
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from influencekit._fitted import Fitted, check_scores, of_models
from influencekit.attributors._trak import TRAK
from influencekit.attributors.further._further_training import FurtherTraining
from influencekit.attributors.influence._influence_function import InfluenceFunction
from influencekit.base import BaseAttributor
from influencekit.curvature._mean_path import MeanPath
from influencekit.data._examples import Examples, ExamplesList, each
from influencekit.data._inputs import compare_row_labels
from influencekit.groups._explain import (
    SlopeOutput,
    check_explains,
    check_queries,
    explain,
    sloped,
)
from influencekit.groups._fisher import fishers_of
from influencekit.groups._held import HeldGroups, has_damping, has_path, partition
from influencekit.groups._properties import named_properties, resolve_property
from influencekit.groups._whole_removal import (
    RemovesGroups,
    group_effects,
    property_effects,
    set_order,
)
from influencekit.models._task import Task
from influencekit.removal._whitened import REMOVAL_ORDERS
from influencekit.utils._long_work import chunks
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import InstanceWith, StrOptions, validate_parameters

__all__ = ["GroupAttributor"]

#: Number of point scores held in memory at once.
_BLOCK = 2**24


class GroupAttributor(RemovesGroups, HeldGroups):
    """Scores the influence of groups of training examples on test examples, or on a property.

    Parameters
    ----------
    attributor : attributor
        Any attributor of single examples; it is cloned.
    grouper : grouper, clusterer or transformer, default=None
        Partitions the training examples in ``fit``; see ``influencekit.groups``.  Clusterers
        and transformers of scikit-learn are wrapped by :class:`.ClusterGrouper`.  None uses the
        ``groups`` given to ``fit``, or makes each example a group.
    reduce : {"sum", "mean"}, default="sum"
        "sum" is the effect of the whole group, which favors large ones; "mean" that of one
        of its examples on average.
    curvature : {"points", "groups"}, default="points"
        "points" sums the scores of examples, exactly.  "groups" replaces the empirical Fisher
        matrix by one of group gradients, for ``InfluenceFunction("fisher")`` and :class:`TRAK`,
        projected as their ``projection_dim`` says.
    property : {"mean_neg_loss"}, callable, list or dict of them, default=None
        Number that is explained in place of each test example's output:
        ``property(outputs, targets) -> scalar Tensor`` of all rows given to ``score``.  Of
        several, which share one fit, each has a row of scores; a dict names them.
    fisher_form : {"auto", "sum", "mean"}, default="auto"
        Weight of a group in its Fisher matrix: "sum" takes ``G_j G_jᵀ``, "mean" divides it by the
        group's size.  "auto" is "sum" for random groups and "mean" for all others.
    removal_order : {"first", "leverage", "newton"}, default=None
        For :class:`~influencekit.InfluenceFunction` of a linear model. "newton" removes each
        group by one Newton step without it, and evaluates outputs or properties after it; the
        others sum over rows. None keeps the attributor's own.
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
    damping_ : float, or ndarray of shape (n_models,)
        Where the attributor has a damping.
    property_value_ : float, or ndarray of shape (n_properties,) for a list or dict
        Value for the data last given to ``score``; the mean over several models.

    Notes
    -----
    ``score[i, j] = Σ_{l in group j} score_point[i, l]``; positive marks a proponent: a group
    without which the output, or the property, is predicted to be lower.  For
    :class:`FurtherTraining` it is the measured effect of training on without the group.

    A property enters by its derivative by the outputs, so that its score is the predicted
    ``property(full) - property(without the group)`` to first order in the change of outputs, for
    every attributor that is linear in the output's gradient (:class:`GradCos` is not).  A search
    inside chooses by its own ``output``.

    With ``curvature="groups"``: ``τ_j = -vᵀ (BᵀB + λI)⁻¹ G_j / W`` with group sums G_j of the
    weighted loss gradients, W the sum of weights, and rows ``G_j / √W`` ("sum") or
    ``G_j / √(W s_j)`` ("mean", s_j the group's weight) in B.  The model's own penalty
    is left out.  For groups of one both are the attributor itself.  The mean form never exceeds
    the Fisher matrix of points; the difference is the scatter inside groups.

    Searches and studies take a GroupAttributor with a grouper of its own, and choose its
    ``attributor__damping``.

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
        "attributor": [BaseAttributor],
        "grouper": [InstanceWith(["fit"]), None],
        "reduce": [StrOptions({"sum", "mean"})],
        "curvature": [StrOptions({"points", "groups"})],
        "property": [StrOptions({"mean_neg_loss"}), callable, list, tuple, dict, None],
        "fisher_form": [StrOptions({"auto", "sum", "mean"})],
        "removal_order": [StrOptions(set(REMOVAL_ORDERS)), None],
        "trak_kernel": [StrOptions({"output", "loss"})],
    }

    fitted_: Sequence[Any]

    def __init__(
        self,
        attributor: Any,
        grouper: Any = None,
        *,
        reduce: str = "sum",
        curvature: str = "points",
        property: Any = None,
        fisher_form: str = "auto",
        removal_order: str | None = None,
        trak_kernel: str = "output",
    ):
        self.attributor = attributor
        self.grouper = grouper
        self.reduce = reduce
        self.curvature = curvature
        self.property = property
        self.fisher_form = fisher_form
        self.removal_order = removal_order
        self.trak_kernel = trak_kernel

    @with_gradients
    def fit(
        self,
        model: Any,
        X: Any,
        y: Any = None,
        groups: Any = None,
        *,
        sample_weight: Any = None,
        X_fit: Any = None,
        **queries: Any,
    ) -> Self:
        """Partition the training examples, and learn what scoring needs.

        Parameters
        ----------
        model : fitted model, Task, or list of them
            Scores of several models are averaged, and a grouper uses the first.
        X, y : array-like
            Training data, as given to the model's ``fit``.
        groups : array-like of shape (n_train,) or (n_train, n_columns), default=None
            Labels in place of a grouper; for several columns, their combinations are the groups.
        sample_weight, X_fit, **queries
            As every attributor takes them; what a search inside asks for, such as ``X_query``.

        Returns
        -------
        self : object
        """
        self._check(groups, queries)
        compare_row_labels(X=X, y=y, groups=groups)
        models, train = self._open(model, X, y, sample_weight, X_fit)
        self._remember()
        if self.property is not None:
            for one in named_properties(self.property).values():
                for task in each(models):
                    resolve_property(task, one)  # its refusals, before any work
        self._partition(self.task_, X, y, train, groups)
        self.attributor_ = clone(self.attributor)
        set_order(self.attributor_, self.removal_order)
        if self.curvature == "groups":
            self._keep(*fishers_of(self, models, train))
            return self
        if isinstance(self.attributor_, FurtherTraining):
            self.attributor_.set_params(groups=self.labels_, left_out=None)
        more = {"sample_weight": sample_weight, "X_fit": X_fit, **queries}
        self.attributor_.fit(model if queries else models, X, y, **more)  # searches retrain
        if self.property is not None:
            explain(self.attributor_, SlopeOutput())
        self._keep(self.attributor_.fitted_, self.attributor_._rows)
        return self

    def _fit(self, _task: Task, _train: Examples) -> Fitted:
        raise TypeError("GroupAttributor fits the attributor that it holds.")

    def _check(self, groups: Any, queries: dict[str, Any]) -> None:
        """Refuse arguments that contradict each other, before any work."""
        if not isinstance(self.attributor, BaseAttributor):
            name = getattr(self.attributor, "__name__", repr(self.attributor))
            raise ValueError(
                f"attributor: got {name} ({type(self.attributor).__name__}); accepted is "
                "an attributor of "
                "single examples, such as InfluenceFunction()."
            )
        if self.attributor._grouped is not None:
            raise ValueError(
                "attributor: got one that scores groups already; accepted is an attributor of "
                "single examples. A search goes around the groups, or inside them around single "
                "examples: LDSSearch(GroupAttributor(InfluenceFunction()))."
            )
        if groups is not None and self.grouper is not None:
            raise ValueError("groups, grouper: got both; accepted is one of the two.")
        if self.curvature == "groups" and not isinstance(
            self.attributor, (InfluenceFunction, TRAK)
        ):
            raise ValueError(
                f"curvature='groups': {type(self.attributor).__name__} does not have a group form; "
                "accepted are InfluenceFunction('fisher') and TRAK. Use curvature='points'."
            )
        check_queries(self.attributor, queries)
        if self.property is not None:
            check_explains(self.attributor)

    def _partition(self, task: Any, X: Any, y: Any, train: Any, groups: Any = None) -> None:
        """Group the rows; ``train`` are those of X and y, opened."""
        found = partition(self.grouper, task, X, y, train, groups)
        self.grouper_, self.labels_, self.group_names_ = found
        self.n_groups_ = len(self.group_names_)
        self.group_sizes_ = np.bincount(self.labels_, minlength=self.n_groups_)

    @with_gradients
    def score(self, X: Any, y: Any = None, *, by: str = "example", return_std: bool = False) -> Any:
        """Score every group.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None
            Test targets.  None explains the model's own predictions.
        by : {"example", "token"}, default="example"
            "token": one score for each token of the test texts.
        return_std : bool, default=False
            Refused: the spread of sums over groups is not known.

        Returns
        -------
        scores : ndarray of shape (n_test or n_properties, n_groups) or (n_test, n_groups, n_tokens)
        """
        return super().score(X, y, by=by, return_std=return_std)

    def _all_scores(self, queries: Examples | ExamplesList) -> np.ndarray:
        if self.property is None:
            scores = np.concatenate(list(self._blocks(queries)))
        else:
            scores = self._property_scores(queries)
        scores = scores / self.group_sizes_ if self.reduce == "mean" else scores
        check_scores(scores)
        return scores

    def _score_blocks(
        self, queries: Examples | ExamplesList
    ) -> Iterator[tuple[Examples | ExamplesList, np.ndarray]]:
        if self.property is None:
            return super()._score_blocks(queries)
        return iter([(queries, self._all_scores(queries))])  # of all queries together

    def _columns(self) -> tuple[int, str]:
        return self.n_groups_, "n_groups"

    @property
    def damping_(self) -> Any:
        """λ in use: a float, or an ndarray with one for each of several models."""
        if self.curvature == "groups":
            return of_models([fitted.damping for fitted in self.fitted_])
        return self.attributor_.damping_

    @property
    def eigenvalues_(self) -> np.ndarray:
        """Eigenvalues of the attributor's curvature, or of the groups' Fisher matrix."""
        if self.curvature == "groups":
            return np.sort(np.concatenate([fitted.eigenvalues for fitted in self.fitted_]))
        return self.attributor_.eigenvalues_

    @available_if(has_damping)
    @with_gradients
    def set_damping(self, damping: float | str) -> Self:
        """Change the damping of the attributor, or of the groups' Fisher matrix, after the fit.

        Parameters
        ----------
        damping : float or str
            As for the attributor's own ``set_damping``.

        Returns
        -------
        self : object
        """
        check_is_fitted(self, "fitted_")
        if self.curvature == "groups":
            self.attributor_ = clone(self.attributor_).set_params(damping=damping)
            validate_parameters(self.attributor_)
            self.fitted_ = [fitted.at(damping) for fitted in self.fitted_]
        else:
            self.attributor_ = copy.copy(self.attributor_).set_damping(damping)
            self.fitted_ = self.attributor_.fitted_
        self.attributor = clone(self.attributor).set_params(damping=damping)
        return self

    @available_if(has_path)
    @with_gradients
    def damping_path(self, X: Any, y: Any = None) -> Any:
        """Scores, surrogate indicator and subset sums at any damping, not divided by sizes.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None

        Returns
        -------
        DampingPath
            Over the training rows, whose sums are the groups' scores; with
            ``curvature="groups"`` over the groups.
        """
        if self.curvature == "points":
            return self.attributor_.damping_path(X, y)
        pairs = zip(self.fitted_, each(self._queries(X, y)), strict=True)
        paths = [fisher.path(queries) for fisher, queries in pairs]
        columns = np.arange(self.n_groups_)
        return paths[0] if len(paths) == 1 else MeanPath(paths, [columns] * len(paths), columns)

    def _property_scores(self, queries: Examples | ExamplesList) -> np.ndarray:
        """A row of scores for each property, (n_properties, n_groups)."""
        single = isinstance(self.property, str) or callable(self.property)
        if self._removes_whole:
            of_groups, effects = property_effects(self, queries)
            self.property_value_ = of_groups[0] if single else np.array(of_groups)
            return effects
        given = named_properties(self.property).values()
        values, parts = zip(*(sloped(self._models, one, queries) for one in given), strict=True)
        self.property_value_ = values[0] if single else np.array(values)
        if self.curvature == "points":
            return np.stack([sum(block.sum(0) for block in self._blocks(one)) for one in parts])
        own = zip(*map(each, parts), strict=True)  # the parts of each model
        found = [fisher.scores_of_sums(p) for fisher, p in zip(self.fitted_, own, strict=True)]
        return np.mean(found, axis=0)

    def _blocks(self, queries: Any) -> Iterator[np.ndarray]:
        """Scores of the queries, slice by slice."""
        for rows in chunks(queries.n_examples, self.n_train_, _BLOCK):
            yield self._block(queries.take(rows))

    def _block(self, queries: Any) -> np.ndarray:
        """Sums over groups, (n_queries, n_groups)."""
        if self.curvature == "groups":
            pairs = zip(self.fitted_, each(queries), strict=True)
            return np.mean([fisher.scores(own) for fisher, own in pairs], axis=0)
        if isinstance(self.attributor_, FurtherTraining):
            return self._measured(queries)
        if self._removes_whole:
            return group_effects(self, queries)
        n, rows = self.n_train_, np.arange(self.n_train_)
        places = (np.ones(n), (self.labels_, rows))
        picked = scipy.sparse.csr_array(places, shape=(self.n_groups_, n))
        return (picked @ self.attributor_._all_scores(queries).T).T
