"""Data, nets and recorded runs of bench_trajectory.py."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sensitivity_settings import _draw, _file, _shrink
from torch import nn

from influencekit import Task, as_task
from influencekit.training import Trajectory, record_trajectory

N_TOKENS = 32


@dataclass
class Run:
    """A recorded run with its data.

    Parameters
    ----------
    task : Task
    trajectory : Trajectory
    X, y, X_test, y_test : ndarray
    left_out : ndarray
        Rows that are left out, one a rerun.
    """

    task: Task
    trajectory: Trajectory
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    left_out: np.ndarray


@dataclass
class Setting:
    """Sizes and optimizer of one kind of run.

    Parameters
    ----------
    n_train, n_test, n_left_out, batch_size, epochs : int
    lrs : tuple of float
    betas : tuple of float
    activation : type
        Of the mnist net.
    """

    n_train: int
    n_test: int
    n_left_out: int
    batch_size: int
    epochs: int
    lrs: tuple[float, ...]
    betas: tuple[float, float]
    activation: type[nn.Module] = nn.ReLU


SETTINGS = {
    "mnist": Setting(6000, 500, 200, 64, 1, (1e-3, 1e-4, 1e-5), (0.9, 0.95)),
    "cifar2": Setting(1024, 100, 60, 32, 2, (3e-3, 1e-3, 1e-4), (0.9, 0.999)),
    "llama": Setting(256, 32, 40, 16, 2, (1e-3, 3e-4), (0.9, 0.999)),
}


def make_run(name: str, size: Setting, lr: float, seed: int, home: Path | None, scheduled: bool):
    """Train and record one run.

    Parameters
    ----------
    name : {"mnist", "cifar2", "llama"}
    size : Setting
    lr : float
    seed : int
    home : path or None
    scheduled : bool
        Whether the rate falls along a cosine and weights decay, rather than neither.

    Returns
    -------
    Run
    """
    torch.manual_seed(seed)
    read = {"mnist": _mnist, "cifar2": _cifar2, "llama": _llama}[name]
    own = {"activation": size.activation} if name == "mnist" else {}
    module, loss, X, y, X_test, y_test = read(home, size.n_train, size.n_test, seed, **own)
    if name != "llama":  # its norms and its loss compute in float32 anyway
        module = module.double()
    optimizer = torch.optim.AdamW(
        module.parameters(), lr, betas=size.betas, weight_decay=1.0 if scheduled else 0.0
    )
    inputs = torch.as_tensor(X["input_ids"] if isinstance(X, dict) else X)
    n = len(inputs)
    targets = None if y is None else torch.as_tensor(y)
    rng = np.random.RandomState(seed)
    orders = [rng.permutation(n) for _ in range(size.epochs)]
    batches = [o[i : i + size.batch_size] for o in orders for i in range(0, n, size.batch_size)]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    with record_trajectory(module, optimizer, n) as recorder:
        for rows in batches:
            recorder.rows(rows)
            optimizer.zero_grad()
            loss(module, inputs[rows], None if y is None else targets[rows]).backward()
            optimizer.step()
            if scheduled:
                schedule.step()
    task = as_task(module.eval(), **({} if y is None else {"loss": nn.CrossEntropyLoss()}))
    left_out = rng.choice(n, size.n_left_out, replace=False)
    return Run(task, recorder.trajectory_, X, y, X_test, y_test, np.sort(left_out))


def _cross_entropy(module: nn.Module, X: Any, y: Any):
    return nn.functional.cross_entropy(module(X), y)


def _mnist(home, n_train, n_test, seed, activation=nn.ReLU):
    with np.load(_file(home, "mnist/mnist.npz"), allow_pickle=False) as file:
        arrays = {k: file[k] for k in ("X_train", "y_train", "X_test", "y_test")}
    X, X_test = ((arrays[k] / 255.0).reshape(-1, 784) for k in ("X_train", "X_test"))
    y, y_test = (arrays[k].astype(np.int64) for k in ("y_train", "y_test"))
    module = nn.Sequential(
        nn.Linear(784, 16), activation(), nn.Linear(16, 16), activation(), nn.Linear(16, 10)
    )
    return module, _cross_entropy, *_draw(X, y, X_test, y_test, n_train, n_test, seed)


def _cifar2(home, n_train, n_test, seed):
    with np.load(_file(home, "cifar2/cifar2_cat_dog.npz"), allow_pickle=False) as file:
        arrays = {k: file[k] for k in ("X_train", "y_train", "X_test", "y_test")}
    X, X_test = (_shrink(arrays[k]).astype(np.float64) for k in ("X_train", "X_test"))
    y, y_test = (arrays[k].astype(np.int64) for k in ("y_train", "y_test"))
    drawn = _draw(X, y, X_test, y_test, n_train, n_test, seed)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 2),
    )
    return module, _cross_entropy, *drawn


def _llama(home, n_train, n_test, seed):
    """A tiny language model of children's stories, trained on with passages of Shakespeare."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = _file(home, "lm_stories260k")
    with gzip.open(_file(home, "tiny_shakespeare/input.txt.gz"), "rt", encoding="utf-8") as file:
        text = file.read()[: 6 * (n_train + n_test) * N_TOKENS]
    tokens = AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    rows = np.array(tokens[: len(tokens) // N_TOKENS * N_TOKENS]).reshape(-1, N_TOKENS)
    rows = rows[np.random.RandomState(seed).permutation(len(rows))[: n_train + n_test]]
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")

    def loss(module, X, _):
        return module(input_ids=X, labels=X).loss

    X, X_test = (
        {"input_ids": part, "attention_mask": np.ones_like(part)}
        for part in (rows[:n_train], rows[n_train:])
    )
    return model, loss, X, None, X_test, None
