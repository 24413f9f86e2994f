"""What is kept of a training run, so that it can be replayed."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.exceptions import ResourceError, TrajectoryError
from influencekit.training.trajectory.rules._adam import AdamRule
from influencekit.training.trajectory.rules._elementwise import ELEMENTWISE
from influencekit.training.trajectory.rules._rule import Rule
from influencekit.training.trajectory.rules._sgd import SGDRule
from influencekit.utils._archives import DamagedFile, read_arrays
from influencekit.utils._files import check_name, whole_file

__all__ = ["FolderSnapshots", "Snapshot", "Trajectory"]


THETA = "theta"


@dataclass(frozen=True)
class Snapshot:
    """State of a run before one of its steps.

    Parameters
    ----------
    tensors : dict of str to dict of parameter name to Tensor
        "theta" are the parameters; the others are the optimizer's state under torch's names.
    count : int
        Steps that the optimizer has taken.
    """

    tensors: dict[str, dict[str, Tensor]]
    count: int

    def write(self, path: Path) -> None:
        """Write as a numpy archive, completely or not at all."""
        arrays: dict[str, Any] = {
            f"{slot}/{name}": _numpy(tensor, name)
            for slot, named in self.tensors.items()
            for name, tensor in named.items()
        }
        with whole_file(path) as file:
            np.savez(file, **arrays, count=np.array(self.count))

    @classmethod
    def read(cls, path: Path) -> Snapshot:
        """Read what ``write`` wrote; nothing in the file is ever run."""
        tensors: dict[str, dict[str, Tensor]] = {}
        with _reading(path.parent):
            stored = read_arrays(path)
            count = int(stored.pop("count"))
            for key, array in stored.items():
                slot, name = key.split("/", 1)
                tensors.setdefault(slot, {})[name] = torch.from_numpy(array)
        return cls(tensors, count)


class FolderSnapshots(Mapping):
    """Snapshots by step, each a file of a folder, read when asked for.

    Parameters
    ----------
    folder : path-like
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def __setitem__(self, step: int, snapshot: Snapshot) -> None:
        """Write a snapshot."""
        self.folder.mkdir(parents=True, exist_ok=True)
        snapshot.write(self._path(step))

    def __getitem__(self, step: int) -> Snapshot:
        try:
            return Snapshot.read(self._path(step))
        except FileNotFoundError:
            raise KeyError(step) from None

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(int(p.stem.split("_")[1]) for p in self.folder.glob("step_*.npz")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}.npz"


def _numpy(tensor: Tensor, name: str) -> np.ndarray:
    if tensor.dtype not in (torch.float32, torch.float64, torch.float16):
        raise TrajectoryError(
            f"folder: parameter {name!r} has dtype {tensor.dtype}, which numpy's files do not "
            "hold; accepted are float16, float32 and float64. Record to memory (folder=None)."
        )
    return tensor.cpu().numpy()


_SETTINGS, _ARRAYS = "trajectory.json", "trajectory.npz"


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Recorded training run: batches, rates, and the state at some steps.

    Made by :class:`TrajectoryRecorder` or :func:`record_trajectory`.

    Parameters
    ----------
    optimizer : str
        Name of torch's class.
    groups : tuple of tuple of str
        Names of the parameters of each parameter group.
    options : dict of str to ndarray of shape (n_steps, n_groups)
        "lr", "weight_decay" and the optimizer's own numbers at every step.
    switches : dict of str to bool
        "momentum" and "nesterov" of SGD; "amsgrad" and "decoupled" of Adam and AdamW;
        "centered", "momentum" and "decoupled_weight_decay" of others;
        "frozen_statistics" of a module with batch normalization; "own_loss" of a model that rounds
        the loss of its labels; "means_added" of steps that add the means of their batches.
    batches : tuple of ndarray of int
        Rows of X of each step.
    max_norm : ndarray of shape (n_steps,)
        Norm to which the gradient was clipped, NaN where it was not.
    snapshots : mapping of int to Snapshot
        State before a step; 0 and n_steps, the end, are always there.
    n_rows : int
        Rows of X that the run was given.
    reduction : {"mean", "sum"}
        Whether a step minimized the mean or the sum of its batch's losses.
    random_states : tuple of Tensor or None
        torch's random state before each forward pass, where the module drops out.
    items : ndarray of shape (n_steps,) or None
        Number by which a Trainer divided the sum of a step's losses; None where each step has a
        mean over its rows.
    means : tuple of ndarray of int or None
        Which batch of its step each row was in, where a step adds the means of several batches, or
        takes their average.
    widths : dict of str to ndarray of shape (n_steps,) or None
        Length to which a batch was padded, by the name of the input.

    Attributes
    ----------
    n_steps : int
    """

    optimizer: str
    groups: tuple[tuple[str, ...], ...]
    options: dict[str, np.ndarray]
    switches: dict[str, bool]
    batches: tuple[np.ndarray, ...]
    max_norm: np.ndarray
    snapshots: Mapping[int, Snapshot]
    n_rows: int
    reduction: str = "mean"
    random_states: tuple[Tensor, ...] | None = None
    items: np.ndarray | None = None
    means: tuple[np.ndarray, ...] | None = None
    widths: dict[str, np.ndarray] | None = None

    def __repr__(self) -> str:
        return (
            f"Trajectory(optimizer={self.optimizer!r}, n_steps={self.n_steps}, "
            f"n_rows={self.n_rows}, snapshots={len(self.snapshots)})"
        )

    @property
    def n_steps(self) -> int:
        """Number of steps of the optimizer."""
        return len(self.batches)

    @property
    def rule(self) -> Rule:
        """The optimizer's step."""
        if self.optimizer == "SGD":
            return SGDRule(self.switches["momentum"], self.switches["nesterov"])
        if self.optimizer in ELEMENTWISE:
            kind = ELEMENTWISE[self.optimizer]
            return kind(frozenset(name for name in kind.switch_names if self.switches[name]))
        return AdamRule(self.switches["decoupled"], self.switches["amsgrad"])

    def segments(self) -> list[tuple[int, int]]:
        """Steps from one snapshot to the next, in order."""
        steps = sorted(self.snapshots)
        return list(pairwise(steps))

    def save(self, folder: str | os.PathLike) -> None:
        """Write the run into a folder, as JSON and numpy archives without pickle.

        Parameters
        ----------
        folder : path-like
            Made if absent.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        here = self.snapshots
        if not (isinstance(here, FolderSnapshots) and here.folder.resolve() == folder.resolve()):
            store = FolderSnapshots(folder)
            for step, snapshot in here.items():
                store[step] = snapshot
        arrays: dict[str, Any] = {f"option_{name}": values for name, values in self.options.items()}
        if self.random_states is not None:
            arrays["random_states"] = np.stack([s.numpy() for s in self.random_states])
        if self.items is not None:
            arrays["items"] = self.items
        if self.means is not None:
            arrays["means"] = np.concatenate(self.means)
        arrays |= {f"width_{name}": values for name, values in (self.widths or {}).items()}
        sizes = np.array([len(rows) for rows in self.batches], dtype=np.int64)
        rows = np.concatenate(self.batches) if self.batches else np.zeros(0, np.int64)
        with whole_file(folder / _ARRAYS) as file:
            np.savez(file, sizes=sizes, rows=rows, max_norm=self.max_norm, **arrays)
        settings: dict[str, Any] = {
            "optimizer": self.optimizer,
            "groups": self.groups,
            "switches": self.switches,
            "n_rows": self.n_rows,
            "reduction": self.reduction,
        }
        settings["check"] = _check_sum(settings)
        with whole_file(folder / _SETTINGS) as file:  # last: it says that all is there
            file.write(json.dumps(settings, indent=1).encode())

    @classmethod
    def load(cls, folder: str | os.PathLike) -> Trajectory:
        """Read a run that ``save`` or a recorder with a folder wrote.

        Parameters
        ----------
        folder : path-like

        Returns
        -------
        Trajectory
            Snapshots stay in the folder and are read when needed.

        Raises
        ------
        TrajectoryError
            If the folder does not contain a finished recording, or a file of it is damaged.
        ResourceError
            If a file unpacks to more than half of the free memory.
        """
        check_name(folder, "folder")
        folder = Path(folder)
        try:
            text = (folder / _SETTINGS).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise TrajectoryError(
                f"folder: {folder} does not contain a finished recording ({_SETTINGS} is "
                f"missing); accepted is a folder written by Trajectory.save or a recorder."
            ) from None
        with _reading(folder):
            settings = _read_settings(folder, text)
            stored = read_arrays(folder / _ARRAYS)
            states, means = stored.get("random_states"), stored.get("means")
            bounds = np.cumsum(stored["sizes"])[:-1]
            return cls(
                **settings,
                options={k[7:]: v for k, v in stored.items() if k.startswith("option_")},
                batches=tuple(np.split(stored["rows"], bounds)),
                max_norm=stored["max_norm"],
                snapshots=FolderSnapshots(folder),
                random_states=None if states is None else tuple(map(torch.from_numpy, states)),
                items=stored.get("items"),
                means=None if means is None else tuple(np.split(means, bounds)),
                widths={k[6:]: v for k, v in stored.items() if k.startswith("width_")} or None,
            )


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Name the folder, and what to do, where one of its files cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        if error.filename is not None and Path(error.filename).name != _ARRAYS:
            raise  # a snapshot that is not there
        raise TrajectoryError(f"folder: {folder} lacks {_ARRAYS}; {_RECORD_AGAIN}") from error
    except ResourceError as error:
        raise ResourceError(f"folder: {error}. Read it on a machine with more memory.") from None
    except (OSError, ValueError, KeyError) as error:
        raise TrajectoryError(
            f"folder: {folder} cannot be read: {error}; {_RECORD_AGAIN}"
        ) from error


_RECORD_AGAIN = "accepted is a folder as it was recorded. Restore it, or record the run again."


def _check_sum(settings: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(settings, sort_keys=True).encode())


def _read_settings(folder: Path, text: bytes) -> dict[str, Any]:
    """Settings whose check sum is right; recordings of earlier versions have none."""
    try:
        settings = dict(json.loads(text))
        check = settings.pop("check", None)
        if check is not None and check != _check_sum(settings):
            raise ValueError("its check sum is another")
        if set(settings) != {"optimizer", "groups", "switches", "n_rows", "reduction"}:
            raise ValueError(f"it has the entries {sorted(settings)}")
        settings["groups"] = tuple(tuple(names) for names in settings["groups"])
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedFile(f"{folder / _SETTINGS} is damaged ({error})") from error
    return settings
