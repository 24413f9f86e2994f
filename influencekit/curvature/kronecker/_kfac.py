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
from influencekit.curvature.kronecker._store import keep, keeps_rows, most_rows, multiplied, rotate
from influencekit.gradients._cotangents import (
    ggn_cotangent,
    loss_cotangent,
    sampled_cotangent,
    signs_cotangent,
)
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._gradients import Gradients
from influencekit.gradients._store import pieces, smallest
from influencekit.gradients.blocks._base import Block, BlockSpec
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._joined import JoinedBlock
from influencekit.gradients.layers._layers import Layer
from influencekit.utils.validation import Interval, StrOptions

__all__ = ["EKFAC", "KFAC"]

#: Largest number of outputs per example for which the expectation over labels is exact.
MOST_OUTPUTS = 32
#: Multiplications of all labels' rows, over layers with positions, for which it is exact.
MOST_WORK = 5e9
#: Rows of an example, one of its loss and one drawn, whose dense coordinates are made together.
_FEW_ROWS = 2


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
        train = problem.train
        own = train.along(train.cotangent, keep_factors=True)
        cotangents = self._cotangents(problem, own.sample)
        bases, data, kept = self._diagonal(problem, own, *cotangents)
        table = data.clone()
        for basis in bases.values():
            penalty = torch.cat([problem.penalty[columns] for columns in basis.spec.columns])
            # s_k = v_kᵀ F v_k + v_kᵀ R v_k
            table[basis.columns] += basis.diagonal(penalty)
        return KroneckerSpectrum(problem, bases, table, data, self.tolerance, *kept)

    @abstractmethod
    def _diagonal(
        self, problem: CurvatureProblem, own: Gradients, first: Callable, second: Callable
    ) -> tuple[dict[str, BlockBasis], Tensor, tuple[Gradients, Gradients | None]]:
        """Bases, the eigenvalues (p,) of the data's curvature, and coordinates as ``keep`` does.

        ``own`` are the training gradients with their factors; ``first`` and ``second`` make the
        rows for the bases and for the eigenvalues.
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
        own distribution (the Gauss-Newton matrix). "signs": the same in expectation, from columns
        of all labels added with random signs, ``n_samples`` times for each example. "sampled":
        ``n_samples`` labels drawn for each example, with a larger variance where the model is sure.
        "empirical": the given labels. "auto" is "sampled" for more than 32 outputs per example.
        For fewer it is "true", or "signs" if rows of all labels would take more than 5e9
        multiplications in layers applied at several positions (convolutions, sequences).
    n_samples : int, default=1
        Number of draws for each example.
    tolerance : float, default=1e-4
        Allowed root-mean-square error of scores, relative to their root mean square, for layers too
        large for the exact product; 0 is exact and slower.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws; None uses the attributor's.

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
    rank of the loss's output Hessian for "true", and ``n_samples`` for "signs" and "sampled".

    References
    ----------
    .. [1] J. Martens, R. Grosse. Optimizing neural networks with Kronecker-factored approximate
       curvature. ICML 2015, arXiv 1503.05671.
    .. [2] R. Eschenhagen, A. Immer, R. E. Turner, F. Schneider, P. Hennig. Kronecker-factored
       approximate curvature for modern neural network architectures. NeurIPS 2023,
       arXiv 2311.00636.
    """

    def _diagonal(
        self, problem: CurvatureProblem, own: Gradients, first: Callable, second: Callable
    ) -> tuple[dict[str, BlockBasis], Tensor, tuple[Gradients, Gradients | None]]:
        del second  # eigenvalues are those of the factors
        rows, room = problem.train.along(first, keep_factors=True), problem.held_memory // 3
        fits = _has_positions(own) and own.map(smallest).nbytes <= room
        bases, data, parts = _find_bases(problem, rows, keep_own=fits)
        coordinates = own.map(partial(rotate, bases=bases))
        if fits:
            turned = (rotate(parts.pop(0), bases) for _ in range(len(parts)))
            return bases, data, (coordinates.kept(pieces(turned)), None)
        # one backward pass for each example in place of one for each label
        made = coordinates.results(_same)
        return bases, data, keep(coordinates, made, partial(_chosen_on, problem, coordinates), room)


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

    With "signs" and "sampled", eigenvalues have draws of their own: with those of the basis, its
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

    def _diagonal(
        self, problem: CurvatureProblem, own: Gradients, first: Callable, second: Callable
    ) -> tuple[dict[str, BlockBasis], Tensor, tuple[Gradients, Gradients | None]]:
        train, room = problem.train, problem.held_memory // 3
        if second is first:
            rows = train.along(first, keep_factors=True).held_pairs(room)
            bases, data, _ = _find_bases(problem, rows)
        else:  # each is read once
            alone = Gradients(train.engine, train.examples, first, keep_factors=True)
            bases, data, _ = _find_bases(problem, alone)
            rows = train.along(second, keep_factors=True)
        coordinates = own.map(partial(rotate, bases=bases))
        data.zero_()

        def made() -> Iterator[tuple[slice, GradientFeatures]]:
            work = partial(_with_squares, bases, len(data))
            for some, (squares, found) in rows.results(work, problem.example_weights, pairs=True):
                data.add_(squares)
                yield some, found

        kept = keep(coordinates, made(), partial(_chosen_on, problem, coordinates), room)
        return bases, data, kept


def _fisher_of(problem: CurvatureProblem, sample: GradientFeatures) -> str:
    """What "auto" is: exact where it is cheap."""
    task, train, first = problem.engine.task, problem.train, next(iter(problem.examples.batches(1)))
    n_outputs = task.forward(first.inputs).numel()
    if n_outputs > MOST_OUTPUTS:
        return "sampled"
    shapes = (block.factor_shape for block in sample.blocks.values())
    each = sum(length * d_in * d_out for length, d_in, d_out in shapes if length > 1)
    if n_outputs * each * len(train) <= MOST_WORK:
        return "true"
    rank = Gradients(train.engine, train.examples, ggn_cotangent(task)).rows_per_example
    return "signs" if rank > 1 and rank * each * len(train) > MOST_WORK else "true"


def _has_positions(own: Gradients) -> bool:
    """Whether a layer is applied at several positions, so that another pass takes long."""
    return any(block.factor_shape[0] > 1 for block in own.sample.blocks.values())


def _chosen_on(problem: CurvatureProblem, coordinates: Gradients) -> Tensor:
    """Positions of the examples that a damping is chosen on."""
    sizes = problem.train.squared_norms(problem.engine.task.dtype)
    return sample_rows(sizes, most_rows(coordinates))


def _same(features: GradientFeatures) -> GradientFeatures:
    return features


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
        only = slice(both.rows_per_example - 1, None)
        if both.rows_per_example == _FEW_ROWS and keeps_rows(turned.rows_of(only)):
            turned = DenseBlock.of(turned)  # which both need
        blocks[name] = multiplied(turned.rows_of(only)).compact()
        turned = turned.rows_of(slice(0, block.rows_per_example))
        # Σ_i w_i/W Σ_r (v_kᵀ b_ir)²
        turned.add_squares(weights, squares[basis.columns], features.workspace)
    return squares, own.with_blocks(blocks)


def _joined(block: Block, last: Block) -> Block:
    """The rows of two blocks of the same inputs."""
    if isinstance(block, JoinedBlock) and isinstance(last, JoinedBlock):
        return block.with_parts(list(map(_joined, block.parts, last.parts)))
    return block.replace(
        *block.tensors[:-1], torch.cat([block.tensors[-1], last.tensors[-1]], dim=1)
    )


def _find_bases(
    problem: CurvatureProblem, rows: Gradients, *, keep_own: bool = False
) -> tuple[dict[str, BlockBasis], Tensor, list[GradientFeatures]]:
    """Basis of every block, the data's curvature along its vectors, and the loss gradients."""
    moments, weights = _empty_moments(problem, rows.sample), problem.example_weights
    kept: list[GradientFeatures] = []
    if rows.is_shared:
        # a copy: threads still read it when the first results are added
        work = partial(_moments, copy.deepcopy(moments), keep_own)
        form = smallest if keep_own else None
        for _, (found, last) in rows.results(work, weights, pairs=keep_own, own=form):
            kept.append(last)
            for name, one in found.items():
                moments[name].merge(one)
    elif keep_own:
        for some, features, own in rows.pairs(smallest):
            _add(moments, features, weights[some])
            kept.append(own)
    else:
        for some, features in rows:
            _add(moments, features, weights[some])
    bases, data = {}, []
    for name, one in moments.items():
        penalty = torch.cat([problem.penalty[columns] for columns in one.spec.columns])
        bases[name], along = one.basis(penalty)
        data.append(along)
    return bases, torch.cat(data), kept


def _moments(
    empty: dict[str, BlockMoments], keep_own: bool, features: GradientFeatures, *others: Any
) -> tuple[dict[str, BlockMoments], GradientFeatures | None]:
    """The sums over one batch, and its loss gradients, as a worker makes them."""
    moments, (*own, weights) = copy.deepcopy(empty), others
    _add(moments, features, weights)
    return moments, own[0] if keep_own else None


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
