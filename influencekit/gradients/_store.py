"""Gradients of many examples, kept in memory as far as they fit, the rest in a temporary folder."""

from __future__ import annotations

import errno
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from influencekit.gradients._features import GradientFeatures
from influencekit.gradients.blocks._base import Block
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.gradients.blocks._outer import OuterBlock
from influencekit.utils._files import remove_abandoned, remove_once, unfinished_name
from influencekit.utils._long_work import format_bytes

__all__ = [
    "PIECE_BYTES",
    "FeatureStore",
    "disk_room",
    "of_length",
    "on_disk",
    "pieces",
    "remove_spilled",
    "require_disk",
    "rows_of",
    "smaller",
    "smallest",
    "temporary_folder",
]

#: Prefix of the names of temporary folders.
SPILLED = "influencekit-spilled-"
#: Number of examples, or bytes, from which a piece of gradients in memory is not joined to others.
_PIECE, PIECE_BYTES = 2**15, 2**23


def remove_spilled() -> None:
    """Delete what killed processes spilled, once in a process."""
    remove_once(tempfile.gettempdir(), SPILLED)


def temporary_folder() -> tempfile.TemporaryDirectory:
    """A temporary folder that a later process removes if this one is killed."""
    remove_abandoned(Path(tempfile.gettempdir()), SPILLED)
    return tempfile.TemporaryDirectory(prefix=f"{unfinished_name(SPILLED)}-")


def disk_room() -> int:
    """Free bytes in the folder for temporary files."""
    return shutil.disk_usage(tempfile.gettempdir()).free


def require_disk(n_bytes: int) -> None:
    """Raise OSError unless so much fits into the folder for temporary files.

    What is free decides about nothing else: gradients that are read again and those that are
    computed again would differ by rounding.
    """
    if disk_room() < n_bytes:
        raise _full(n_bytes, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


class FeatureStore:
    """Batches of features that can be iterated many times.

    Use it as a context manager: leaving it deletes the temporary files. They are deleted together
    with the store in any case.

    Parameters
    ----------
    batches : iterable of GradientFeatures
    memory : int
        Bytes that may stay in memory; further batches are written to memory-mapped files.
    """

    def __init__(self, batches: Iterable[GradientFeatures], memory: int):
        self._parts: list[GradientFeatures] = []
        self._files: dict[int, list[mmap.mmap]] = {}  # of the parts that were spilled
        self._read: int | None = None
        self._folder: tempfile.TemporaryDirectory | None = None
        self.spilled = 0
        held = 0
        try:
            for features in batches:
                self._device = features.device
                held += features.nbytes
                if held > memory:
                    features, held = self._spill(features), held - features.nbytes
                    self.spilled += 1
                self._parts.append(features)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, position: int) -> GradientFeatures:
        if position != self._read:
            self._drop(self._read)
            self._read = position if position in self._files else None
        features = self._parts[position]
        blocks = {k: block.to_device(self._device) for k, block in features.blocks.items()}
        return features.with_blocks(blocks)

    def __iter__(self) -> Iterator[GradientFeatures]:
        return (self[position] for position in range(len(self)))

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Forget the features and delete the temporary files."""
        self._parts, self._files = [], {}
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _spill(self, features: GradientFeatures) -> GradientFeatures:
        if self._folder is None:
            self._folder = temporary_folder()
        folder = Path(self._folder.name)
        blocks, place = {}, len(self._parts)
        files = self._files[place] = []
        for number, (name, block) in enumerate(features.blocks.items()):
            paths = (folder / f"{place}-{number}-{i}" for i in range(len(block.tensors)))
            mapped = [_to_file(t, p, files) for t, p in zip(block.tensors, paths, strict=True)]
            blocks[name] = block.replace(*mapped)
        self._drop(place)
        return features.with_blocks(blocks)

    def _drop(self, position: int | None) -> None:
        """Take the pages of a spilled part out of this process's memory; they are in its files."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for file in self._files.get(position, ()) if position is not None else ():
                file.madvise(mmap.MADV_DONTNEED)


def _to_file(tensor: Tensor, path: Path, files: list[mmap.mmap]) -> Tensor:
    """A copy of a tensor in a memory-mapped file, which is added to ``files``."""
    if not tensor.numel():
        return tensor
    with open(path, "w+b") as file:
        _reserve(file.fileno(), tensor.numel() * tensor.element_size())
        files.append(mmap.mmap(file.fileno(), 0))
    mapped = torch.frombuffer(files[-1], dtype=tensor.dtype).view(tensor.shape)
    return mapped.copy_(tensor)


def on_disk(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An empty tensor in a file without a name, which goes with it, or when the process ends.

    Parameters
    ----------
    shape : tuple of int
    dtype : torch.dtype

    Returns
    -------
    Tensor
        On the CPU. The system may drop its pages from memory.
    """
    descriptor, path = tempfile.mkstemp(prefix=f"{unfinished_name(SPILLED)}-")
    try:
        _reserve(descriptor, math.prod(shape) * dtype.itemsize)
        mapped = torch.from_file(path, shared=True, size=math.prod(shape), dtype=dtype)
    finally:
        os.close(descriptor)
        with suppress(OSError):  # a system that keeps open files
            os.unlink(path)
    return mapped.view(shape)


def _reserve(descriptor: int, n_bytes: int) -> None:
    """Give a file its size, and its place on the disk: a full disk would end the process later."""
    if not hasattr(os, "posix_fallocate"):
        os.truncate(descriptor, n_bytes)
        return
    try:
        os.posix_fallocate(descriptor, 0, n_bytes)
    except OSError as error:
        raise _full(n_bytes, error) from error


def _full(n_bytes: int, error: OSError) -> OSError:
    return OSError(
        error.errno,
        f"max_memory: {format_bytes(n_bytes)} of gradients do not fit into memory, nor into "
        f"the temporary folder {tempfile.gettempdir()!r} ({error.strerror}). Free it, set "
        "TMPDIR to another folder, or raise max_memory.",
    )


def pieces(
    batches: Iterable[GradientFeatures], room: int = PIECE_BYTES
) -> Iterator[GradientFeatures]:
    """Batches joined into pieces of many examples, or of as many bytes as ``room`` or more."""
    waiting: list[GradientFeatures] = []
    for features in batches:
        waiting.append(features)
        size = sum(f.nbytes for f in waiting)
        if sum(map(len, waiting)) >= _PIECE or size >= min(room, PIECE_BYTES):
            yield GradientFeatures.cat(waiting)
            waiting = []
    if waiting:
        yield GradientFeatures.cat(waiting)


def smaller(block: Block) -> Block:
    """A block in whichever form is smaller."""
    dense_is_smaller = block.dense_bytes * block.n_examples < block.nbytes
    if isinstance(block, OuterBlock) and block.length > 1 and dense_is_smaller:
        return DenseBlock.of(block)
    return block


def smallest(features: GradientFeatures) -> GradientFeatures:
    """Gradients with each block in whichever form is smaller."""
    return features.with_blocks({k: smaller(b).compact() for k, b in features.blocks.items()})


def of_length(batches: Iterable[GradientFeatures], n: int) -> Iterator[GradientFeatures]:
    """The same gradients in pieces of ``n`` examples, however they come."""
    waiting: list[GradientFeatures] = []
    for features in batches:
        rest = features
        while len(rest):
            some = rest[: n - sum(map(len, waiting))]
            waiting, rest = [*waiting, some], rest[len(some) :]
            if sum(map(len, waiting)) == n:
                yield GradientFeatures.cat(waiting)
                waiting = []
    if waiting:
        yield GradientFeatures.cat(waiting)


def rows_of(parts: Sequence[GradientFeatures], rows: Tensor) -> GradientFeatures:
    """Some examples from all parts."""
    if len(parts) == 1:
        return parts[0][rows]
    starts = torch.tensor([0, *(len(part) for part in parts)], device=rows.device).cumsum(0)
    owners = torch.searchsorted(starts, rows, right=True) - 1
    found = [part[rows[owners == i] - starts[i]] for i, part in enumerate(parts)]
    order = torch.argsort(owners, stable=True).argsort()
    return GradientFeatures.cat(found)[order]
