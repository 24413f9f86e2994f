"""K-FAC and EK-FAC: block-diagonal curvatures whose blocks are Kronecker products."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from influencekit.curvature._problem import Curvature, CurvatureProblem, drawn_seed
from influencekit.curvature._spectrum import sample_rows
from influencekit.curvature.kronecker._bases import BlockBasis
from influencekit.curvature.kronecker._moments import BlockMoments, moments_of
from influencekit.curvature.kronecker._spectrum import KroneckerSpectrum
from influencekit.curvature.kronecker._store import keep, most_rows, rotate, smaller
from influencekit.gradients._cotangents import (
    ggn_cotangent,
    loss_cotangent,
    sampled_cotangent,
    signs_cotangent,
)
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._gradients import Gradients
from influencekit.gradients.blocks._base import Block, BlockSpec
from influencekit.gradients.layers._layers import Layer
from influencekit.utils.validation import Interval, StrOptions

__all__ = ["EKFAC", "KFAC"]

#: Largest number of outputs per example for which the expectation over labels is exact.
MOST_OUTPUTS = 32
#: Multiplications of all labels' rows, over layers with positions, for which it is exact.
MOST_WORK = 5e9


class KroneckerCurvature(Curvature):
    """What K-FAC and EK-FAC share: the choice of rows, and the passes over the data.

    Parameters
    ----------
    fisher : {"auto", "true", "signs", "sampled", "empirical"}, default="auto"
    n_samples : int, default=1
    tolerance : float, default=1e-4
    random_state : int, RandomState instance or None, default=None
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "fisher": [StrOptions({"auto", "true", "signs", "sampled", "empirical"})],
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "tolerance": [Interval(Real, 0, 1, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        fisher: str = "auto",
        *,
        n_samples: int = 1,
        tolerance: float = 1e-4,
        random_state: Any = None,
    ):
        self.fisher = fisher
        self.n_samples = n_samples
        self.tolerance = tolerance
        self.random_state = random_state

    def factorize(self, problem: CurvatureProblem) -> KroneckerSpectrum:
        train, room = problem.train, problem.held_memory // 3
        coordinates = train.along(train.cotangent, keep_factors=True)
        for_basis, for_eigenvalues = self._cotangents(problem, coordinates.sample)
        if for_eigenvalues is for_basis:  # the same rows twice
            rows = train.along(for_basis, keep_factors=True).held_pairs(room)
            bases, data = _find_bases(problem, rows)
        else:
            bases, data = _find_bases(problem, _alone(train, for_basis))
            rows = train.along(for_eigenvalues, keep_factors=True)
        coordinates = coordinates.map(partial(rotate, bases=bases))
        made = self._corrected(problem, rows, bases, data)
        kept = keep(coordinates, made, partial(_rows_to_choose_on, train, coordinates), room)
        table = data.clone()
        for basis in bases.values():
            own = torch.cat([problem.penalty[columns] for columns in basis.spec.columns])
            # s_k = v_kᵀ F v_k + v_kᵀ R v_k
            table[basis.columns] += basis.diagonal(own)
        return KroneckerSpectrum(problem, bases, table, data, self.tolerance, *kept)

    @abstractmethod
    def _corrected(
        self, problem: CurvatureProblem, rows: Gradients, bases: dict[str, BlockBasis], data: Tensor
    ) -> Iterator[tuple[slice, GradientFeatures]]:
        """Coordinates of the training gradients, from a pass that changes ``data`` in place.

        ``data`` (p,) are the eigenvalues of the data's curvature.
        """

    def _cotangents(
        self, problem: CurvatureProblem, sample: GradientFeatures
    ) -> tuple[Callable, Callable]:
        """Rows for the basis and for the eigenvalues: the same unless they are drawn."""
        task, fisher = problem.engine.task, self.fisher
        if fisher == "auto":
            fisher = _fisher_of(problem, sample)
        if fisher == "true":
            return (ggn_cotangent(task),) * 2
        if fisher == "empirical":
            return (loss_cotangent(task),) * 2
        seed = drawn_seed(self.random_state, problem)
        draw = signs_cotangent if fisher == "signs" else sampled_cotangent
        return (
            draw(task, self.n_samples, random_state=seed),
            draw(task, self.n_samples, random_state=seed + 1),
        )


class KFAC(KroneckerCurvature, name="kfac"):
    """Kronecker-factored curvature: ``F ≈ A ⊗ B`` for every layer's weight and bias.

    ``A`` is the mean second moment of the layer's inputs (with a 1 for the bias), ``B`` that of
    the gradients at its outputs; blocks of different layers do not interact.  Name: ``"kfac"``.

    Parameters
    ----------
    fisher : {"auto", "true", "signs", "sampled", "empirical"}, default="auto"
        Labels over which output gradients are averaged. "true": exact expectation over the model's
        own distribution (the Gauss-Newton matrix). "sampled": ``n_samples`` labels drawn from it
        for each example. "empirical": the given labels. "auto" is "true" for up to 32 outputs per
        example, and "sampled" for more.
    n_samples : int, default=1
        Number of labels drawn for each example.
    tolerance : float, default=1e-4
        Allowed root-mean-square error of scores, relative to their root mean square, for layers too
        large for the exact product; 0 is exact and slower.
    random_state : int, RandomState instance or None, default=None
        Seed for drawn labels; None uses the attributor's.

    Notes
    -----
    A layer applied at T positions of an example (sequences, convolutions) treats positions as
    independent ("expand"): ``A`` is the mean over examples and positions, ``B`` the sum over
    positions.  Positions of a text before the first and after the last that a gradient reaches are
    padding and do not count.  Embeddings have a diagonal ``A`` of token frequencies.

    Blocks without factors (normalization, recurrent cells) are exact up to 1,024 parameters in
    total, and diagonal beyond.

    A penalty that is not constant in a layer (an unpenalized bias) adds its diagonal in the
    eigenbasis, ``v_kᵀ R v_k``, to the eigenvalues; in exact blocks it is exact.

    Cost per layer: ``O(n (d_in² + d_out²) + d_in³ + d_out³)``. The number of backward passes is the
    rank of the loss's output Hessian for "true", and ``n_samples`` for "sampled".

    References
    ----------
    .. [1] J. Martens, R. Grosse. Optimizing neural networks with Kronecker-factored approximate
       curvature. ICML 2015, arXiv 1503.05671.
    .. [2] R. Eschenhagen, A. Immer, R. E. Turner, F. Schneider, P. Hennig. Kronecker-factored
       approximate curvature for modern neural network architectures. NeurIPS 2023,
       arXiv 2311.00636.
    """

    def _corrected(
        self,
        problem: CurvatureProblem,
        rows: Gradients,
        bases: dict[str, BlockBasis],
        _data: Tensor,
    ) -> Iterator[tuple[slice, GradientFeatures]]:
        if rows.is_held:
            yield from rows.results(partial(_loss_rotated, bases), pairs=True)
            return
        # one backward pass for each example in place of one for each label
        own = problem.train.along(problem.train.cotangent, keep_factors=True)
        yield from own.results(partial(rotate, bases=bases))


class EKFAC(KroneckerCurvature, name="ekfac"):
    """K-FAC with corrected eigenvalues: mean squared gradients in K-FAC's eigenbasis.

    It is the closest to the true curvature of all that are diagonal in that basis. Name:
    ``"ekfac"``.

    Parameters
    ----------
    fisher : {"auto", "true", "signs", "sampled", "empirical"}, default="auto"
        As for :class:`KFAC`.
    n_samples : int, default=1
        As for :class:`KFAC`.
    tolerance : float, default=1e-4
        As for :class:`KFAC`.
    random_state : int, RandomState instance or None, default=None
        As for :class:`KFAC`.

    Notes
    -----
    As an approximation of further training: second order, with the Gauss-Newton matrix of each
    layer, diagonal in the eigenvectors of a Kronecker product.

    With "sampled", new labels are drawn for the eigenvalues: with the labels of the basis, its
    leading directions would seem larger than they are. Gradients are squared after the sum over an
    example's positions. The penalty and blocks without factors are treated as in :class:`KFAC`.

    Cost: that of :class:`KFAC`, plus one more pass over the gradients.

    References
    ----------
    .. [1] T. George, C. Laurent, X. Bouthillier, N. Ballas, P. Vincent. Fast approximate natural
       gradient descent in a Kronecker-factored eigenbasis. NeurIPS 2018, arXiv 1806.03884.
    .. [2] R. Grosse et al. Studying large language model generalization with influence functions.
       2023, arXiv 2308.03296.
    """

    def _corrected(
        self, problem: CurvatureProblem, rows: Gradients, bases: dict[str, BlockBasis], data: Tensor
    ) -> Iterator[tuple[slice, GradientFeatures]]:
        data.zero_()
        work = partial(_with_squares, bases, len(data))
        for some, (squares, made) in rows.results(work, problem.example_weights, pairs=True):
            data += squares
            yield some, made


def _fisher_of(problem: CurvatureProblem, sample: GradientFeatures) -> str:
    """What "auto" is: exact where it is cheap."""
    task, first = problem.engine.task, next(iter(problem.examples.batches(1)))
    outputs = task.forward(first.inputs).detach()
    if outputs.numel() > MOST_OUTPUTS:
        return "sampled"
    rank = ggn_cotangent(task)(outputs, first.targets).shape[1]
    shapes = (block.factor_shape for block in sample.blocks.values())
    each = sum(length * d_in * d_out for length, d_in, d_out in shapes if length > 1)
    return "signs" if rank > 1 and rank * each * len(problem.train) > MOST_WORK else "true"


def _alone(train: Gradients, cotangent: Callable) -> Gradients:
    """Rows of the training examples, without their loss gradients."""
    return Gradients(train.engine, train.examples, cotangent, keep_factors=True)


def _rows_to_choose_on(train: Gradients, coordinates: Gradients) -> Tensor:
    """Positions of the examples that a damping is chosen on."""
    sizes = train.squared_norms(train.engine.task.dtype)
    return sample_rows(sizes, most_rows(coordinates))


def _with_squares(
    bases: dict[str, BlockBasis],
    size: int,
    features: GradientFeatures,
    own: GradientFeatures,
    weights: Tensor,
) -> tuple[Tensor, GradientFeatures]:
    """Weighted squares of a batch's coordinates, and the coordinates of its loss gradients."""
    blocks, squares = {}, weights.new_zeros(size)
    for name, basis in bases.items():  # one block at a time: there are many rows
        block, last = features.blocks[name], own.blocks[name]
        both = block if own is features else _joined(block, last)
        turned = basis.rotate(both)
        blocks[name] = smaller(turned.rows_of(slice(both.rows_per_example - 1, None)).compact())
        turned = turned.rows_of(slice(0, block.rows_per_example))
        # Σ_i w_i/W Σ_r (v_kᵀ b_ir)²
        turned.add_squares(weights, squares[basis.columns], features.workspace)
    return squares, own.with_blocks(blocks)


def _joined(block: Block, last: Block) -> Block:
    """The rows of two blocks of the same inputs."""
    return block.replace(
        *block.tensors[:-1], torch.cat([block.tensors[-1], last.tensors[-1]], dim=1)
    )


def _loss_rotated(
    bases: dict[str, BlockBasis], _features: GradientFeatures, own: GradientFeatures
) -> GradientFeatures:
    """Coordinates of the loss gradients alone."""
    return rotate(own, bases)


def _find_bases(problem: CurvatureProblem, rows: Gradients) -> tuple[dict[str, BlockBasis], Tensor]:
    """Basis of every block, and the curvature of the data along its vectors."""
    moments, weights = _empty_moments(problem, rows.sample), problem.example_weights
    if rows.is_shared:
        for _, found in rows.results(partial(_moments, moments), weights):
            for name, one in found.items():
                moments[name].merge(one)
    else:
        for some, features in rows:
            _add(moments, features, weights[some])
    bases, data = {}, []
    for name, one in moments.items():
        penalty = torch.cat([problem.penalty[columns] for columns in one.spec.columns])
        bases[name], own = one.basis(penalty)
        data.append(own)
    return bases, torch.cat(data)


def _moments(
    empty: dict[str, BlockMoments], features: GradientFeatures, weights: Tensor
) -> dict[str, BlockMoments]:
    """The sums over one batch, as a worker makes them."""
    moments = copy.deepcopy(empty)
    _add(moments, features, weights)
    return moments


def _add(moments: dict[str, BlockMoments], features: GradientFeatures, weights: Tensor) -> None:
    for name, block in features.blocks.items():
        moments[name].add(block, weights)


def _empty_moments(problem: CurvatureProblem, features: GradientFeatures) -> dict:
    """Empty sums for all blocks, with their coordinates one after the other."""
    task, layers = problem.engine.task, problem.engine.layout(problem.examples)
    kinds = (nn.Embedding, nn.EmbeddingBag)
    embeddings = {
        la.name for la in layers.layers if isinstance(la, Layer) and isinstance(la.module, kinds)
    }
    like = torch.empty(0, dtype=task.dtype, device=task.device)
    moments, start = {}, 0
    for name, block in features.blocks.items():
        if name not in embeddings:
            _require_room(problem, block.spec)
        moments[name] = moments_of(block.spec, start, name in embeddings, like)
        start += block.spec.width
    return moments


def _require_room(problem: CurvatureProblem, spec: BlockSpec) -> None:
    """Refuse a layer whose factors, with workspace to decompose them, do not fit into memory."""
    if spec.is_matrix:
        order = max(spec.d_in + spec.has_bias, spec.d_out)
        problem.engine.require(
            4 * 8 * order**2,
            f"the {order:,} x {order:,} factors of the layer {spec.name!r}, and their eigenvectors",
            "Use curvature='ggn' or 'fisher', which work in the space of the training rows if "
            "that is smaller, or 'logra', which projects",
        )
