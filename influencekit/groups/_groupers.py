"""Ways to partition training examples, in the style of scikit-learn's clusterers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClusterMixin, clone
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.utils import check_random_state

from influencekit.data._examples import Examples, open_examples
from influencekit.groups._features import FEATURES, example_features
from influencekit.groups._labels import encode_labels, label_table, named_groups, refuse_missing
from influencekit.models._task import Task, as_task
from influencekit.training.estimator._rows import count_rows, dataset_of
from influencekit.utils._random import draw_seed
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import (
    InstanceWith,
    Interval,
    StrOptions,
    SuggestingEstimator,
    validate_parameters,
)

__all__ = ["BaseGrouper", "ClusterGrouper", "KMeansGrouper", "LabelGrouper", "RandomGrouper"]

_SIZES: dict[str, list] = {
    "n_groups": [Interval(Integral, 1, None, closed="left"), None],
    "group_size": [Interval(Integral, 1, None, closed="left"), None],
    "random_state": ["random_state"],
}

#: For authors of groupers who took what they got for a model and an array.
_READ_AS_EXAMPLES = (
    "{}._labels got a {} as model and a {} as X: GroupAttributor passes a Task, and searches pass "
    "Examples. Read both with examples = open_examples(as_task(model), X, y)."
)


class BaseGrouper(ClusterMixin, SuggestingEstimator, ABC):
    """Partitions the training examples of a model.

    Authors write ``__init__``, which only stores parameters, ``_parameter_constraints``, which
    says what they accept, and ``_labels(model, X, y)``, which returns one label for each row:
    numbers or texts, none missing.  They may write ``_names(distinct)``, which returns the names
    of the groups, given the sorted distinct labels.  A parameter called ``random_state`` gets a
    seed from searches.

    Attributes
    ----------
    labels_ : ndarray of int of shape (n_train,)
        Group of each row, from 0 to ``n_groups_ - 1``; no group is empty.
    n_groups_ : int
    group_names_ : ndarray of str of shape (n_groups,)

    Notes
    -----
    What ``_labels`` gets depends on the caller.  A direct ``fit`` passes on what it was given.
    A :class:`GroupAttributor` passes a Task as ``model``.  A search passes
    :class:`~influencekit.data.Examples` as ``X`` and None as ``y``.
    ``open_examples(as_task(model), X, y)`` reads all of them: inputs as the model takes them,
    after the steps of a Pipeline, and encoded targets.
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {}

    @with_gradients
    def fit(self, model: Any, X: Any, y: Any = None) -> Self:
        """Partition the training examples.

        Parameters
        ----------
        model : fitted model or Task
            As for :func:`~influencekit.as_task`; some groupers do not use it.
        X, y : array-like
            Training data, as given to the model's ``fit``.

        Returns
        -------
        self : object
        """
        validate_parameters(self)
        self.labels_, distinct = encode_labels(self._checked_labels(model, X, y))
        self.n_groups_ = len(distinct)
        self.group_names_ = self._names(distinct)
        return self

    @with_gradients
    def fit_predict(self, model: Any, X: Any, y: Any = None) -> np.ndarray:
        """Partition, and give the groups.

        Parameters
        ----------
        model : fitted model or Task
        X, y : array-like

        Returns
        -------
        labels : ndarray of int of shape (n_train,)
        """
        return self.fit(model, X, y).labels_

    def _checked_labels(self, model: Any, X: Any, y: Any) -> np.ndarray:
        try:
            labels = np.asarray(self._labels(model, X, y))
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            if isinstance(model, Task) or isinstance(X, Examples):
                kinds = [type(value).__name__ for value in (self, model, X)]
                error.add_note(_READ_AS_EXAMPLES.format(*kinds))
            raise
        name = f"{type(self).__name__}._labels"
        if labels.ndim != 1:
            raise ValueError(
                f"{name}: it returned shape {labels.shape}; it must return one label for each row."
            )
        refuse_missing(labels, name)
        return labels

    @abstractmethod
    def _labels(self, model: Any, X: Any, y: Any) -> np.ndarray:
        """One label for each row."""

    def _names(self, distinct: np.ndarray) -> np.ndarray:
        """Names of the groups, in the order of their sorted distinct labels."""
        return np.array([f"group{i}" for i in range(len(distinct))], dtype=object)


def wanted_groups(n_rows: int, n_groups: int | None, group_size: int | None) -> int:
    """Number of groups that two parameters mean.

    Raises
    ------
    ValueError
        If not exactly one is given, or there would be more groups than rows.
    """
    if n_groups is not None and group_size is None:
        wanted = n_groups
    elif n_groups is None and group_size is not None:
        wanted = -(-n_rows // group_size)
    else:
        raise ValueError(
            f"n_groups, group_size: got {n_groups} and {group_size}; accepted is one of the two, "
            "the number of groups or their mean size."
        )
    if wanted > n_rows:
        raise ValueError(f"n_groups: got {wanted:,} for {n_rows:,} training rows; accepted are "
                         "no more than there are rows.")  # fmt: skip
    return int(wanted)


class RandomGrouper(BaseGrouper):
    """Random groups of equal size: the baseline.

    Parameters
    ----------
    n_groups : int, default=None
    group_size : int, default=None
        Give one of the two; group sizes differ by at most one.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    labels_ : ndarray of int of shape (n_train,)
    n_groups_ : int
    group_names_ : ndarray of str of shape (n_groups,)

    Examples
    --------
    >>> import numpy as np
    >>> from influencekit.groups import RandomGrouper
    >>> labels = RandomGrouper(n_groups=2, random_state=0).fit_predict(None, np.zeros((5, 1)))
    >>> np.bincount(labels)
    array([3, 2])
    """

    _parameter_constraints: ClassVar[dict[str, list]] = _SIZES

    def __init__(
        self,
        n_groups: int | None = None,
        *,
        group_size: int | None = None,
        random_state: Any = None,
    ):
        self.n_groups = n_groups
        self.group_size = group_size
        self.random_state = random_state

    def _labels(self, _model: Any, X: Any, _y: Any) -> np.ndarray:
        n = count_rows(dataset_of(X))
        k = wanted_groups(n, self.n_groups, self.group_size)
        labels = np.empty(n, dtype=np.int64)
        labels[check_random_state(self.random_state).permutation(n)] = np.arange(n) % k
        return labels


class LabelGrouper(BaseGrouper):
    """Groups that are given: sensitive attributes, sources, time blocks, and their crossings.

    Parameters
    ----------
    labels : array-like of shape (n_train,) or (n_train, n_columns), Series or DataFrame
        For several columns, the combinations that occur are the groups.

    Attributes
    ----------
    labels_ : ndarray of int of shape (n_train,)
    n_groups_ : int
    group_names_ : ndarray of str of shape (n_groups,)
        Such as ``"a"`` for one column, ``"sex=1, race=2"`` for several.

    Examples
    --------
    >>> import pandas as pd
    >>> from influencekit.groups import LabelGrouper
    >>> people = pd.DataFrame({"sex": ["f", "m", "f"], "old": [True, True, True]})
    >>> LabelGrouper(people).fit(None, people).group_names_
    array(['sex=f, old=True', 'sex=m, old=True'], dtype=object)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {"labels": [object]}

    def __init__(self, labels: Any):
        self.labels = labels

    def _labels(self, _model: Any, X: Any, _y: Any) -> np.ndarray:
        n = count_rows(dataset_of(X))
        positions, self._given_names = named_groups(label_table(self.labels, n))
        return positions

    def _names(self, _distinct: np.ndarray) -> np.ndarray:
        return self._given_names


class ClusterGrouper(BaseGrouper):
    """Groups by any clusterer or transformer of scikit-learn.

    Parameters
    ----------
    clusterer : estimator
        A clusterer (``fit_predict``), or a transformer whose distinct rows are the groups.
    features : {"gradients", "representations", "inputs"}, default="gradients"
        What it looks at: the derivative of the loss by the input of the last linear layer, that
        input itself, or what the module takes.

    Attributes
    ----------
    clusterer_ : estimator
    labels_ : ndarray of int of shape (n_train,)
    n_groups_ : int
    group_names_ : ndarray of str of shape (n_groups,)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "features": [StrOptions(set(FEATURES))],
        "clusterer": [InstanceWith(["fit_predict"]), InstanceWith(["fit", "transform"])],
    }

    def __init__(self, clusterer: Any, *, features: Any = "gradients"):
        self.clusterer = clusterer
        self.features = features

    def _labels(self, model: Any, X: Any, y: Any) -> np.ndarray:
        return self._cluster(self.clusterer, self._features(model, X, y))

    def _features(self, model: Any, X: Any, y: Any) -> np.ndarray:
        task = as_task(model)
        examples: Any = open_examples(task, X, y)
        return example_features(task, examples, self.features)

    def _cluster(self, clusterer: Any, features: np.ndarray) -> np.ndarray:
        self.clusterer_ = clone(clusterer)
        if hasattr(self.clusterer_, "fit_predict"):
            return self.clusterer_.fit_predict(features)
        if hasattr(self.clusterer_, "transform"):
            found = self.clusterer_.fit_transform(features)
            found = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
            return np.unique(found.reshape(len(found), -1), axis=0, return_inverse=True)[1].ravel()
        raise ValueError(
            f"clusterer: got {type(clusterer).__name__}; accepted is an estimator with fit_predict "
            "(a clusterer) or transform (its distinct rows are the groups)."
        )


class KMeansGrouper(ClusterGrouper):
    """Groups by k-means; with ``features="gradients"`` the Grad-K-Means of the paper [1]_.

    Parameters
    ----------
    n_groups : int, default=None
    group_size : int, default=None
        Give one of the two; this is the mean size, because clusters differ in size.
    features : {"gradients", "representations", "inputs"}, default="gradients"
        See :class:`ClusterGrouper`.
    minibatch_above : int, default=5000
        Rows above which ``MiniBatchKMeans`` takes the place of ``KMeans``.
    n_init : int, default=1
        Number of starts of k-means.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    clusterer_ : KMeans or MiniBatchKMeans
    labels_ : ndarray of int of shape (n_train,)
    n_groups_ : int
        Number of groups: fewer than requested if clusters stay empty.
    group_names_ : ndarray of str of shape (n_groups,)

    Notes
    -----
    K-means on gradients minimizes the within-group scatter, which is what the group form of the
    empirical Fisher matrix drops (``fisher_form="mean"`` of :class:`GroupAttributor`).
    Cost: a forward pass (and the gradient of the last layer's input) of all rows, and k-means.

    References
    ----------
    .. [1] D. Ley, S. Srinivas, S. Zhang, G. Rusak, H. Lakkaraju. Generalized group data
       attribution. 2024, arXiv 2410.09940.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit.groups import KMeansGrouper
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> KMeansGrouper(10, random_state=0).fit(model, X, y).n_groups_
    10
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **_SIZES,
        "features": ClusterGrouper._parameter_constraints["features"],
        "minibatch_above": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_groups: int | None = None,
        *,
        group_size: int | None = None,
        features: Any = "gradients",
        minibatch_above: int = 5000,
        n_init: Any = 1,
        random_state: Any = None,
    ):
        self.n_groups = n_groups
        self.group_size = group_size
        self.features = features
        self.minibatch_above = minibatch_above
        self.n_init = n_init
        self.random_state = random_state

    def _labels(self, model: Any, X: Any, y: Any) -> np.ndarray:
        features = self._features(model, X, y)
        k = wanted_groups(len(features), self.n_groups, self.group_size)
        kind = MiniBatchKMeans if len(features) > self.minibatch_above else KMeans
        state = check_random_state(self.random_state)
        clusterer = kind(k, n_init=self.n_init, random_state=draw_seed(state))
        return self._cluster(clusterer, features)
