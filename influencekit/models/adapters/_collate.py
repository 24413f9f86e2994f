"""How the items of a tokenized Dataset become a batch of a model of the transformers library."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PadItems", "after_padding", "arguments_of"]

#: Entries of an item that are not arguments of the model.
_TARGETS = ("labels", "label", "label_ids", "start_positions", "end_positions")
#: Label of tokens that are not in the loss.
_IGNORED = -100


def after_padding(attention_mask: Any) -> Tensor:
    """Which tokens (n, T) are the first after masked ones."""
    used = torch.as_tensor(attention_mask) != 0
    first = torch.zeros_like(used)
    first[:, 1:] = used[:, 1:] & ~used[:, :-1]
    return first


def arguments_of(model: nn.Module) -> tuple[str, ...]:
    """Names of the arguments of a model's forward."""
    return tuple(inspect.signature(model.forward).parameters)


@dataclass(frozen=True)
class PadItems:
    """Collates dicts: entries of different lengths are padded at their end.

    Labels are padded with -100, ``input_ids`` with the padding token, other entries with 0.  An
    ``attention_mask`` is made where padding needs one.  Entries that are neither arguments of the
    model nor targets (the text itself) are left out, as the library's Trainer does.

    Parameters
    ----------
    columns : tuple of str
        Arguments of the model.
    pad_token : int, default=0
    decoder_inputs : callable, default=None
        ``decoder_inputs(labels)``: inputs of the decoder of a sequence-to-sequence model.
    next_tokens : bool, default=False
        Whether labels are those of the next tokens.
    inner : callable, default=None
        The collator that training used, in place of the padding here.
    all_columns : bool, default=False
        Whether ``inner`` gets all entries of the items.
    """

    columns: tuple[str, ...]
    pad_token: int = 0
    decoder_inputs: Callable[[Tensor], Tensor] | None = None
    next_tokens: bool = False
    inner: Callable[[list], Any] | None = None
    all_columns: bool = False

    def around(self, collate_fn: Callable[[list], Any], all_columns: bool = True) -> PadItems:
        """The same with a collator of the user's in place of the padding.

        Parameters
        ----------
        collate_fn : callable
        all_columns : bool, default=True

        Returns
        -------
        PadItems
        """
        return replace(self, inner=collate_fn, all_columns=all_columns)

    def __call__(self, items: list) -> Any:
        if self.inner is None or not self.all_columns:
            items = [self._wanted(item) for item in items]
        batch = self._padded(items) if self.inner is None else self.inner(items)
        return self.finished(batch) if isinstance(batch, Mapping) else batch

    def finished(self, batch: Any) -> dict[str, Any]:
        """A batch with what the model takes and its labels are for.

        The decoder gets its inputs from the labels, as in training.  The first token after padding
        is not in the loss of a causal model: nothing before it predicts it.

        Parameters
        ----------
        batch : mapping of str to array

        Returns
        -------
        dict
        """
        batch = dict(self._wanted(batch))
        if "labels" not in batch:
            return batch
        if self.decoder_inputs and "decoder_input_ids" not in batch:
            batch["decoder_input_ids"] = self.decoder_inputs(torch.as_tensor(batch["labels"]))
        if self.next_tokens and "attention_mask" in batch:
            labels, first = torch.as_tensor(batch["labels"]), after_padding(batch["attention_mask"])
            if labels.shape == first.shape:
                batch["labels"] = torch.where(first, _IGNORED, labels)
        return batch

    def _wanted(self, item: Any) -> Any:
        if not isinstance(item, Mapping):
            return item
        return {k: v for k, v in item.items() if k in self.columns or k in _TARGETS}

    def _padded(self, items: list) -> dict[str, Tensor]:
        if not all(isinstance(item, Mapping) for item in items):
            raise ValueError(
                f"X: the Dataset's items are {type(items[0]).__name__}; accepted for a model of "
                "the transformers library are dicts of its arguments, such as {'input_ids': ..., "
                "'labels': ...}, or a DataLoader whose collate_fn makes them."
            )
        rows = {key: [_tensor(item[key], key) for item in items] for key in items[0]}
        if "attention_mask" not in rows and "attention_mask" in self.columns:
            ids = rows.get("input_ids", [])
            if len({row.shape for row in ids}) > 1:
                rows["attention_mask"] = [torch.ones_like(row) for row in ids]
        return {key: _stacked(some, self._filler(key), key) for key, some in rows.items()}

    def _filler(self, key: str) -> int:
        if key in _TARGETS:
            return _IGNORED
        return self.pad_token if key.endswith("input_ids") else 0


def _tensor(value: Any, key: str) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"X: the entry {key!r} of an example cannot become a tensor ({error}); accepted are "
            "numbers. Tokenize or process the data first, or give a DataLoader whose collate_fn "
            "does."
        ) from error


def _stacked(rows: list[Tensor], filler: int, key: str) -> Tensor:
    """Rows as one tensor, padded at the end of each axis."""
    if len({row.ndim for row in rows}) > 1:
        raise ValueError(
            f"X: the entry {key!r} has {sorted({row.ndim for row in rows})} axes in different "
            "examples; accepted is the same number in all."
        )
    shape = [max(sizes) for sizes in zip(*(row.shape for row in rows), strict=True)]
    out = torch.full((len(rows), *shape), filler, dtype=rows[0].dtype)
    for place, row in zip(out, rows, strict=True):
        place[tuple(slice(0, size) for size in row.shape)] = row
    return out
