"""Influence functions, with any curvature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from influencekit._fitted import (
    GRADIENT_CONSTRAINTS,
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
from influencekit.attributors.influence._fitted_influence import (
    FittedInfluence,
    gradient_ratio,
    warn_unless_stationary,
)
from influencekit.attributors.influence._predicted_endpoint import predicted_task, unmoved_task
from influencekit.base import BaseAttributor
from influencekit.curvature._base import FittedCurvature, SolvedCurvature
from influencekit.curvature._mean_path import MeanPath
from influencekit.curvature._problem import CURVATURES, Curvature, CurvatureProblem, make_curvature
from influencekit.curvature._solution import Solution
from influencekit.curvature._spectrum import DampingPath, Spectrum
from influencekit.curvature.exact._centered_space import with_centered_features
from influencekit.damping._default import auto_damping, convex_damping, least_damping
from influencekit.damping._matched import matched_damping
from influencekit.data._examples import Examples, each
from influencekit.gradients.projections._make_projection import PROJECTIONS
from influencekit.models._task import Task
from influencekit.training.further._training import Training
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import Interval, StrOptions, validate_parameters

__all__ = ["InfluenceFunction"]


def _has_eigenvalues(attributor: Any) -> bool:
    """Whether a damping path exists: always but for curvatures that are solved λ by λ."""
    check_is_fitted(attributor, "fitted_")
    return hasattr(attributor, "eigenvalues_")


def _is_solved(attributor: Any) -> bool:
    """Whether the curvature is solved for each query and λ."""
    check_is_fitted(attributor, "fitted_")
    if not isinstance(attributor.fitted_[0].curvature, SolvedCurvature):
        raise AttributeError(
            f"solution: curvature={attributor.curvature!r} solves no system for each query, so "
            "that there are no residuals; curvature='cg' and 'lissa' do. score has the scores."
        )
    return True


class InfluenceFunction(DampedMixin, BaseAttributor):
    """Predicted effect of taking a training example out, to first order around the model.

    ``score_ij = f_i(θ) - f_i(θ without j) ≈ -<∇f_i, (A + λI)⁻¹ ∇loss_j> w_j / W`` with the
    curvature ``A = F + R`` of the mean training loss (F) and its penalty (R), at damping λ.

    Parameters
    ----------
    curvature : str or Curvature, default="ggn"
        "ggn" is the generalized Gauss-Newton matrix, which is the Hessian for linear models;
        scores are in units of the output.  "fisher" is the empirical Fisher matrix, cheaper,
        and right up to scale only.  "cg", "lissa", "arnoldi" and "nystroem" approximate "ggn"
        without forming it, "ekfac", "kfac", "logra" and "datainf" by blocks of layers; "hessian"
        is dense.  Objects of ``influencekit.curvature`` have parameters of their own.
    damping : float, "auto" or "matched", default="auto"
        λ, added to the curvature of the *mean* loss beside the model's own penalty.
        "auto" is 0 for scikit-learn's linear models, whose objective is convex.  For others it is
        the λ at which scores have a mean cosine of 0.57 with those of
        :class:`GradDot`, ξ is at least 0.3, and, for a classifier that was stopped before its
        optimum, the number of directions that count is capped by the effective
        sample size, see Notes.  "matched" is
        ``1 / (learning rate · steps)`` of ``further_training``, with momentum β
        ``(1 - β) / (learning rate · steps)``: scores then answer for so much further training
        with SGD.
    projection_dim : int or None, default=None
        Project gradients to so many dimensions before anything else ("logra": over all layers
        together).  None is exact unless the decomposition would be too large; then it projects
        and warns.  Other curvatures than "ggn", "fisher" and "logra" do not project.
    projection : {"auto", "rademacher", "gaussian", ...}, default="auto"
        Kind of random projection; see :func:`influencekit.gradients.make_projection`.
    at : {"model", "corrected", "predicted", "endpoint"}, default="model"
        Where gradients and curvature are taken: at the fitted model; at the end of one run of
        ``further_training`` on all data ("endpoint"); or where that run is predicted to end,
        without training ("predicted"): gradients of loss and output are then taken at the
        linearized model's outputs there.  "corrected" takes the training examples' gradients
        and the curvature there, and the output's at the fitted model, as the paper's
        proposition has it; it is here to compare with.  For models that are not at a
        stationary point.
    further_training : Training, FurtherTraining or None, default=None
        Says learning rate and steps for ``damping="matched"`` and ``at``.  None is the fitted
        skorch net's own training once more.
    output : {"auto", "neg_loss", "margin", "logit", "prediction"} or callable, default="auto"
        What is explained, the higher the better: the negative loss; a classifier's
        log-odds or logit of the given class; a regressor's prediction; or
        ``output(outputs, targets) -> (n,)`` in torch.  "auto" is the negative loss, or the
        prediction of a regressor when ``score`` gets no targets.
    batch_size : int or None, default=None
        Examples whose gradients are taken at a time; None chooses from ``max_memory``.
        Results do not depend on it.
    max_memory : int, str or None, default=None
        Bytes that may be taken, or a text such as "2GB"; None is half of the free memory.
    random_state : int, RandomState instance or None, default=None
        Of the random projection, and of the run of a Training for ``at="endpoint"``.
    verbose : int, default=0
        1 shows progress over batches of gradients.

    Attributes
    ----------
    task_ : Task
        Snapshot of the model.
    damping_ : float
        λ in use.
    eigenvalues_ : ndarray of shape (rank,)
        Of the curvature without damping, where it has any.
    curvature_ : FittedCurvature
        The factorized curvature, with what it has to report.
    gradient_ratio_ : float
        Norm of the objective's gradient over the root mean square norm of the examples'
        gradients: 0 at a stationary point.
    n_train_ : int
    train_rows_ : ndarray of int
        Rows of the training data that the model learned from.

    Notes
    -----
    Place among approximations of :class:`FurtherTraining`: the second order at a stationary point,
    a step to the minimum of a damped quadratic with and without the example; which matrix stands
    for the Hessian is the curvature's part.  ``at="predicted"`` and ``at="endpoint"`` keep the
    term that a gradient not yet zero adds; ``at="corrected"`` keeps it in the training examples'
    gradients only.  Self-influence takes the training gradients on both sides.

    Scores refer to taking the example's term out of the mean loss and leaving the rest of the
    objective alone.  For objectives that sum over examples (Ridge, LogisticRegression) that is
    retraining without the example.

    Linear models of scikit-learn (up to 1,000 parameters, "ggn" and "fisher") are decomposed with
    centered features in float64; without a penalty their default scores do not depend on the units
    of the columns.

    The default damping of other models scales with the spectrum: it is where the cosine between a
    training example's scores and its scores at infinite damping, inner products of gradients, is
    0.57 in the mean, or where the surrogate indicator ξ is 0.3, if that is larger. That is where
    the linear datamodeling score was measured to peak, not a value from a paper: over 40 held-out
    combinations of data, model and curvature it reached 0.99 of the best in the mean, 0.88 at
    worst.  A classifier with ``gradient_ratio_`` above 0.005 takes the λ at which the effective
    dimension is a third (curvatures by layers: two thirds) of its effective sample size times the
    number of free outputs, if that is larger (see the user guide).

    The curvature is decomposed once, in the space of the parameters, of the projection, or of
    the training examples' curvature rows, whichever is smallest; after that every damping costs
    elementwise work.  Cost ``O(N d min(N, d) + min(N, d)³)`` for N curvature rows (n for
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
        "curvature": [StrOptions(set(CURVATURES)), Curvature],
        "damping": [Interval(Real, 0, None, closed="left"), StrOptions({"auto", "matched"})],
        "at": [StrOptions({"model", "corrected", "predicted", "endpoint"})],
        "further_training": [Training, FurtherTraining, None],
        "projection_dim": [Interval(Integral, 1, None, closed="left"), None],
        "projection": [StrOptions({"auto", *PROJECTIONS})],
        "random_state": ["random_state"],
    }

    fitted_: Sequence[FittedInfluence]

    def __init__(
        self,
        curvature: str | Curvature = "ggn",
        damping: float | str = "auto",
        *,
        projection_dim: int | None = None,
        projection: str = "auto",
        at: str = "model",
        further_training: Any = None,
        output: str | Callable = "auto",
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
        self.output = output
        self.batch_size = batch_size
        self.max_memory = max_memory
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, task: Task, train: Examples) -> Fitted:
        curvature = self._checked_curvature()
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
        factorized = _checked(curvature, curvature.factorize(problem))
        asked = None
        if self.at == "corrected":  # the output's gradient stays where the model is
            asked = gradient_engine(self, unmoved_task(engine.task))
        fitted = FittedInfluence(task, factorized, gradient_ratio(problem), self.output, asked)
        if self.at == "model":
            warn_unless_stationary(fitted.gradient_ratio, problem)
        return self._at(fitted, self.damping)

    def _point(self, task: Task, train: Examples, shares: Tensor, penalty: Tensor) -> Task:
        """The model at whose parameters gradients and curvature are taken."""
        if self.at == "model":
            curvature = make_curvature(self.curvature)
            return with_centered_features(task, train, curvature, self.projection_dim)
        further = further_training_of(self.further_training, task, self.random_state)
        if self.at == "endpoint":
            return endpoint_task(further, task, train)
        config = sgd_config(further, task, len(train), f"at={self.at!r}")
        return predicted_task(gradient_engine(self, task), train, shares, penalty, config)

    def _checked_curvature(self) -> Curvature:
        curvature = make_curvature(self.curvature)
        validate_parameters(curvature)
        if self.projection_dim is not None and not curvature.projects:
            raise ValueError(
                f"projection_dim={self.projection_dim}: the curvature {self.curvature!r} does not "
                "project gradients. Leave projection_dim at None, or take a curvature that does: "
                f"{[name for name, kind in CURVATURES.items() if kind.projects]}."
            )
        return curvature

    @property
    def curvature_(self) -> FittedCurvature:
        """The factorized curvature; of several models each has its own, in ``fitted_``."""
        if len(self.fitted_) > 1:
            raise AttributeError("curvature_: each of several models has its own, in fitted_.")
        return self.fitted_[0].curvature

    @property
    def gradient_ratio_(self) -> Any:
        """Size of the objective's gradient: a float, or an ndarray with one for each model."""
        return of_models([fitted.gradient_ratio for fitted in self.fitted_])

    def _named_damping(self, name: str, fitted: Any) -> float:
        if name == "auto":
            if fitted.task.convex and self.at == "model":
                return convex_damping(fitted.curvature)
            damping = auto_damping(fitted.curvature)
            if self.at != "model" or not isinstance(fitted.curvature, Spectrum):
                return damping
            curvature = make_curvature(self.curvature)
            return max(damping, least_damping(curvature, fitted.curvature, fitted.gradient_ratio))
        if not make_curvature(self.curvature).absolute_damping:
            raise ValueError(
                f"damping='matched': the damping of {self.curvature!r} is a multiple of each "
                "layer's own scale, so that no number of steps matches it. Use scaled=False."
            )
        further = further_training_of(self.further_training, fitted.task)
        n_rows = len(fitted.curvature.problem.train)
        return matched_damping(sgd_config(further, fitted.task, n_rows, "damping='matched'"))

    @available_if(_has_eigenvalues)
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

    @available_if(_is_solved)
    @with_gradients
    def solution(self, X: Any, y: Any = None) -> Solution | list[Solution]:
        """How far the system of each test example was solved, for "cg" and "lissa".

        Every call solves anew.  The scores are its products, times ``-w_j / W``.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None

        Returns
        -------
        Solution
            Of arrays: ``products``, ``<∇f_i, (A + λI)⁻¹ ∇loss_j>``, of shape (n_test, n_train),
            0 in columns of rows that the model never learned from; ``residuals`` and
            ``iterations`` of shape (n_test,).  Of several models a list, one for each.

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


def _checked(curvature: Curvature, factorized: Any) -> FittedCurvature:
    """What an author's ``factorize`` returned, or an error."""
    name = type(curvature).__name__
    if not isinstance(factorized, FittedCurvature):
        raise TypeError(
            f"{name}.factorize returned a {type(factorized).__name__}; it must return a "
            "FittedCurvature of influencekit.curvature."
        )
    if not hasattr(factorized, "problem"):
        raise TypeError(
            f"{name}.factorize returned a {type(factorized).__name__} without the attribute "
            "'problem'. Keep the problem in its __init__."
        )
    return factorized
