"""What is recorded of one training: checkpoints or a trajectory, as arrays without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from influencekit.exceptions import UnsupportedModelError
from influencekit.training._checkpoints import KeepCheckpoints
from influencekit.training._kept_run import net_inside
from influencekit.training._step_checkpoints import State, copied_state
from influencekit.training.trajectory._recorder import TrajectoryRecorder
from influencekit.training.trajectory._trajectory import Snapshot, Trajectory
from influencekit.utils._suggest import check_choice

__all__ = [
    "N_CHECKPOINTS",
    "RECORDS",
    "Run",
    "add_recorder",
    "arrays_of",
    "check_record",
    "recorded",
    "runs_of",
]

RECORDS = ("checkpoints", "trajectory")
#: Checkpoints before steps of a run; its end is kept besides.
N_CHECKPOINTS = 8

Run = Mapping[int, State] | Trajectory

_NAME, _RUN = "record_run", "run"
_PARTS = ("optimizer", "groups", "switches", "n_rows", "reduction")


def check_record(estimator: Any, record: str | None) -> None:
    """Refuse to record a training that is not that of a skorch net.

    Raises
    ------
    ValueError, UnsupportedModelError
    """
    if record is None:
        return
    check_choice("record", record, RECORDS)
    if estimator is None:
        raise ValueError(
            f"record: got {record!r}, but your own training function, retrain=, is not recorded. "
            "Record inside that function, or leave record out."
        )
    if net_inside(estimator) is None:
        raise UnsupportedModelError(
            f"record: got {record!r} for {type(estimator).__name__}, whose training cannot be "
            "recorded; accepted are skorch nets. Use record=None."
        )


def add_recorder(model: Any, record: str) -> None:
    """Let an unfitted net, or the one in a Pipeline, record its training."""
    net: Any = net_inside(model)
    own = net.callbacks if isinstance(net.callbacks, (list, tuple)) else []
    recorder = TrajectoryRecorder() if record == "trajectory" else KeepCheckpoints(n=N_CHECKPOINTS)
    net.set_params(callbacks=[*own, (_NAME, recorder)])


def recorded(model: Any, rows: np.ndarray, n_train: int) -> Run:
    """What a net recorded of its training on some rows of the whole data."""
    net: Any = net_inside(model)
    recorder = dict(net.callbacks_)[_NAME]
    if isinstance(recorder, KeepCheckpoints):
        return {**recorder.checkpoints_, recorder.n_steps_: copied_state(net.module_)}
    run = recorder.trajectory_
    return replace(run, batches=tuple(rows[batch] for batch in run.batches), n_rows=n_train)


def arrays_of(runs: Sequence[Run | None]) -> dict[str, np.ndarray]:
    """Arrays of several runs, for one numpy archive; nothing of those that are None."""
    parts = [(i, run) for i, run in enumerate(runs) if run is not None]
    return {f"{_RUN}{i}/{key}": array for i, r in parts for key, array in _arrays(r).items()}


def runs_of(stored: Mapping[str, np.ndarray], n_runs: int) -> list[Run | None]:
    """The runs that :func:`arrays_of` wrote."""
    own: list[dict[str, np.ndarray]] = [{} for _ in range(n_runs)]
    for name, array in stored.items():
        prefix, _, key = name.partition("/")
        if key:
            own[int(prefix.removeprefix(_RUN))][key] = array
    return [_run(arrays) if arrays else None for arrays in own]


def _arrays(run: Run) -> dict[str, np.ndarray]:
    """A run as arrays, for a numpy archive."""
    if not isinstance(run, Trajectory):
        return {f"state/{s}/{name}": _array(t) for s in run for name, t in run[s].items()}
    arrays = {f"option/{name}": values for name, values in run.options.items()}
    for step, snapshot in run.snapshots.items():
        arrays[f"count/{step}"] = np.array(snapshot.count)
        for slot, named in snapshot.tensors.items():
            arrays |= {f"snapshot/{step}/{slot}/{name}": _array(t) for name, t in named.items()}
    if run.random_states is not None:
        arrays["random_states"] = np.stack([state.numpy() for state in run.random_states])
    arrays["settings"] = np.array(json.dumps({name: getattr(run, name) for name in _PARTS}))
    arrays["sizes"] = np.array([len(rows) for rows in run.batches], dtype=np.int64)
    return {**arrays, "rows": np.concatenate(run.batches), "max_norm": run.max_norm}


def _run(arrays: Mapping[str, np.ndarray]) -> Run:
    """The run that :func:`_arrays` wrote."""
    if "settings" in arrays:
        return _trajectory(arrays)
    found: dict[int, State] = {}
    for key, value in arrays.items():
        _, step, name = key.split("/", 2)
        found.setdefault(int(step), {})[name] = torch.from_numpy(value)
    return dict(sorted(found.items()))


def _trajectory(arrays: Mapping[str, np.ndarray]) -> Trajectory:
    tensors: dict[int, dict[str, State]] = {}
    for key, value in arrays.items():
        if key.startswith("snapshot/"):
            _, step, slot, name = key.split("/", 3)
            own = tensors.setdefault(int(step), {}).setdefault(slot, {})
            own[name] = torch.from_numpy(value)
    settings = json.loads(str(arrays["settings"]))
    settings["groups"] = tuple(tuple(names) for names in settings["groups"])
    states = arrays.get("random_states")
    return Trajectory(
        **settings,
        options={k[len("option/") :]: v for k, v in arrays.items() if k.startswith("option/")},
        batches=tuple(np.split(arrays["rows"], np.cumsum(arrays["sizes"])[:-1])),
        max_norm=arrays["max_norm"],
        snapshots={s: Snapshot(t, int(arrays[f"count/{s}"])) for s, t in sorted(tensors.items())},
        random_states=None if states is None else tuple(torch.from_numpy(s) for s in states),
    )


def _array(tensor: torch.Tensor) -> np.ndarray:
    try:
        return tensor.detach().cpu().numpy()
    except TypeError:
        raise ValueError(
            f"record: a tensor has dtype {tensor.dtype}, which numpy's files do not hold; accepted "
            "are float16, float32, float64 and integers. Train in one of these, or leave "
            "cache_dir out."
        ) from None
