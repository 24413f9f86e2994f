"""Products with curvature matrices without forward-mode derivatives: from rows, or gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem
from influencekit.curvature._wide_forward import WideForward
from influencekit.exceptions import UnsupportedModelError
from influencekit.gradients._cotangents import ggn_cotangent
from influencekit.gradients._gradients import Gradients
from influencekit.utils._long_work import chunks
from influencekit.utils._torch import flop_counter, plain_kernels, simple_kernels

__all__ = ["Products", "cheaper_rows", "second_route", "weighted_rows"]

#: ``(vectors (k, p), rows or None) -> F v of every vector``
Products = Callable[[Tensor, Tensor | None], Tensor]
#: Length of a step along a vector, in units of the length of the parameters.
_STEP = torch.finfo(torch.float64).eps ** (1 / 3)
#: Most outputs of an example for which the rows of the Gauss-Newton matrix are considered.
_MOST_OUTPUTS = 64


def second_route(problem: CurvatureProblem, matrix: str, error: Exception) -> Products:
    """Products with ``F``, for a model of which forward mode fails with an error.

    Parameters
    ----------
    problem : CurvatureProblem
    matrix : {"hessian", "ggn"}
    error : Exception
        What forward mode failed with.

    Returns
    -------
    callable
    """
    return HessianProducts(problem, error) if matrix == "hessian" else RowProducts(problem)


def cheaper_rows(problem: CurvatureProblem) -> Products | None:
    """Products with the Gauss-Newton matrix from its rows, where these cost less than passes.

    For each vector, a row of an example takes two multiplications a parameter, and the derivative
    of a pass and its transpose take four at every position of the example.

    Parameters
    ----------
    problem : CurvatureProblem

    Returns
    -------
    callable or None
        None if passes cost less, or if the rows take more than may be held.
    """
    task, few = problem.engine.task, next(iter(problem.examples.batches(2)))
    # fused kernels would hide their operations
    with torch.no_grad(), plain_kernels(), flop_counter() as counter:
        outputs = task.forward(few.inputs)
    at_most = counter.get_total_flops() / len(outputs) / task.n_parameters
    if outputs[0].numel() > min(_MOST_OUTPUTS, at_most + 1):  # a softmax has one row less
        return None
    rows = Gradients(problem.engine, problem.examples, ggn_cotangent(task))
    fits = rows.rows_per_example <= at_most and rows.nbytes <= problem.held_memory
    return RowProducts(problem, rows) if fits else None


def weighted_rows(problem: CurvatureProblem, rows: Tensor | None) -> tuple[Any, Tensor]:
    """Examples and their weights; those of a random draw are scaled up to the whole."""
    examples, weights = problem.examples, problem.example_weights
    if rows is None:
        return examples, weights
    return examples.take(rows), weights[rows] * (len(examples) / len(rows))


class RowProducts:
    """Products with the Gauss-Newton matrix from its rows ``b_r``, which only need gradients.

    Parameters
    ----------
    problem : CurvatureProblem
    rows : Gradients, optional
        The rows, if they are there.
    """

    def __init__(self, problem: CurvatureProblem, rows: Gradients | None = None):
        if rows is None:
            engine = problem.engine
            rows = Gradients(engine, problem.examples, ggn_cotangent(engine.task))
        self.problem, self.rows = problem, rows.held(problem.held_memory // 4, spill=True)

    def __call__(self, vectors: Tensor, rows: Tensor | None) -> Tensor:
        own = self.rows if rows is None else self.rows.take(rows)
        _, shares = weighted_rows(self.problem, rows)
        shares = shares.to(vectors.dtype).repeat_interleave(own.rows_per_example)
        out = torch.empty_like(vectors)
        for some in self._together(vectors, own):
            # F v = Σ_r ω_r b_r <b_r, v>
            inner = own @ vectors[some].mT.contiguous()
            out[some] = own.sums((inner * shares[:, None]).mT.contiguous())
        return out

    def _together(self, vectors: Tensor, own: Gradients) -> Iterator[slice]:
        """Vectors whose copies are a small part of the memory; all, where a pass runs the model."""
        each = vectors.shape[1] * vectors.element_size()
        room = self.problem.held_memory // 16 if own.is_held else each * len(vectors)
        return chunks(len(vectors), each, room)


class HessianProducts:
    """Products with the Hessian by differentiating the gradient once more.

    Operations without a derivative of their derivative (an EmbeddingBag, a CTC loss) are
    differentiated by central differences of the gradient in float64.

    Parameters
    ----------
    problem : CurvatureProblem
    error : Exception
        What forward mode failed with.
    """

    def __init__(self, problem: CurvatureProblem, error: Exception):
        self.problem, self.error = problem, error
        self._differences = False

    def __call__(self, vectors: Tensor, rows: Tensor | None) -> Tensor:
        if not self._differences:
            try:
                return self._product(vectors, rows, torch.float32, _twice)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:
                self._differences = True
        return self._product(vectors, rows, torch.float64, _difference)

    def _product(
        self, vectors: Tensor, rows: Tensor | None, least: torch.dtype, method: Callable
    ) -> Tensor:
        engine, out = self.problem.engine, torch.zeros_like(vectors)
        dtype = torch.promote_types(vectors.dtype, least)
        first = next(iter(self.problem.examples.batches(1))).inputs
        forward = WideForward(engine.task, dtype, first)
        if least == torch.float64 and not forward.is_wide:
            raise self._refused()
        examples, weights = weighted_rows(self.problem, rows)
        size = engine.size_of_batch(self.problem.examples, 4 * forward.n_bytes)
        with simple_kernels(), _plain_recurrences(), torch.enable_grad():
            for batch in examples.batches(size):
                own, outputs = weights[batch.rows].to(dtype), forward(batch.inputs)
                targets = _widened(batch.targets, dtype)

                def objective(parameters: dict[str, Tensor]) -> Tensor:
                    # Σ_i w_i/W loss_i
                    return engine.task.loss(outputs(parameters), targets).to(dtype) @ own  # noqa: B023  called within the batch

                # F v = Σ_batches F_batch v
                out += method(objective, forward.parameters, vectors)
        return out

    def _refused(self) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"model: {self.problem.engine.task.name} has no forward-mode derivatives "
            f"({str(self.error).splitlines()[0][:150]}), no second derivatives, and does not run "
            "in float64, so products with its Hessian cannot be computed. Use a curvature of first "
            "derivatives: InfluenceFunction('ggn'), InfluenceFunction('ekfac') or "
            "InfluenceFunction('fisher')."
        )


def _twice(objective: Callable, parameters: dict[str, Tensor], vectors: Tensor) -> Tensor:
    """Hessian times every vector, by a second backward pass."""
    leaves = {k: p.detach().requires_grad_() for k, p in parameters.items()}
    gradient = _flat_gradient(objective(leaves), leaves, create_graph=True)
    if not gradient.requires_grad:  # linear in the parameters
        return torch.zeros_like(vectors)
    # H v = ∇ <∇, v>
    rows = [_flat_gradient(gradient @ v.to(gradient), leaves, retain_graph=True) for v in vectors]
    return torch.stack(rows).to(vectors.dtype)


def _difference(objective: Callable, parameters: dict[str, Tensor], vectors: Tensor) -> Tensor:
    """Hessian times every vector, by the difference of two gradients."""
    point = torch.cat([p.reshape(-1) for p in parameters.values()])
    length, rows = float(point.norm()) or 1.0, []
    for v in vectors.to(point.dtype):
        step = _STEP * length / (float(v.norm()) or 1.0)
        # H v ≈ (∇(θ + h v) - ∇(θ - h v)) / 2h
        ends = [_gradient_at(objective, parameters, point + sign * step * v) for sign in (1, -1)]
        rows.append((ends[0] - ends[1]) / (2 * step))
    return torch.stack(rows).to(vectors.dtype)


def _gradient_at(objective: Callable, parameters: dict[str, Tensor], point: Tensor) -> Tensor:
    parts = point.split([p.numel() for p in parameters.values()])
    pairs = zip(parameters.items(), parts, strict=True)
    leaves = {k: part.view_as(p).clone().requires_grad_() for (k, p), part in pairs}
    return _flat_gradient(objective(leaves), leaves)


def _flat_gradient(value: Tensor, leaves: dict[str, Tensor], **options: Any) -> Tensor:
    wanted = tuple(leaves.values())
    found = torch.autograd.grad(value, wanted, allow_unused=True, **options)
    parts = [torch.zeros_like(p) if g is None else g for g, p in zip(found, wanted, strict=True)]
    return torch.cat([part.to_dense().reshape(-1) for part in parts])


def _widened(targets: Any, dtype: torch.dtype) -> Any:
    floating = isinstance(targets, Tensor) and targets.is_floating_point()
    return targets.to(dtype) if floating else targets


@contextmanager
def _plain_recurrences() -> Iterator[None]:
    """Recurrent layers as torch's own operations: fused kernels have one derivative only.

    Under ``MODULE_LOCK``, which ``simple_kernels`` holds: the switches are shared.
    """
    before = torch._C._get_mkldnn_enabled()  # noqa: SLF001  ``mkldnn.flags`` warns of Intel GPUs
    torch._C._set_mkldnn_enabled(False)  # noqa: SLF001  torch has no other name
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch._C._set_mkldnn_enabled(before)  # noqa: SLF001  torch has no other name
