"""Products of the Hessian or the Gauss-Newton matrix with many vectors, without the matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem
from influencekit.curvature._second_route import (
    Products,
    cheaper_rows,
    second_route,
    weighted_rows,
)
from influencekit.curvature._wide_forward import WideForward, product_dtype
from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses._custom import CustomLoss
from influencekit.utils._long_work import chunks
from influencekit.utils._torch import map_tensors, simple_kernels, tolerance

__all__ = ["MATRICES", "CurvatureOperator"]

#: Names of the matrices.
MATRICES = ("hessian", "ggn")
#: Examples per pass: with fewer, the fixed cost of a pass matters; more exceed the CPU cache.
SMALLEST_BATCH, LARGEST_BATCH = 512, 4096
#: Number of outputs per example up to which the convex part of a custom loss is computed.
FEW_OUTPUTS = 64
#: Number of copies of the activations that the derivative of a pass holds.
_COPIES = 4


class CurvatureOperator:
    """Products of ``A = F + R`` with rows of vectors, streamed over the training examples.

    ``F`` is the Hessian of the mean loss ``Σ_i w_i/W loss_i``, or its Gauss-Newton matrix
    ``Σ_i w_i/W J_iᵀ (∇²loss_i) J_i``; ``R`` the diagonal penalty.

    Parameters
    ----------
    problem : CurvatureProblem
    matrix : {"hessian", "ggn"}, default="ggn"

    Notes
    -----
    All vectors go through a batch together: forward-mode derivatives under ``torch.func.vmap``
    make one matrix product of a layer's tangents.  Cost per vector: about two forward and backward
    passes over the data. Memory in addition to vectors and result: the engine's workspace.

    Where an example has few outputs for its positions (convolutions, sequences), the Gauss-Newton
    matrix is multiplied from its rows instead, which are kept: a product then costs as much as
    one with a dense matrix of as many rows.

    A model with an operation that forward mode does not know (an LSTM's fused kernel, an
    EmbeddingBag, a checkpointed part, a hook on a tensor) takes a second route: the Gauss-Newton
    matrix from its rows, which need gradients only, and the Hessian by a second backward pass.

    The Gauss-Newton matrix of a :class:`~influencekit.models.CustomLoss` is that of its convex
    part, as for "ggn"; with more than 64 outputs per example, the loss is assumed to be convex.
    """

    def __init__(self, problem: CurvatureProblem, matrix: str = "ggn"):
        self.problem = problem
        self.matrix = matrix
        first, task = next(iter(problem.examples.batches(1))).inputs, problem.engine.task
        self._inner = product_dtype(task, first, problem.max_memory)
        self._forward = WideForward(task, self._inner, first)
        self._parameters = self._forward.parameters
        self._second: Products | None = None
        self._tried = False
        self._activations = _activation_bytes(problem)

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the products: that of the model's gradients."""
        return self.problem.engine.task.dtype

    def __call__(self, vectors: Tensor, damping: float = 0.0) -> Tensor:
        """``(A + λI) v`` of every row, (k, p)."""
        return self.data(vectors) + vectors * self.diagonal(damping)

    def diagonal(self, damping: float = 0.0) -> Tensor:
        """``R + λ`` as a vector, (p,)."""
        return (self.problem.penalty + damping).to(self.dtype)

    @torch.no_grad()
    def data(self, vectors: Tensor, rows: Tensor | None = None) -> Tensor:
        """``F v`` of every row, (k, p).

        Parameters
        ----------
        vectors : Tensor of shape (k, p)
        rows : Tensor of int, optional
            Examples to use; the result is scaled so that for a random draw its expectation is ``F
            v``.
        """
        if len(vectors) == 0:
            return torch.zeros_like(vectors, dtype=self.dtype)
        return self._products(vectors.to(self._inner), rows).to(self.dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_second": None, "_tried": False}  # its rows are made again

    def _products(self, vectors: Tensor, rows: Tensor | None) -> Tensor:
        if self._second is None and not self._tried and self._sees_rows():
            self._second = cheaper_rows(self.problem)
        if self._second is None:
            try:
                return self._by_forward_mode(vectors, rows)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # an operation, or a loss, without such a derivative
                self._second = second_route(self.problem, self.matrix, error)
        return self._second(vectors, rows)

    def _by_forward_mode(self, vectors: Tensor, rows: Tensor | None) -> Tensor:
        if not self._tried:
            with simple_kernels():
                self._try_forward_mode()
            self._tried = True
        examples, weights = weighted_rows(self.problem, rows)
        out = torch.zeros_like(vectors)
        size, together = self.sizes(len(examples), len(vectors))
        product = self._hessian if self.matrix == "hessian" else self._gauss_newton
        with simple_kernels():
            for batch in examples.batches(size):
                own = weights[batch.rows].to(self._inner)
                multiply = product(batch.inputs, batch.targets, own)
                for part in chunks(len(vectors), 1, together):
                    # F v = Σ_batches F_batch v
                    out[part] += self._flat(torch.func.vmap(multiply)(self._tree(vectors[part])))
        return out

    def _sees_rows(self) -> bool:
        """Whether rows are those of the matrix: of a convex loss, in the model's own dtype."""
        task = self.problem.engine.task
        own = self._inner == task.dtype and not self._forward.casts
        return self.matrix == "ggn" and own and getattr(task.loss, "convex", True)

    def _try_forward_mode(self) -> None:
        """Raise if forward mode says other than backward mode, which hooks on tensors change."""
        if not self._forward.is_wide:  # half precision rounds both
            return
        forward = self._forward(next(iter(self.problem.examples.batches(3))).inputs)
        found: tuple[Any, ...] = torch.func.vjp(forward, self._parameters)
        outputs, pull_back = found
        u = _waves(outputs)
        v = {name: _waves(p) for name, p in self._parameters.items()}
        moved = torch.func.jvp(forward, (self._parameters,), (v,))[1]
        pulled = pull_back(u)[0]
        # ⟨u, J v⟩ = ⟨Jᵀ u, v⟩
        other = sum((pulled[name] * v[name]).sum() for name in v)
        if abs((u * moved).sum() - other) > tolerance(moved.dtype) * u.norm() * moved.norm():
            raise RuntimeError("forward mode and backward mode differ.")

    def sizes(self, n: int, k: int) -> tuple[int, int]:
        """Number of examples in a batch, and number of vectors processed together.

        Parameters
        ----------
        n : int
            Number of all examples.
        k : int
            Number of all vectors.

        Returns
        -------
        tuple of int
        """
        engine = self.problem.engine
        pairs = max(1, engine.workspace // (_COPIES * self._activations))
        size = min(n, LARGEST_BATCH, max(SMALLEST_BATCH, pairs // k), pairs)
        if engine.batch_size is not None:
            size = min(size, engine.batch_size)
        item = self._inner.itemsize
        held = engine.workspace // (_COPIES * item * engine.task.n_parameters)
        return size, max(1, min(pairs // size, held))

    def _tree(self, vectors: Tensor) -> dict[str, Tensor]:
        tree, start = {}, 0
        for name, p in self._parameters.items():
            tree[name] = vectors[:, start : start + p.numel()].unflatten(1, p.shape or (1,))
            tree[name] = tree[name].reshape(len(vectors), *p.shape)
            start += p.numel()
        return tree

    @staticmethod
    def _flat(tree: dict[str, Tensor]) -> Tensor:
        return torch.cat([part.reshape(len(part), -1) for part in tree.values()], dim=1)

    def _hessian(self, inputs: Any, targets: Any, weights: Tensor) -> Callable:
        """Hessian of the batch's share of the loss, as a function of one tangent."""
        forward, loss = self._forward(inputs), self.problem.engine.task.loss

        def objective(parameters: dict[str, Tensor]) -> Tensor:
            # Σ_i w_i/W loss_i
            return loss(forward(parameters), targets) @ weights

        gradient = torch.func.grad(objective)
        # H v: the derivative of the gradient along v
        return lambda tangent: torch.func.jvp(gradient, (self._parameters,), (tangent,))[1]

    def _gauss_newton(self, inputs: Any, targets: Any, weights: Tensor) -> Callable:
        """Gauss-Newton matrix of the batch's share, as a function of one tangent."""
        forward, loss = self._forward(inputs), self.problem.engine.task.loss
        found: tuple[Any, ...] = torch.func.vjp(forward, self._parameters)
        outputs, pull_back = found
        curve = _output_hessian(loss, outputs, targets, weights)

        def multiply(tangent: dict[str, Tensor]) -> dict[str, Tensor]:
            # Jᵀ (w/W ∇²loss) J v
            moved = torch.func.jvp(forward, (self._parameters,), (tangent,))[1]
            return pull_back(curve(moved))[0]

        return multiply


def _waves(like: Tensor) -> Tensor:
    """Numbers between -1 and 1 without a pattern, in the shape of a tensor."""
    steps = torch.arange(1, like.numel() + 1, device=like.device, dtype=torch.float64)
    return torch.sin(steps**2).reshape(like.shape).to(like.dtype)


def _output_hessian(
    loss: OutputLoss, outputs: Tensor, targets: Any, weights: Tensor
) -> Callable[[Tensor], Tensor]:
    """``w_i (∇²loss_i) v_i`` of every example, as a function of ``v``."""
    if isinstance(loss, CustomLoss) and outputs[0].numel() <= FEW_OUTPUTS:
        factor = loss.hessian_factor(outputs, targets).factor
        # w_i L_i (L_iᵀ v_i), with ∇²loss_i = L_i L_iᵀ
        left = factor * weights[:, None, None]
        return lambda v: (left @ (factor.mT @ v.flatten(1)[:, :, None])).reshape(v.shape)
    gradient = torch.func.grad(lambda z: loss(z, targets) @ weights)
    # by reverse mode: not every loss has a forward-mode derivative
    found: tuple[Any, ...] = torch.func.vjp(gradient, outputs)
    # the Jacobian of the gradient is symmetric: vᵀ H = (H v)ᵀ
    return lambda v: found[1](v)[0]


def _activation_bytes(problem: CurvatureProblem) -> int:
    """Bytes of one example's activations, without its inputs (they have no tangents)."""
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    map_tensors(note, next(iter(problem.examples.batches(1))).inputs)
    layout = problem.engine.layout(problem.examples)
    return max(64, layout.activation_bytes - sum(sizes))
