"""Outputs of models retrained on subsets, with the states of their runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from influencekit.models._checkpoints import load_checkpoints
from influencekit.models._run_task import RunTask, run_task
from influencekit.models._task import as_task
from influencekit.training._kept_run import states_of
from influencekit.training.subsets._recorded_run import N_CHECKPOINTS, Run, arrays_of, runs_of
from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.utils._archives import read_arrays
from influencekit.utils._files import whole_file

__all__ = ["SubsetRuns", "with_states"]


@dataclass(eq=False)
class SubsetRuns(SubsetOutputs):
    """Outputs of models retrained on subsets, and what was recorded of each training.

    Every metric and search that accepts :class:`SubsetOutputs` accepts it too.

    Parameters
    ----------
    masks, outputs, seeds, output
        As in :class:`SubsetOutputs`.
    states : sequence of sequence of (dict or Trajectory)
        ``states[s][r]`` belongs to repeat r of subset s: with ``record="checkpoints"`` state dicts
        by step, the last one at the end of the training; with ``record="trajectory"`` a
        :class:`Trajectory`, whose rows are those of the whole X.

    Raises
    ------
    ValueError
        If shapes do not fit together.

    See Also
    --------
    retrain_on_subsets : Makes it, with ``record=``.
    """

    states: Sequence[Sequence[Run]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.states = [list(repeats) for repeats in self.states]
        found = {len(repeats) for repeats in self.states}
        if len(self.states) != len(self.masks) or found != {self.outputs.shape[1]}:
            raise ValueError(
                f"states: got {len(self.states)} subsets with {sorted(found)} repeats; accepted "
                f"is one run for each training, {self.outputs.shape[:2]} as outputs have."
            )

    __repr__ = SubsetOutputs.__repr__

    def run(self, model: Any, subset: int, repeat: int = 0) -> RunTask:
        """The model at the end of a training, with the checkpoints of that training.

        Parameters
        ----------
        model : model or Task
            The model that was retrained; only its architecture counts.
        subset, repeat : int

        Returns
        -------
        Task
            For every attributor; :class:`~influencekit.RunAverage` uses the checkpoints. A list of
            several is several runs.
        """
        task, run = replace(as_task(model), training_rows=None), self.states[subset][repeat]
        if isinstance(run, Trajectory):
            end = run.snapshots[run.n_steps].tensors["theta"]
            kept = states_of(run, N_CHECKPOINTS)
        else:
            *kept, end = (run[step] for step in sorted(run))
        own = task.module.state_dict()
        tasks = load_checkpoints(task, [{**own, **state} for state in (*kept, end)])
        return run_task(tasks[-1], tasks[:-1])

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to one npz file, without pickle, completely or not at all.

        Parameters
        ----------
        path : path-like
            Used unchanged; an existing file is replaced. Its folder must exist.
        """
        arrays: dict[str, Any] = arrays_of([run for repeats in self.states for run in repeats])
        with whole_file(path) as file:
            np.savez_compressed(
                file,
                masks=self.masks,
                outputs=self.outputs,
                seeds=self.seeds,
                output=np.array(self.output),
                **arrays,
            )

    @classmethod
    def load(cls, path: str | os.PathLike) -> SubsetRuns:
        """Read a file written by :meth:`save`.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        SubsetRuns

        Raises
        ------
        ValueError
            If the file has other content.
        """
        plain = SubsetOutputs.load(path)
        arrays = {name: part for name, part in read_arrays(path).items() if "/" in name}
        runs = [run for run in runs_of(arrays, plain.seeds.size) if run is not None]
        if len(runs) < plain.seeds.size:
            raise ValueError(
                f"path: {os.fspath(path)} has no states of the runs; read it by SubsetOutputs.load."
            )
        return with_states(plain, runs)


def with_states(outputs: SubsetOutputs, runs: Sequence[Any]) -> SubsetRuns:
    """Outputs with the run of each training, the repeats of a subset one after the other."""
    n = outputs.seeds.shape[1]
    return SubsetRuns(**vars(outputs), states=[runs[i : i + n] for i in range(0, len(runs), n)])
