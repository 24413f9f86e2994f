"""Influence functions, with any curvature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.metaestimators import available_if
from torch import Tensor

from influencekit._fitted import (
    GRADIENT_CONSTRAINTS,
    LAYERS,
    DampedMixin,
    Fitted,
    gradient_engine,
    of_models,
    training_gradients,
    training_weights,
)
from influencekit.attributors._horizon import (
    endpoint_task,
    further_training_of,
    sgd_config,
)
from influencekit.attributors.further._further_training import FurtherTraining
from influencekit.attributors.influence._available import has_eigenvalues, is_solved
from influencekit.attributors.influence._deviations import (
    coefficient_deviations,
    score_deviations,
)
from influencekit.attributors.influence._fitted_influence import (
    FittedInfluence,
    checked_factorized,
    warn_unless_projected,
)
from influencekit.attributors.influence._influential_rows import FindsRows
from influencekit.attributors.influence._predicted_endpoint import predicted_task, unmoved_task
from influencekit.attributors.influence._removes_rows import (
    RemovesRows,
    coefficient_scores,
    exact_removal,
)
from influencekit.attributors.influence._stationary import gradient_ratio, warn_unless_stationary
from influencekit.base import BaseAttributor
from influencekit.curvature._base import FittedCurvature
from influencekit.curvature._mean_path import MeanPath
from influencekit.curvature._problem import CURVATURES, Curvature, CurvatureProblem, make_curvature
from influencekit.curvature._solution import Solution
from influencekit.curvature._spectrum import DampingPath
from influencekit.curvature.exact._automatic import automatic_curvature
from influencekit.curvature.exact._centered_space import with_centered_features
from influencekit.damping._matched import matched_damping
from influencekit.damping._of_model import default_damping
from influencekit.data._examples import Examples, each
from influencekit.gradients.projections._make_projection import PROJECTIONS
from influencekit.models._outputs import OUTPUTS
from influencekit.models._task import Task
from influencekit.removal._whitened import REMOVAL_ORDERS
from influencekit.training.further._training import Training
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import Interval, StrOptions, validate_parameters

__all__ = ["InfluenceFunction"]


class InfluenceFunction(RemovesRows, FindsRows, DampedMixin, BaseAttributor):
    """Predicted effect of leaving a training example out, to first order around the model.

    ``score_ij = f_i(θ) - f_i(θ without j) ≈ -<∇f_i, (A + λI)⁻¹ ∇loss_j> w_j / W`` with the
    curvature ``A = F + R`` of the mean training loss (F) and its penalty (R), at damping λ.

    Parameters
    ----------
    curvature : str or Curvature, default="auto"
        "ggn" is the generalized Gauss-Newton matrix, which is the Hessian for linear models;
        scores are in units of the output.  "auto" is "ggn" for examples with up to 100 outputs, or
        if its rows fit ``max_memory``.  For more outputs (segmentation, 1,000 classes, language
        models) it is the same with labels drawn from the model, or "fisher" where these rows do
        not fit either; a warning and ``curvature_.name`` say which.  It is "hessian" where the
        deviance of a generalized linear model is not convex.  For nets on 100,000 rows or more,
        "auto" takes the "ggn" of 50,000 rows.  "fisher" is the empirical Fisher matrix: cheaper,
        but its scores are right only up to scale.  "cg", "lissa", "arnoldi" and "nystroem"
        approximate "ggn" without forming it; "ekfac", "kfac", "logra" and "datainf" by blocks of
        layers; "hessian" is the dense Hessian.  ``influencekit.curvature`` has their parameters.
    damping : float, "auto" or "matched", default="auto"
        λ, added to the curvature of the *mean* loss, in addition to the model's own penalty.
        "auto" is 0 for scikit-learn's linear models: those with a convex objective, and
        generalized linear models at another minimum.  For other models it is the λ at which scores
        have a mean cosine of 0.57 with those of :class:`GradDot` and ξ is at least 0.3. For a
        classifier that was stopped before its optimum, the effective dimension is also capped by
        the effective sample size; see Notes.  "matched" is ``1 / (learning rate · steps)`` of
        ``further_training``, with momentum β ``(1 - β) / (learning rate · steps)``: scores then
        describe that much further training with SGD.
    projection_dim : int or None, default=None
        Project gradients to this number of dimensions first ("logra": over all layers together).
        None is exact, unless that would be too large; then it projects and warns. Only "ggn",
        "fisher" and "logra" project.
    projection : {"auto", "rademacher", "gaussian", ...}, default="auto"
        Kind of random projection; see :func:`influencekit.gradients.make_projection`.
    at : {"model", "corrected", "predicted", "endpoint"}, default="model"
        Where gradients and curvature are computed. "model": at the fitted model. "endpoint": at the
        end of one run of ``further_training`` on all data. "predicted": where that run is predicted
        to end, without training; gradients are then taken at the linearized model's outputs there.
        "corrected": like "predicted" for the training gradients and the curvature, but with the
        output's gradient at the fitted model, as in the paper's proposition; it is there for
        comparison. All but "model" are for models that are not at a stationary point.
    further_training : Training, FurtherTraining or None, default=None
        Learning rate and steps for ``damping="matched"`` and ``at``. None is a skorch net's own.
    removal_order : {"first", "leverage", "newton"}, default="first"
        For linear models, how far a row's removal is followed. "first" is to first order, too small
        by the factor 1 - leverage for least squares; "leverage" divides each row's step by its
        leverage block; "newton" is one Newton step without the row, or the group, and evaluates the
        output after it.
    output : {"auto", "neg_loss", "margin", "logit", "prediction", "coef"} or callable
        The explained output, the higher the better: the negative loss; a classifier's log-odds
        ("margin") or logit of the given class; a regressor's prediction; or a torch function
        ``output(outputs, targets) -> (n,)``. "auto" is the negative loss, or the prediction of a
        regressor if ``score`` gets no targets. "coef" explains a linear model's coefficients:
        ``score(["age", "Intercept"])`` takes names or positions in place of X.
    layers : str, list of str or None, default=None
        Layers that scores are computed from; all other parameters are constants. "last", or names
        or patterns of modules or parameters, such as ``"encoder.*.attention"``; None is all.
    batch_size : int or None, default=None
        Examples whose gradients are taken at a time, or None; results do not depend on it.
    max_memory : int, str or None, default=None
        Bytes that may be taken, or a text such as "2GB". None holds at most 1 GiB, whatever is
        free, and refuses what needs more than half of the free memory.
    random_state : int, RandomState instance or None, default=None
        Seed for the random projection, and for the further training with ``at="endpoint"``.
    verbose : int, default=0
        1 shows progress over batches of gradients.

    Attributes
    ----------
    task_ : Task
        Snapshot of the model.
    damping_ : float
        λ in use.
    eigenvalues_ : ndarray of shape (rank,)
        Eigenvalues of the curvature without damping, if it has them.
    curvature_ : FittedCurvature
        The factorized curvature, with its own attributes.
    gradient_ratio_ : float
        Norm of the objective's gradient over the root mean square norm of the examples'
        gradients: 0 at a stationary point.
    n_train_ : int
    train_rows_ : ndarray of int
        Rows of the training data that the model learned from.

    Notes
    -----
    As an approximation of :class:`FurtherTraining`: second order at a stationary point, a step to
    the minimum of a damped quadratic with and without the example. ``curvature`` says which matrix
    replaces the Hessian. ``at="predicted"`` and ``at="endpoint"`` keep the term that comes from a
    gradient that is not zero yet; ``at="corrected"`` keeps it only in the gradients of the training
    examples. Self-influence uses the training gradients on both sides.

    Scores predict the effect of removing the example's term from the mean loss, with the rest of
    the objective unchanged: for objectives that sum over examples (Ridge, LogisticRegression),
    retraining without the example.

    For scikit-learn's linear models (up to 1,000 parameters, "ggn" and "fisher"), the curvature is
    decomposed with centered features in float64; without a penalty, default scores do not depend
    on the units of columns.

    The default damping of other models scales with the spectrum: it is the λ at which the scores of
    training examples have a mean cosine of 0.57 with their scores at infinite damping (inner
    products of gradients), or at which the surrogate indicator ξ is 0.3, if that is larger. The
    values are measured, not from a paper: the linear datamodeling score was on average 0.99 of the
    best in 40 held-out cells, and 0.88 at worst. For a classifier with ``gradient_ratio_`` above
    0.005, the effective dimension is at most a third (two thirds for curvatures by layers) of the
    effective sample size times the number of free outputs. For a regression net with a lower ratio
    and a penalty on every parameter, "ggn" gets at most the smallest penalty (see the user guide).

    The curvature is decomposed once, in the space of the parameters, of the projection, or of the
    examples' curvature rows, whichever is smallest; every further damping costs only elementwise
    operations.  Cost ``O(N d min(N, d) + min(N, d)³)`` for N curvature rows (n for
    "fisher", about n · n_classes for "ggn") and d dimensions.

    References
    ----------
    .. [1] P. W. Koh, P. Liang. Understanding black-box predictions via influence functions.
       ICML 2017, arXiv 1703.04730.
    .. [2] J. Martens. New insights and perspectives on the natural gradient method.
       JMLR 2020, arXiv 1412.1193.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import InfluenceFunction
    >>> X, y = load_iris(return_X_y=True)
    >>> influence = InfluenceFunction().fit(LogisticRegression(max_iter=1000).fit(X, y), X, y)
    >>> influence.score(X[:2], y[:2]).shape
    (2, 150)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **GRADIENT_CONSTRAINTS,
        "layers": LAYERS,
        "curvature": [StrOptions({"auto", *CURVATURES}), Curvature],
        "damping": [Interval(Real, 0, None, closed="left"), StrOptions({"auto", "matched"})],
        "at": [StrOptions({"model", "corrected", "predicted", "endpoint"})],
        "further_training": [Training, FurtherTraining, None],
        "projection_dim": [Interval(Integral, 1, None, closed="left"), None],
        "projection": [StrOptions({"auto", *PROJECTIONS})],
        "removal_order": [StrOptions(set(REMOVAL_ORDERS))],
        "output": [StrOptions({*OUTPUTS, "coef"}), callable],
        "random_state": ["random_state"],
    }

    fitted_: Sequence[FittedInfluence]

    def __init__(
        self,
        curvature: str | Curvature = "auto",
        damping: float | str = "auto",
        *,
        projection_dim: int | None = None,
        projection: str = "auto",
        at: str = "model",
        further_training: Any = None,
        removal_order: str = "first",
        output: str | Callable = "auto",
        layers: str | Sequence[str] | None = None,
        batch_size: int | None = None,
        max_memory: int | str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.curvature = curvature
        self.damping = damping
        self.projection_dim = projection_dim
        self.projection = projection
        self.at = at
        self.further_training = further_training
        self.removal_order = removal_order
        self.layers = layers
        self.output = output
        self.batch_size = batch_size
        self.max_memory = max_memory
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, task: Task, train: Examples) -> Fitted:
        settings = self._checked_curvature()
        weights = training_weights(task, train)
        shares = weights / weights.sum()
        penalty = task.penalty_vector(float(weights.sum()), len(train))
        engine = gradient_engine(self, self._point(task, train, shares, penalty))
        problem = CurvatureProblem(
            training_gradients(engine, train, shares),
            shares,
            penalty,
            projection_dim=self.projection_dim,
            projection=self.projection,
            random_state=self.random_state,
        )
        # its pass over the rows leaves their mean
        curvature = automatic_curvature(problem) if settings is None else settings
        factorized = checked_factorized(curvature, curvature.factorize(problem))
        factorized.settings = curvature
        if self.projection != "auto" and self.projection_dim is None:
            warn_unless_projected(self.projection, factorized)
        asked = None
        if self.at == "corrected":  # the output's gradient stays where the model is
            asked = gradient_engine(self, unmoved_task(engine.task))
        fitted = FittedInfluence(task, factorized, gradient_ratio(problem), self.output, asked)
        fitted.looks_at_leverage = self.at == "model"
        if self.at == "model":
            warn_unless_stationary(fitted.gradient_ratio, problem, factorized)
        if self.removal_order != "first" or self.output == "coef":
            fitted = exact_removal(self, fitted)
        return self._at(fitted, self.damping)

    @with_gradients
    def score(self, X: Any, y: Any = None, *, by: str = "example", return_std: bool = False) -> Any:
        if self.output != "coef" or by != "example":
            return super().score(X, y, by=by, return_std=return_std)
        scores = coefficient_scores(self, X)
        return (scores, self._all_stds(X)) if return_std else scores

    def _all_stds(self, queries: Any) -> np.ndarray:
        deviations = coefficient_deviations if self.output == "coef" else score_deviations
        return deviations(self, queries)

    def _point(self, task: Task, train: Examples, shares: Tensor, penalty: Tensor) -> Task:
        """The model at whose parameters gradients and curvature are taken."""
        if self.at == "model":
            curvature = self._checked_curvature() or make_curvature("ggn")
            return with_centered_features(task, train, curvature, self.projection_dim)
        further = further_training_of(self.further_training, task, self.random_state)
        if self.at == "endpoint":
            return endpoint_task(further, task, train)
        config = sgd_config(further, task, len(train), f"at={self.at!r}")
        return predicted_task(gradient_engine(self, task), train, shares, penalty, config)

    def _checked_curvature(self) -> Curvature | None:
        """The curvature that was asked for; None is "auto"."""
        if self.curvature == "auto":
            return None
        curvature = make_curvature(self.curvature)
        validate_parameters(curvature)
        if self.projection_dim is not None and not curvature.projects:
            raise ValueError(
                f"projection_dim={self.projection_dim}: the curvature {self.curvature!r} does not "
                "project gradients. Leave projection_dim at None, or use a curvature that does: "
                f"{[name for name, kind in CURVATURES.items() if kind.projects]}."
            )
        return curvature

    @property
    def curvature_(self) -> FittedCurvature:
        """The factorized curvature; for several models, see ``fitted_``."""
        if len(self.fitted_) > 1:
            raise AttributeError("curvature_: each of the several models has its own; see fitted_.")
        return self.fitted_[0].curvature

    @property
    def gradient_ratio_(self) -> Any:
        """Size of the objective's gradient: a float, or an ndarray with one for each model."""
        return of_models([fitted.gradient_ratio for fitted in self.fitted_])

    def _named_damping(self, name: str, fitted: Any) -> float:
        if name == "auto":
            moved = self.at != "model"
            return default_damping(fitted.curvature, fitted.task, fitted.gradient_ratio, moved)
        if not fitted.curvature.settings.absolute_damping:
            raise ValueError(
                f"damping='matched': the damping of {self.curvature!r} is a multiple of each "
                f"layer's own scale, so it cannot be matched to a number of steps. Use "
                f"scaled=False."
            )
        further = further_training_of(self.further_training, fitted.task)
        n_rows = len(fitted.curvature.problem.train)
        return matched_damping(sgd_config(further, fitted.task, n_rows, "damping='matched'"))

    @available_if(has_eigenvalues)
    @with_gradients
    def damping_path(self, X: Any, y: Any = None) -> DampingPath:
        """Scores, surrogate indicator and subset sums of test examples at any damping.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None

        Returns
        -------
        DampingPath
            Over the training rows that the model learned from.
        """
        pairs = zip(self.fitted_, each(self._queries(X, y)), strict=True)
        paths = [fitted.path(queries) for fitted, queries in pairs]
        return paths[0] if len(paths) == 1 else MeanPath(paths, list(self._rows), self.train_rows_)

    @available_if(is_solved)
    @with_gradients
    def solution(self, X: Any, y: Any = None) -> Solution | list[Solution]:
        """Products and residual of the system solved for each test example, for "cg" and "lissa".

        Every call solves the systems again. The scores are the products times ``-w_j / W``.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None

        Returns
        -------
        Solution
            Its attributes are arrays: ``products``, ``<∇f_i, (A + λI)⁻¹ ∇loss_j>``, of shape
            (n_test, n_train), 0 for rows that the model never learned from; ``residuals`` and
            ``iterations`` of shape (n_test,).  For several models, a list with one for each.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from influencekit import InfluenceFunction
        >>> X, y = load_iris(return_X_y=True)
        >>> model = LogisticRegression(max_iter=1000).fit(X, y)
        >>> solution = InfluenceFunction("cg").fit(model, X, y).solution(X[:2], y[:2])
        >>> solution.products.shape
        (2, 150)
        >>> bool((solution.residuals <= 1e-5).all())
        True
        """
        triples = zip(self.fitted_, self._rows, each(self._queries(X, y)), strict=True)
        found = [self._solution_of(*triple) for triple in triples]
        return found[0] if len(found) == 1 else found

    def _solution_of(self, fitted: FittedInfluence, rows: Any, queries: Examples) -> Solution:
        solution = fitted.solution(queries)
        return replace(solution, products=self._spread(np.asarray(solution.products), rows))
