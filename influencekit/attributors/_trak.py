"""Attribution by a linear model in projected gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from influencekit._fitted import (
    GRADIENT_CONSTRAINTS,
    LAYERS,
    DampedFitted,
    DampedMixin,
    Fitted,
    gradient_engine,
    query_gradients,
    training_weights,
)
from influencekit.base import BaseAttributor
from influencekit.curvature._mean_path import MeanPath
from influencekit.curvature._problem import CurvatureProblem, fisher_rows
from influencekit.curvature._spectrum import CoordinatePath, CoordinateSpectrum, DampingPath
from influencekit.curvature.exact._exact import decompose
from influencekit.damping._default import auto_damping
from influencekit.data._examples import Examples, ExamplesList, each
from influencekit.gradients._cotangents import loss_cotangent, output_cotangent
from influencekit.gradients._gradients import Gradients
from influencekit.gradients.projections._make_projection import PROJECTIONS
from influencekit.models._outputs import resolve_output
from influencekit.models._task import Task
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import Interval, StrOptions

__all__ = ["TRAK", "NamedOutput", "loss_slopes", "trak_outputs"]


class TRAK(DampedMixin, BaseAttributor):
    """Influence in a linear model on projected gradients of the margin.

    With ``φ = P ∇f`` the projected gradients of the output f, ``Φ`` those of the training
    examples and ``q_j = -∂loss_j/∂f``, which is ``1 - p_j`` for a classifier's margin,
    ``score_ij = φ_iᵀ (ΦᵀΦ/n + λI)⁻¹ φ_j q_j / n``.
    For several models, the kernels and the ``q`` are averaged separately and then multiplied.

    Parameters
    ----------
    damping : float or "auto", default="auto"
        λ, added to the *mean* ``ΦᵀΦ/n``. The TRAK paper adds λ to the sum ``ΦᵀΦ``: its λ is n times
        this one.  "auto" is chosen as for :class:`InfluenceFunction`.
    projection_dim : int or None, default=2048
        Dimensions of φ; None does not project.
    projection : {"auto", "rademacher", "gaussian", ...}, default="auto"
        Kind of random projection; see :func:`influencekit.gradients.make_projection`.
    output : {"auto", "neg_loss", "margin", "logit", "prediction"} or callable, default="auto"
        The output that is explained, and linearized as f. "auto" is the margin log(p / (1 - p)) for
        a classifier. For a regressor, f is the prediction, or the negative loss if it has several
        outputs. The explained output is then the negative loss, or the prediction if ``score`` gets
        no targets.
    layers : str, list of str or None, default=None
        Layers that scores are computed from; all other parameters are constants. "last", or names
        or patterns of modules or parameters, such as ``"encoder.*.attention"``; None is all.
    batch_size : int or None, default=None
        Examples whose gradients are taken at a time; None chooses from ``max_memory``.
    max_memory : int, str or None, default=None
        Bytes that may be taken, or a text such as "2GB". None holds at most 1 GiB, whatever is
        free, and refuses what needs more than half of the free memory.
    random_state : int, RandomState instance or None, default=None
        Seed for the random projection; each of several models has its own projection.
    verbose : int, default=0
        1 shows progress over batches of gradients.

    Attributes
    ----------
    task_ : Task
        Snapshot of the (first) model.
    damping_ : float, or ndarray of shape (n_models,)
        λ in use.
    eigenvalues_ : ndarray
        Eigenvalues of ``ΦᵀΦ/n`` in ascending order, of all models together.
    n_train_ : int
    train_rows_ : ndarray of int
        Rows of the training data that the model learned from.

    Notes
    -----
    As an approximation of :class:`FurtherTraining`: second order, with a randomly projected
    Gauss-Newton matrix in which the identity replaces the Hessian of the loss in the outputs.

    For one model, TRAK is the influence function whose curvature is the Gram matrix of output
    gradients.  The penalty of the training objective is not used.

    ``q_j`` is taken as the coefficient of ``∂loss/∂z`` on ``∂f/∂z`` in the model's outputs z.
    For cross-entropy and the margin they are parallel and the coefficient is ``-(1 - p_j)``.

    Cost: one gradient and one projection for each example, then ``O(n k min(n, k) + min(n, k)³)``
    for k dimensions, for each model.

    References
    ----------
    .. [1] S. M. Park, K. Georgiev, A. Ilyas, G. Leclerc, A. Madry. TRAK: attributing model
       behavior at scale. ICML 2023, arXiv 2303.14186.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import TRAK
    >>> X, y = load_iris(return_X_y=True)
    >>> models = [LogisticRegression(C=C, max_iter=1000).fit(X, y) for C in (0.5, 1.0)]
    >>> TRAK(projection_dim=8, random_state=0).fit(models, X, y).score(X[:2], y[:2]).shape
    (2, 150)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **GRADIENT_CONSTRAINTS,
        "layers": LAYERS,
        "damping": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "projection_dim": [Interval(Integral, 1, None, closed="left"), None],
        "projection": [StrOptions({"auto", *PROJECTIONS})],
        "random_state": ["random_state"],
    }

    fitted_: Sequence[FittedTRAK]

    def __init__(
        self,
        damping: float | str = "auto",
        projection_dim: int | None = 2048,
        *,
        projection: str = "auto",
        output: str | Callable = "auto",
        layers: str | Sequence[str] | None = None,
        batch_size: int | None = None,
        max_memory: int | str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.damping = damping
        self.projection_dim = projection_dim
        self.projection = projection
        self.layers = layers
        self.output = output
        self.batch_size = batch_size
        self.max_memory = max_memory
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, task: Task, train: Examples) -> Fitted:
        weights = training_weights(task, train)
        explained, linearized = trak_outputs(task, self.output, train.targets)
        function = NamedOutput(task, linearized)
        problem = CurvatureProblem(
            Gradients(gradient_engine(self, task), train, output_cotangent(function)),
            weights / weights.sum(),
            torch.zeros(task.n_parameters, dtype=torch.float64, device=task.device),
            projection_dim=self.projection_dim,
            projection=self.projection,
            random_state=self.random_state,
        )
        spectrum = decompose(fisher_rows(problem))
        fitted = FittedTRAK(spectrum, loss_slopes(task, train, function), explained)
        return self._at(fitted, self.damping)

    def _named_damping(self, _name: str, fitted: Any) -> float:
        return auto_damping(fitted.spectrum)

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
        return self._path(self._queries(X, y))

    def _path(self, queries: Examples | ExamplesList) -> DampingPath:
        if len(self.fitted_) == 1:
            return self.fitted_[0].path(each(queries)[0])
        slopes = self._shared_slopes()
        triples = zip(self.fitted_, self._rows, each(queries), strict=True)
        paths = [fitted.path(own, slopes[rows]) for fitted, rows, own in triples]
        return MeanPath(paths, list(self._rows), self.train_rows_)

    def _shared_slopes(self) -> torch.Tensor:
        """Mean of ``∂loss_j/∂f`` over the models that learned from row j, (n_train,)."""
        total = torch.zeros(self.n_train_, dtype=torch.float64)
        count = torch.zeros_like(total)
        for fitted, rows in zip(self.fitted_, self._rows, strict=True):
            total[rows] += fitted.slopes.cpu()
            count[rows] += 1
        return (total / count.clamp_min(1)).to(self.task_.device)

    def _all_scores(self, queries: Examples | ExamplesList) -> np.ndarray:
        if len(self.fitted_) == 1:
            return super()._all_scores(queries)
        return self._spread(self._path(queries).scores(self.damping_), self.train_rows_)


class FittedTRAK(DampedFitted):
    """Projected gradients of the linearized output of one model, decomposed.

    Parameters
    ----------
    spectrum : CoordinateSpectrum
    slopes : Tensor of shape (n_train,)
        ``∂loss_j/∂f``.
    output : str or callable
        The explained output.
    """

    def __init__(self, spectrum: CoordinateSpectrum, slopes: torch.Tensor, output: Any):
        self.spectrum, self.slopes, self.output = spectrum, slopes, output
        self.eigenvalues = spectrum.eigenvalues.cpu().numpy()
        self.least_damping = spectrum.least_damping

    def path(self, queries: Examples, slopes: Tensor | None = None) -> CoordinatePath:
        """Path with the weights ``∂loss_j/∂f w_j / W`` on the training examples."""
        problem = self.spectrum.problem
        path: Any = self.spectrum.path(query_gradients(problem.engine, self.output, queries))
        weights = problem.example_weights * (self.slopes if slopes is None else slopes)
        return CoordinatePath(path.spectrum, path.query_coordinates, weights)

    def scores(self, queries: Examples) -> np.ndarray:
        return self.path(queries).scores(self.damping)

    def self_scores(self) -> np.ndarray:
        products = self.spectrum.self_products(self.damping)
        weights = self.spectrum.problem.example_weights
        # (∂loss_j/∂f)² <c_j, (A + λI)⁻¹ c_j> w_j/W
        return (products * self.slopes.square() * weights).cpu().numpy()


@dataclass(frozen=True)
class NamedOutput:
    """An output by its name, as a function that can be pickled."""

    task: Task
    output: Any

    def __call__(self, outputs: Tensor, targets: Any) -> Tensor:
        return resolve_output(self.task, self.output, has_targets=True)(outputs, targets)


def trak_outputs(task: Task, output: Any, targets: Any) -> tuple[Any, Any]:
    """The explained and the linearized output, with "auto" resolved."""
    if output != "auto":
        return output, output
    if task.problem_type == "classification":
        return "margin", "margin"
    return "auto", "prediction" if targets[0].numel() == 1 else "neg_loss"


def loss_slopes(task: Task, train: Examples, function: Callable) -> torch.Tensor:
    """``∂loss_j/∂f`` of every training example, (n,), float64."""
    parts = []
    of_loss, of_output = loss_cotangent(task), output_cotangent(function)
    for batch in train.batches(256):
        with torch.no_grad():
            outputs = task.forward(batch.inputs)
        loss = of_loss(outputs, batch.targets).flatten(1).double()
        output = of_output(outputs, batch.targets).flatten(1).double()
        squares = output.square().sum(1)
        # ∂loss/∂f = <∂loss/∂z, ∂f/∂z> / ‖∂f/∂z‖²
        slopes = (loss * output).sum(1) / torch.where(squares > 0, squares, 1.0)
        parts.append(torch.where(squares > 0, slopes, 0.0))
    return torch.cat(parts)
