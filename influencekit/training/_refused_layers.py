"""Layers with which a recorded run has no derivative by a row."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from influencekit.exceptions import UnsupportedModelError

__all__ = ["batch_norms", "refuse_batch_statistics", "refuse_embeddings"]


def batch_norms(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers of batch normalization, with their names."""
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  torch has no other name
            yield name, part


def refuse_batch_statistics(module: nn.Module) -> None:
    """Refuse layers through which the rows of a training batch depend on each other.

    Raises
    ------
    UnsupportedModelError
    """
    for name, part in batch_norms(module):
        raise UnsupportedModelError(
            f"model: layer {name!r} is {type(part).__name__}. In training mode, it makes the "
            f"loss of a row depend on the other rows of its batch, so a row cannot be "
            f"removed. Accepted are LayerNorm, GroupNorm or no normalization, and this layer in "
            f"eval mode during training; FurtherTraining, which keeps the fitted statistics, works "
            f"with this layer."
        )


def refuse_embeddings(module: nn.Module) -> None:
    """Refuse embeddings whose steps are not those of a gradient.

    Raises
    ------
    UnsupportedModelError
    """
    does = {
        "max_norm": "changes its weights in each forward pass",
        "scale_grad_by_freq": "divides a row's gradient by what the rest of the batch holds",
    }
    for name, part in module.named_modules():
        if not isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
            continue
        for option in does:
            if getattr(part, option):
                raise UnsupportedModelError(
                    f"model: layer {name!r} is {type(part).__name__} with "
                    f"{option}={getattr(part, option)}, which {does[option]}, so the run has no "
                    f"derivative by a row. Accepted are embeddings without {option}; "
                    "InfluenceFunction and FurtherTraining work with this layer."
                )
