"""Linear models with centered and scaled features, and their exact decomposition.

With centered features the curvature ``A'`` is well conditioned up to the units of the columns,
which a diagonal scaling removes. So a direction of small curvature can be distinguished from one
without curvature. Damping is added for the model's own parameters θ, whose curvature is ``A = T⁻ᵀ
A' T⁻¹`` with ``T: θ' → θ``. The decomposition of ``A`` is computed from a factor of ``A'``, never
from ``A`` itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from influencekit.curvature._problem import Curvature, CurvatureRows
from influencekit.curvature._spectrum import CoordinateSpectrum
from influencekit.curvature.exact._unheld import with_train
from influencekit.data._examples import Examples
from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.gradients._gradients import Gradients
from influencekit.models._task import Task
from influencekit.models.losses._deviance import DevianceLoss

__all__ = [
    "CenteredLinear",
    "CenteredSpectrum",
    "axes_of",
    "decompose_centered",
    "is_linear",
    "to_raw",
    "with_centered_features",
]

#: Largest number of parameters for which features are centered: takes about one second.
LARGEST_CENTERED = 1_000
#: The same where otherwise rounding would dominate the direction of a column: about ten seconds.
LARGEST_FAR = 2_000
#: A column counts as constant if its spread is below this many rounding errors of its mean.
CONSTANT = 16.0
#: Mean of a column, in units of its spread, up to which products with it are right to rounding.
LARGEST_MEAN = 1e3
#: Spread of a column, in units of another's, from which rounding hides the small one's curvature.
LARGEST_UNITS = 1e7


def with_centered_features(
    task: Task, train: Examples, curvature: Curvature, projection_dim: int | None
) -> Task:
    """A linear model with centered features, if its curvature can be decomposed with them.

    Parameters
    ----------
    task : Task
    train : Examples
    curvature : Curvature
    projection_dim : int or None

    Returns
    -------
    Task
        The task with centered features; any other model is returned unchanged.  Above 1,000
        parameters that takes long, so features are centered only where the mean of a column is far
        above its spread; above 2,000 parameters a warning says so instead.  Around an intercept
        that is fixed or has a penalty, solvers do not center: there the means are 0, and up to
        1,000 parameters columns are only scaled.
    """
    p = task.n_parameters
    projects = projection_dim is not None and projection_dim < p
    if projects or not is_linear(task):
        return task
    if not curvature.centers:
        _warn_of_units(task, train, curvature)
        return task
    if not has_free_intercept(task):
        linear: Any = task.module.linear
        zeros = torch.zeros_like(linear.weight[0])
        return centered(task, zeros, train.sparse_matrix is not None) if scales(task) else task
    means, spread = _means_and_spread(train)
    far = (means.abs() > LARGEST_MEAN * spread) & (spread > _rounding(means))
    if p <= LARGEST_CENTERED or (p <= LARGEST_FAR and far.any()):
        exact = bool((means.abs() <= LARGEST_MEAN * spread).all())
        return centered(task, means, exact and train.sparse_matrix is not None)
    if far.any():
        _warn_of_far_columns(task, (means.abs() / spread).where(far, torch.zeros(())))
    return task


def _rounding(means: Tensor) -> Tensor:
    """Spread below which a column counts as constant."""
    return CONSTANT * torch.finfo(means.dtype).eps * means.abs()


def _warn_of_far_columns(task: Task, ratios: Tensor) -> None:
    """Say which column's direction is lost by rounding."""
    worst, n_far = int(ratios.argmax()), int((ratios > 0).sum())
    names = task.feature_names_in
    name = worst if names is None or len(names) != len(ratios) else repr(str(names[worst]))
    others = f", as have {n_far - 1} more" if n_far > 1 else ""
    warn_user(
        f"Column {name} of {task.name} has a mean {float(ratios[worst]):.2g} times its spread"
        f"{others}. With {task.n_parameters:,} parameters features are not centered here, so "
        f"rounding may dominate scores in this direction. Scale the features before the fit "
        f"(StandardScaler), or use at most {LARGEST_FAR:,} parameters.",
        InfluenceKitWarning,
    )


def _warn_of_units(task: Task, train: Examples, curvature: Curvature) -> None:
    """Say that a curvature of raw columns loses those of tiny units."""
    means, spread = _means_and_spread(train)
    varying = spread[spread > _rounding(means)]
    if len(varying) and float(varying.max() / varying.min()) > LARGEST_UNITS:
        warn_user(
            f"The columns of {task.name} differ in size by a factor of "
            f"{float(varying.max() / varying.min()):.2g}. The curvature {curvature.name!r} is of "
            f"the raw columns, where rounding hides the small ones. Scale the features before the "
            f"fit (StandardScaler), or use curvature='ggn', which scales them itself.",
            InfluenceKitWarning,
        )


def _means_and_spread(train: Examples) -> tuple[Tensor, Tensor]:
    return _columns(train) if train.sparse_matrix is None else _sparse_columns(train)


def _sparse_columns(examples: Examples) -> tuple[Tensor, Tensor]:
    """Mean and spread of each column of a sparse matrix, float64."""
    n, sums, squares = len(examples), 0.0, 0.0
    for batch in examples.unread(2**16):
        rows = sparse.csr_array(examples.sparse_matrix[batch.inputs], dtype=np.float64)
        sums = sums + rows.sum(0)
        squares = squares + rows.multiply(rows).sum(0)
    means = torch.as_tensor(sums) / n
    # √(Σ x² / n - μ²)
    return means, (torch.as_tensor(squares) / n - means.square()).clamp_min(0.0).sqrt()


def _columns(examples: Examples, batch_size: int = 4096) -> tuple[Tensor, Tensor]:
    """Mean and spread of each feature, float64."""
    first = next(iter(examples.batches(1))).inputs[0].double()
    sums, squares, n = torch.zeros_like(first), torch.zeros_like(first), len(examples)
    for batch in examples.batches(batch_size):
        moved = batch.inputs.double() - first
        sums += moved.sum(0)
        squares += moved.square().sum(0)
    # x₁ + Σ (x - x₁) / n, and √(Σ (x - x₁)² / n - (μ - x₁)²)
    return first + sums / n, (squares / n - (sums / n).square()).clamp_min(0.0).sqrt()


class CenteredLinear(nn.Sequential):
    """``o = W (x - μ) + b'`` with ``b' = b + W μ``, for a linear layer ``o = W x + b``.

    Without an intercept, ``μ = 0``.

    What follows the linear layer, such as a scale of its outputs, stays as it is.

    Solvers center features in the same way.  If a column's mean is far above its spread (a year, a
    date), rounding errors of the raw features dominate the direction of that column.

    Parameters
    ----------
    module : torch.nn.Sequential
        Its layer ``linear`` is the first.
    means : Tensor of shape (n_features,)
        μ.
    keeps_sparse : bool, default=False
        See :class:`Center`.
    """

    center: Center
    linear: nn.Linear

    def __init__(self, module: Any, means: Tensor, keeps_sparse: bool = False):
        super().__init__()
        linear = module.linear
        weight, bias = linear.weight.detach(), linear.bias
        self.center = Center(means, keeps_sparse)
        size = reversed(weight.shape)
        self.linear = nn.utils.skip_init(nn.Linear, *size, bias=bias is not None)
        self.linear.weight = nn.Parameter(weight.clone())
        if bias is not None:
            # b' = b + W μ
            self.linear.bias = nn.Parameter(bias.detach() + weight @ means)
        for name, rest in list(module.named_children())[1:]:
            self.add_module(name, rest)


class Center(nn.Module):
    """Subtracts the means of the features.

    Parameters
    ----------
    means : Tensor of shape (n_features,)
    keeps_sparse : bool, default=False
        Whether products with sparse features, minus those with the means, are right to rounding.
    """

    means: Tensor

    def __init__(self, means: Tensor, keeps_sparse: bool = False):
        super().__init__()
        self.register_buffer("means", means)
        self.keeps_sparse = keeps_sparse

    def forward(self, X: Tensor) -> Tensor:
        """Centered features (n, n_features)."""
        return X - self.means


def is_linear(task: Task) -> bool:
    """Whether a task is a linear model of scikit-learn, also with a deviance that is not convex."""
    linear = isinstance(getattr(task.module, "linear", None), nn.Linear)
    return linear and (task.convex or isinstance(task.loss, DevianceLoss))


def has_free_intercept(task: Task) -> bool:
    """Whether a linear model has an intercept without a penalty."""
    strength = torch.as_tensor(task.penalty.get("linear.bias", 0.0))
    return "linear.bias" in task.parameters and bool((strength == 0).all())


def scales(task: Task) -> bool:
    """Whether columns are scaled where they are not centered, in the space of parameters."""
    return task.n_parameters <= LARGEST_CENTERED


def centered(task: Task, means: Tensor, keeps_sparse: bool = False) -> Task:
    """The same model as a function of centered features; its penalty is the same.

    Parameters
    ----------
    task : Task
        A task for which :func:`is_linear` is True.
    means : Tensor of shape (n_features,)
    keeps_sparse : bool, default=False
        Whether sparse features may stay so.

    Returns
    -------
    Task
    """
    return replace(task, module=CenteredLinear(task.module, means, keeps_sparse).eval())


@dataclass(repr=False)  # in one line, as all curvatures
class CenteredSpectrum(CoordinateSpectrum):
    """Spectrum of a linear model's own parameters, for gradients in the centered ones.

    Attributes
    ----------
    basis : Tensor of shape (p, rank)
        ``T⁻¹ V``, which maps centered gradients to coordinates.
    """

    basis: Tensor

    def coordinates(self, gradients: Gradients) -> Tensor:
        return gradients @ self.basis


def decompose_centered(curvature: CurvatureRows) -> CoordinateSpectrum:
    """Decompose ``F + diag(penalty)`` of a linear model's own parameters, from centered features.

    Parameters
    ----------
    curvature : CurvatureRows
        Curvature of a task whose module is a :class:`CenteredLinear`.

    Returns
    -------
    CoordinateSpectrum
        Its directions all have curvature: without damping, none is left out.

    Notes
    -----
    ``S A' S = Q D Qᵀ`` with a diagonal S gives ``A = BᵀB`` with ``B = √D Qᵀ S⁻¹ T⁻¹ = U Σ Vᵀ``.
    Coordinates ``Vᵀg`` of a gradient are ``Σ Uᵀ D^-½ Qᵀ S g'``, each accurate to rounding relative
    to its own size.  Cost ``O(N p² + p³)``.
    """
    # A' = Σ_r ω_r b_r b_rᵀ + R
    matrix = curvature.rows.covariance(curvature.weights)
    penalty = curvature.problem.penalty.to(matrix)
    matrix.diagonal().add_(penalty)
    module: Any = curvature.problem.engine.task.module
    found = axes_of(matrix, penalty, module, curvature.tolerance)
    spectrum = CenteredSpectrum(
        found.eigenvalues,
        found.data_eigenvalues,
        torch.empty(0),
        0.0,
        curvature.problem,
        found.basis,
    )
    if curvature.problem.examples.sparse_matrix is not None:
        return with_train(spectrum)
    spectrum.train_coordinates = spectrum.coordinates(curvature.problem.train)
    return spectrum


class Axes(NamedTuple):
    """Eigenvalues of a linear model's own parameters, and what takes centered gradients to them.

    Attributes
    ----------
    eigenvalues, data_eigenvalues : Tensor of shape (rank,)
        Ascending.
    basis : Tensor of shape (p, rank)
    smallest : float
        Smallest eigenvalue of the scaled matrix, in units of the largest; it may be negative.
    """

    eigenvalues: Tensor
    data_eigenvalues: Tensor
    basis: Tensor
    smallest: float


def axes_of(matrix: Tensor, penalty: Tensor, module: CenteredLinear, tolerance: float) -> Axes:
    """Decompose ``A'`` of centered parameters as in :func:`decompose_centered`.

    Parameters
    ----------
    matrix : Tensor of shape (p, p)
        ``A'``, with the penalty.
    penalty : Tensor of shape (p,)
    module : CenteredLinear
    tolerance : float
        Eigenvalues of the scaled matrix up to this share of the largest count as zero.

    Returns
    -------
    Axes
        Without the directions whose curvature is not positive.
    """
    scale, unscale = _scales(matrix.diagonal(), module)
    # S A' S = Q D Qᵀ
    values, vectors = torch.linalg.eigh(scale[:, None] * matrix * scale)
    keep = values > tolerance * values[-1]
    roots, vectors = values[keep].sqrt(), vectors[:, keep]
    # B = √D Qᵀ S⁻¹ T⁻¹ = U Σ Vᵀ
    factor = to_raw((vectors * roots).mT * unscale, module)
    left, lengths, right = torch.linalg.svd(factor, full_matrices=False)
    left, lengths, right = left.flip(1), lengths.flip(0), right.flip(0)
    lengths = lengths.clamp_min(torch.finfo(lengths.dtype).eps * lengths[-1:])
    # A = BᵀB = V Σ² Vᵀ
    eigenvalues = lengths.square()
    return Axes(
        eigenvalues,
        # v_kᵀ F v_k = s_k - v_kᵀ R v_k
        (eigenvalues - right.square() @ penalty).clamp_min(0.0),
        # T⁻¹ V = S Q D^-½ U Σ
        scale[:, None] * (vectors / roots) @ left * lengths,
        float(values[0] / values[-1]),
    )


def _scales(diagonal: Tensor, module: CenteredLinear) -> tuple[Tensor, Tensor]:
    """Factors S that scale curvatures to about 1, one for each feature, and their inverses.

    Both are 0 for features without curvature.
    """
    n_outputs, n_features = module.linear.weight.shape
    n_weights, n_biases = n_outputs * n_features, _n_biases(module)
    of_columns = diagonal[:n_weights].view(n_outputs, n_features).abs().mean(0)
    of_bias, of_rest = diagonal[n_weights:][:n_biases].abs(), diagonal[n_weights + n_biases :].abs()
    mean_of_bias = of_bias.mean() if n_biases else of_bias.sum()
    rounding = CONSTANT * torch.finfo(diagonal.dtype).eps * module.center.means.abs()
    constant = of_columns <= rounding.square() * mean_of_bias
    roots = torch.where(constant, 0.0, of_columns.sqrt())
    bias_roots = mean_of_bias.sqrt().expand(n_biases)
    roots = torch.cat([roots.repeat(n_outputs), bias_roots, of_rest.sqrt()])
    return torch.where(roots > 0, 1 / roots, 0.0), roots


def _n_biases(module: CenteredLinear) -> int:
    return 0 if module.linear.bias is None else len(module.linear.bias)


def to_raw(rows: Tensor, module: CenteredLinear) -> Tensor:
    """Rows of a factor ``(r, p)`` times ``T⁻¹``: ``b' = b + W μ``."""
    n_outputs, n_features = module.linear.weight.shape
    n_weights, n_biases = n_outputs * n_features, _n_biases(module)
    if n_biases == 0:
        return rows
    weights, biases = rows[:, :n_weights], rows[:, n_weights : n_weights + n_biases]
    # r_W + r_b' μᵀ, (r, n_outputs, n_features)
    moved = weights.unflatten(1, (n_outputs, n_features)) + biases[..., None] * module.center.means
    return torch.cat([moved.flatten(1), rows[:, n_weights:]], dim=1)
