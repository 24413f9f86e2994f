"""A pass over gradients that joblib's workers share: slices of whole batches, results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import joblib
from torch import Tensor

from influencekit.gradients._notes import Notes
from influencekit.gradients.blocks._base import row_slice
from influencekit.utils._long_work import chunks, progress
from influencekit.utils._parallel import in_parallel

__all__ = ["as_made", "has_workers", "in_slices", "own_weights", "rows_of_slice"]

#: Rows and bytes of gradients in a slice, and its share of the memory.
_ROWS, _BYTES, _SHARE = 16_384, 2**26, 16
#: Slices at a time for each worker; fewer where they come back as gradients, which are large.
_AHEAD, _AHEAD_AS_MADE = 8, 2


def has_workers(gradients: Any) -> bool:
    """Whether a pass is shared: it has more than one slice, and joblib has more than one worker.

    Passes over sparse rows are short, and a GPU is not divided among processes.
    """
    if len(gradients) <= rows_of_slice(gradients):
        return False
    here = gradients.examples.sparse_matrix is not None or (
        gradients.engine.task.device.type != "cpu"
    )
    return not here and joblib.effective_n_jobs(None) > 1


def in_slices(
    gradients: Any,
    function: Callable,
    weights: Tensor | None = None,
    pairs: bool = False,
    *,
    whole: bool = False,
    own: Callable | None = None,
) -> Iterator[tuple[slice, Any]]:
    """What a function makes of every batch, in order, computed by workers.

    Batches are those of one process, and each is computed by one thread, so that results have the
    same bits whatever the workers.

    Parameters
    ----------
    gradients : Gradients
    function, weights, pairs, own
        See :meth:`~influencekit.gradients.Gradients.results`.
    whole : bool, default=False
        The function is given the batches of each slice as one, without weights or pairs.

    Yields
    ------
    rows : slice
    found : object
    """
    size, engine = rows_of_slice(gradients), gradients.engine
    slices = list(chunks(len(gradients), 1, size))
    ahead = _AHEAD_AS_MADE if function is as_made else _AHEAD
    window = ahead * joblib.effective_n_jobs(None)
    shared = {
        "work": function,
        "pairs": pairs,
        "whole": whole,
        "own": own,
        "first": next(gradients.examples.batches(2)).inputs,
    }
    notes = Notes(gradients.noting(pairs))
    with progress(None, "slices", engine.verbose, total=len(slices), leave=False) as bar:
        for some in chunks(len(slices), 1, window):
            sent = [partial(_sent, gradients, rows, weights) for rows in slices[some]]
            for made in _in_order(in_parallel(_made, sent, None, **shared)):
                bar.update(1)
                for rows, noted, found in made:
                    for one in noted:
                        notes.add(one)
                    yield rows, found
    notes.close()


def own_weights(gradients: Any, weights: Tensor | None, rows: slice) -> tuple[Tensor, ...]:
    """Weights of some examples, or of their gradients, as arguments of a function."""
    if weights is None:
        return ()
    if weights.shape[-1] != len(gradients):
        rows = row_slice(rows, gradients.rows_per_example)
    return (weights[..., rows],)


def rows_of_slice(gradients: Any) -> int:
    """Rows of a slice: whole batches, by the rows and their bytes, whatever the workers.

    A model goes with each slice, so a large one gets more rows.
    """
    batch, engine = gradients.batch_size, gradients.engine
    size = max(_BYTES, engine.task.n_parameters * engine.task.dtype.itemsize)
    size = min(size, engine.max_memory // _SHARE)
    rows = min(_ROWS, size // max(1, gradients.sample.nbytes))
    return batch * max(1, rows // batch)


def as_made(features: Any) -> Any:
    """The function of a pass that asks for the features themselves."""
    return features


def _sent(gradients: Any, rows: slice, weights: Tensor | None) -> tuple:
    """What a worker needs to make the gradients of a slice."""
    own = own_weights(gradients, weights, rows)
    return rows.start, gradients.part(rows), own[0].clone() if own else None


def _made(
    item: tuple, work: Callable, pairs: bool, whole: bool, own: Callable | None, first: Any
) -> list[tuple[slice, list, Any]]:
    """For each batch of a slice: its rows, what is noted of it, and what a function makes of it."""
    start, part, weights = item
    part.engine.layout_of(first)
    notes, made = Notes(part.noting(pairs)), []
    for rows, features, given in part.passed(pairs):
        mine = given if own is None else own(given)
        noted = [notes.of(rows, mine)]
        place = slice(start + rows.start, start + rows.stop)
        if whole:
            made.append((place, noted, features))
            continue
        both = (features, mine) if pairs else (features,)
        made.append((place, noted, work(*both, *own_weights(part, weights, rows))))
    if not whole:
        return made
    joined = type(made[0][2]).cat([features for *_, features in made])
    noted = [one for _, some, _ in made for one in some]
    return [(slice(start, start + len(part)), noted, work(joined))]


def _in_order(found: Iterator[tuple[int, Any]]) -> Iterator[Any]:
    """Results by their position, as soon as those before are there."""
    waiting: dict[int, Any] = {}
    following = 0
    for position, one in found:
        waiting[position] = one
        while following in waiting:
            yield waiting.pop(following)
            following += 1
