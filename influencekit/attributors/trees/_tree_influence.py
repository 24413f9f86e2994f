"""Influence of training rows on the predictions of forests and boosted trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from influencekit._fitted import Fitted
from influencekit.attributors.trees._fitted_averaged import FittedAveraged
from influencekit.attributors.trees._fitted_boosted import FittedBoosted
from influencekit.attributors.trees._replay import replay
from influencekit.attributors.trees._rows import leaves_of, target_matrix
from influencekit.base import BaseAttributor
from influencekit.data._examples import Examples, each
from influencekit.exceptions import ResourceError, UnsupportedModelError
from influencekit.models import OUTPUTS
from influencekit.models._task import Task
from influencekit.models.trees._ensemble import BoostedTrees
from influencekit.models.trees._task import tree_task, trees_of
from influencekit.utils import Interval, StrOptions
from influencekit.utils._long_work import format_bytes, held_memory, memory_limit

__all__ = ["TreeInfluence"]

METHODS = ("auto", "leaf", "boostin", "axil", "kernel")


class TreeInfluence(BaseAttributor):
    """Influence of training rows on forests and boosted trees, with the tree structure held fixed.

    Accepts decision trees, forests, GradientBoosting and HistGradientBoosting models of
    scikit-learn, and the estimators of XGBoost and LightGBM, for regression and for two or more
    classes; also Pipelines and searches that end in one of them.

    **What is held fixed.** The splits stay: a row changes the leaf values, not where the trees
    split. Retraining changes both. The documentation's page about trees measures how much of the
    effect of retraining the leaf values explain.

    Parameters
    ----------
    method : {"auto", "leaf", "boostin", "axil", "kernel"}, default="auto"
        - "leaf": exact derivative of all leaf values with respect to a row's weight; for boosted
          trees, through all later trees too, which are fitted to the residuals of earlier ones.
        - "boostin": boosted trees only.  The first-order pass of BoostIn: each tree by itself, at
          the query's score before that tree.
        - "axil": exact weights of the training labels in the prediction, for squared error, times
          the row's residual under the model; see :meth:`label_weights`.
        - "kernel": shared leaves, weighted by a row's share in them, times the row's residual under
          the model. For forests that draw rows, the residual is that of the trees that did not draw
          the row (out of bag).
        - "auto": "leaf" for boosted trees, or "kernel" if their leaf values cannot be computed from
          the rows; "kernel" for forests and single trees, because the values of pure leaves do not
          change.
    output : {"auto", "neg_loss", "margin", "logit", "prediction"} or callable, default="auto"
        The explained output, as for all attributors. A callable gets the raw scores of boosted
        trees, or the averages of forests (class shares for classifiers).
    max_memory : int, str or None, default=None
        Memory limit for working arrays in bytes, or a string such as "2GB". None is 1 GiB; leaves
        and factors are refused if they need more than half of the free memory.
    n_jobs : int or None, default=None
        Number of threads that process boosted trees for different queries; None is 1, -1 uses all
        cores.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    method_ : str
        The method in use.
    task_ : Task
        Snapshot of the model.  Its inputs are the leaves of each row.
    n_train_ : int
    train_rows_ : ndarray of int
        Rows of the training data that the model learned from.

    Notes
    -----
    Scores are in units of the output: ``w_j ∂f_i/∂w_j``, the change of ``f_i`` due to the weight of
    row j, to first order. Positive marks a proponent.

    Cost: reading the trees, ``O(n T)`` for n rows and T trees; then ``O(q n T)`` for q queries.

    Boosted trees: the value of a leaf of tree t is ``-η G / (H + λ)``, where G and H are the
    weighted sums of the first and second derivatives of the loss at the scores before the tree. One
    sweep from the last tree to the first carries the derivatives of ``f_i`` with respect to every
    training row's score. It costs a factor of the squared number of classes; memory is needed for
    the adjoints of the queries processed together, plus ``O(n T)`` for leaves and factors. Learning
    rate, L2, L1, class weights, ``sample_weight`` and the row sampling of GradientBoosting are
    taken into account; splits on categories, missing values and monotone constraints belong to the
    fixed structure. The starting score changes too, if it was estimated. ``fit`` computes all leaf
    values again and compares them with the model's.

    Not supported, with an error: other losses, dart, goss, linear trees, boosted forests, several
    outputs per tree. XGBoost and LightGBM do not record which rows they sampled for a tree: scores
    are then averages over possible samples, with a
    :class:`~influencekit.exceptions.SampledRowsWarning`.

    References
    ----------
    .. [1] B. Sharchilev, Y. Ustinovskiy, P. Serdyukov, M. de Rijke. Finding influential training
       samples for gradient boosted decision trees. ICML 2018, arXiv 1802.06640.
    .. [2] J. Brophy, Z. Hammoudeh, D. Lowd. Adapting and evaluating influence-estimation methods
       for gradient-boosted decision trees. JMLR 2023, arXiv 2205.00359.
    .. [3] P. Geertsema, H. Lu. Instance-based explanations for gradient boosting machine
       predictions with AXIL weights. 2023, arXiv 2301.01864.
    .. [4] J. S. Rhodes, A. Cutler, K. R. Moon. Geometry- and accuracy-preserving random forest
       proximities. IEEE TPAMI 2023, arXiv 2201.12682.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import HistGradientBoostingClassifier
    >>> from influencekit import TreeInfluence
    >>> X, y = load_iris(return_X_y=True)
    >>> model = HistGradientBoostingClassifier(max_iter=10).fit(X, y)
    >>> influence = TreeInfluence().fit(model, X, y)
    >>> influence.method_, influence.score(X[:2], y[:2]).shape
    ('leaf', (2, 150))
    """

    __metadata_request__fit: ClassVar[dict[str, Any]] = {"model": UNUSED}

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "method": [StrOptions(set(METHODS))],
        "output": [StrOptions(set(OUTPUTS)), callable],
        "max_memory": [Interval(Integral, 1, None, closed="left"), str, None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        method: str = "auto",
        *,
        output: str | Callable = "auto",
        max_memory: int | str | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ):
        self.method = method
        self.output = output
        self.max_memory = max_memory
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _task_of(self, model: Any) -> Task:
        return tree_task(model)

    def _keep(self, fitted: Sequence[Fitted], rows: Sequence[np.ndarray]) -> None:
        super()._keep(fitted, rows)
        first: Any = fitted[0]
        self.method_ = first.method

    def _fit(self, task: Task, train: Examples) -> Fitted:
        trees, memory = trees_of(task), held_memory(self.max_memory)
        self._check_room(trees.n_trees, len(train), memory_limit(self.max_memory))
        leaves, matrix = leaves_of(train), target_matrix(task, train)
        given, method = _given_weights(train), self._method_of(trees)
        targets: Any = train.targets
        of_classes = task.example_weights(targets)
        weights = given if of_classes is None else given * of_classes.double().numpy()
        if not isinstance(trees, BoostedTrees):
            check = self.method != "kernel" and (method != "kernel" or trees.refusal is None)
            likely = _likely_weights(task, train, weights)
            rest = (targets, method, self.output, check)
            return FittedAveraged(task, leaves, matrix, likely, *rest)
        trusting = method == "kernel"
        apart = getattr(task.estimator, "scale_pos_weight", None) is not None
        rows = (leaves, matrix, weights, given if apart else weights)
        done = replay(trees, *rows, task.name, trusting=trusting)
        more = (self.output, memory, self.n_jobs, self.verbose)
        return FittedBoosted(task, done, targets, method, *more)

    def _method_of(self, trees: Any) -> str:
        """The method for these trees, or a refusal."""
        boosted = isinstance(trees, BoostedTrees)
        if self.method == "auto":
            return "leaf" if boosted and trees.refusal is None else "kernel"
        if self.method == "boostin" and not boosted:
            raise UnsupportedModelError(
                "method: got 'boostin', which follows the order of boosted trees; the trees of "
                "this model are averaged instead. Accepted are 'kernel', 'leaf' and 'axil', or "
                "'auto'."
            )
        if self.method == "axil" and boosted and trees.loss != "squared":
            raise UnsupportedModelError(
                "method: got 'axil', whose weights are exact for squared error only; this model "
                f"was trained with the {trees.loss} loss. Accepted are 'leaf', 'boostin', "
                "'kernel' and 'auto'."
            )
        return self.method

    def _check_room(self, n_trees: int, n: int, memory: int) -> None:
        needed = 12 * n_trees * n
        if needed > memory:
            raise ResourceError(
                f"max_memory: the leaves and factors of {n:,} rows in {n_trees:,} trees take "
                f"{format_bytes(needed)}, more than {format_bytes(memory)}. Raise max_memory, or "
                "fit the model with fewer trees."
            )

    def label_weights(self, X: Any) -> np.ndarray:
        """Weight of every training label in the predictions (AXIL), with fixed tree structure.

        ``predict(X)`` of a regressor, and the class shares of a forest, are ``weights @ y``. If
        boosting starts at a custom number b, they are ``b + weights @ (y - b)``.

        Parameters
        ----------
        X : array-like of n_test examples

        Returns
        -------
        ndarray of shape (n_test, n_train)
            The weights, averaged over several models.

        Raises
        ------
        UnsupportedModelError
            If the model was not trained with squared error, or the method is not "axil" (or, for
            forests, "kernel").
        """
        check_is_fitted(self, "fitted_")
        fitted: Sequence[Any] = self.fitted_
        if not all(one.has_weights for one in fitted):
            raise UnsupportedModelError(
                f"method: labels have exact weights with method='axil'; this is {self.method_!r}. "
                "Fit TreeInfluence(method='axil') on a model with squared error, or on a forest."
            )
        queries = self._queries(X, None)
        pairs = zip(fitted, self._rows, each(queries), strict=True)
        total = np.zeros((each(queries)[0].n_examples, self.n_train_))
        for one, rows, own in pairs:
            total += self._spread(one.label_weights(own), rows)
        return self._combine(total, len(fitted))


def _likely_weights(task: Task, train: Examples, weights: np.ndarray) -> list[np.ndarray]:
    """Weights of a forest's rows: scikit-learn balances classes by their rows or their weight."""
    if task.class_weight != "balanced" or train.weights is None:
        return [weights]
    targets: Any = train.targets
    return [weights, task.example_weights(targets, train.weights.double()).cpu().numpy()]


def _given_weights(train: Examples) -> np.ndarray:
    """``sample_weight`` of the rows that the model learned from."""
    if train.weights is None:
        return np.ones(len(train))
    return train.weights.double().cpu().numpy()
