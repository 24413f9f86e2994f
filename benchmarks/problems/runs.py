"""Recorded training runs: what is explained along the way."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.problems import data, nets
from benchmarks.problems.registry import two_files
from influencekit import Task, as_task
from influencekit.training import Trajectory, record_trajectory

N_TOKENS = 32


@dataclass
class Run:
    """A recorded run with its data, and the rows that are left out, one a rerun."""

    task: Task
    trajectory: Trajectory
    X: Any
    y: Any
    X_test: Any
    y_test: Any
    left_out: np.ndarray

    @property
    def data(self) -> tuple:
        return self.X, self.y, self.X_test, self.y_test


@dataclass(frozen=True)
class Kind:
    """Rows, net and optimizer of a kind of run."""

    read: Any  # read(seed, n_train, n_test, activation): module, X, y, X_test, y_test
    n_train: int
    batch_size: int
    epochs: int
    betas: tuple[float, float]


def _mnist(seed, n_train, n_test, activation, width=16):
    read = two_files(lambda: (*data.mnist("train", np.float64), *data.mnist("test", np.float64)))
    module = nets.stack_of_layers((784, width, width, 10), activation)
    return module.double(), *read(seed, n_train, n_test)


def _digits(seed, n_train, n_test, activation):
    X, y = data.digits()
    order = np.random.RandomState(seed).permutation(len(X))
    X, y = X[order], y[order]
    module = nets.stack_of_layers((64, 32, 10), activation).double()
    return module, X[:n_train], y[:n_train], X[-n_test:], y[-n_test:]


def _wine(seed, n_train, n_test, activation):
    X, y = data.wine()
    order = np.random.RandomState(seed).permutation(len(X))
    X, y = X[order], y[order]
    module = nets.stack_of_layers((13, 16, 16, 3), activation).double()
    return module, X[:n_train], y[:n_train], X[-n_test:], y[-n_test:]


def _census(seed, n_train, n_test, activation):
    """ACSIncome, each column with mean 0 and deviation 1, rare dummies with less."""
    X, y = data.acs_few_codes()
    rows = np.random.RandomState(seed).choice(len(X), n_train + n_test, replace=False)
    X, y = X[rows], y[rows]
    X = ((X - X.mean(0)) / np.maximum(X.std(0), 0.1)).astype(np.float64)
    module = nets.stack_of_layers((X.shape[1], 32, 2), activation).double()
    return module, X[:n_train], y[:n_train], X[n_train:], y[n_train:]


def _cifar2(seed, n_train, n_test, activation):
    X, y, X_test, y_test = two_files(data.cifar2_16)(seed, n_train, n_test)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 2),
    )  # fmt: skip
    return module.double(), X.astype(np.float64), y, X_test.astype(np.float64), y_test


def _llama(seed, n_train, n_test, activation):
    """A tiny language model of children's stories, trained on with Shakespeare, in float32."""
    from transformers import AutoModelForCausalLM

    rows = data.passages(n_train + n_test, N_TOKENS, seed)
    model = AutoModelForCausalLM.from_pretrained(
        data.file("lm_stories260k"), attn_implementation="eager"
    )
    X, X_test = (
        {"input_ids": part, "attention_mask": np.ones_like(part)}
        for part in (rows[:n_train], rows[n_train:])
    )
    return model, X, None, X_test, None


KINDS = {
    "mnist": Kind(_mnist, 6000, 64, 1, (0.9, 0.95)),
    "mnist_wide": Kind(partial(_mnist, width=256), 2000, 64, 1, (0.9, 0.95)),
    "digits": Kind(_digits, 1000, 32, 3, (0.9, 0.999)),
    "wine": Kind(_wine, 128, 16, 4, (0.9, 0.999)),
    "census": Kind(_census, 800, 40, 6, (0.9, 0.999)),
    "cifar2": Kind(_cifar2, 1024, 32, 2, (0.9, 0.999)),
    "llama": Kind(_llama, 256, 16, 2, (0.9, 0.999)),
}


def _loss(module, X, y):
    if y is None:
        return module(input_ids=X, labels=X).loss
    return nn.functional.cross_entropy(module(X), y)


def make_run(
    name: str, lr: float, seed: int, *, n_test: int, n_left_out: int, n_train: int | None = None,
    epochs: int | None = None, activation: str = "relu", scheduled: bool = False, shift: int = 0,
    optimizer: str = "adamw",
) -> Run:  # fmt: skip
    """Train with AdamW, or SGD with momentum 0.9, and record.

    Scheduled runs have a rate that falls along a cosine and weight decay 1, the others neither.
    Shifted ones start with noise of 0.001 on every parameter, all else equal.
    """
    kind = KINDS[name]
    torch.manual_seed(seed)
    module, X, y, X_test, y_test = kind.read(
        seed, n_train or kind.n_train, n_test, nets.ACTIVATIONS[activation]
    )
    if shift:
        noise = np.random.RandomState([seed, shift])
        with torch.no_grad():
            for p in module.parameters():
                p += 1e-3 * torch.as_tensor(noise.normal(size=p.shape))
    decay = 1.0 if scheduled else 0.0
    options = {"momentum": 0.9} if optimizer == "sgd" else {"betas": kind.betas}
    made = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    stepper = made(module.parameters(), lr, weight_decay=decay, **options)
    inputs = torch.as_tensor(X["input_ids"] if isinstance(X, dict) else X)
    n, targets = len(inputs), None if y is None else torch.as_tensor(y)
    rng = np.random.RandomState(seed)
    orders = [rng.permutation(n) for _ in range(epochs or kind.epochs)]
    batches = [o[i : i + kind.batch_size] for o in orders for i in range(0, n, kind.batch_size)]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(stepper, len(batches))
    with record_trajectory(module, stepper, n) as recorder:
        for rows in batches:
            recorder.rows(rows)
            stepper.zero_grad()
            _loss(module, inputs[rows], None if y is None else targets[rows]).backward()
            stepper.step()
            if scheduled:
                schedule.step()
    task = as_task(module.eval(), **({} if y is None else {"loss": nn.CrossEntropyLoss()}))
    left_out = np.sort(rng.choice(n, n_left_out, replace=False))
    return Run(task, recorder.trajectory_, X, y, X_test, y_test, left_out)
