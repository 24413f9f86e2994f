"""Nets that keep checkpoints while they train: problems whose hyperparameters are varied."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from benchmarks.problems import data, nets
from benchmarks.problems.halves import sgd, shuffled_digits
from benchmarks.problems.registry import Spec, in_order, problem, two_files
from influencekit.training import KeepCheckpoints

EPOCHS = [1, 2, 4, 8, 15]
LANGUAGE_MODEL = "lm_stories260k"
N_TOKENS = 48


def digits(seed, n_train, n_test):
    """As many of the digits as there are."""
    return in_order(shuffled_digits)(seed, min(n_train, 1797 - n_test), n_test)


def keeping(module, recipe, **options):
    return nets.skorch_net(module, recipe, callbacks=[("keep", KeepCheckpoints(EPOCHS))], **options)


def add(name, read, module, decay, n_train, **options):
    recipe = sgd(0.05, 30, decay)
    model = lambda X, y: keeping(module, recipe, **options)  # noqa: E731
    problem(f"epochs/{name}", Spec(read, model, n_train, 100, recipe))


add("mnist", two_files(data.mnist_files), nets.MLP, 5e-3, 2000, module__sizes=(784, 64, 10))
add("digits", digits, nets.MLP, 5e-3, 1000, module__sizes=(64, 32, 10))
add("cifar2", two_files(data.cifar2_16), nets.ResNet, 1e-3, 1000)


# ---- a language model goes on training ---------------------------------------------------------


def texts(seed, n_train, n_test):
    """Passages of Shakespeare as token numbers; the texts are their own targets."""
    rows = data.passages(n_train + n_test, N_TOKENS, seed)
    return rows[:n_train], rows[:n_train], rows[n_train:], rows[n_train:]


def train_on(X, y, seed, *, epochs: int, lr: float = 3e-4, batch_size: int = 16):
    """The tiny language model after some epochs of AdamW on passages X; y is not used."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(data.file(LANGUAGE_MODEL))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    tokens = torch.as_tensor(np.asarray(X))
    for _ in range(epochs):
        for rows in torch.randperm(len(tokens)).split(batch_size):
            optimizer.zero_grad()
            model(input_ids=tokens[rows], labels=tokens[rows]).loss.backward()
            optimizer.step()
    return model.eval()


class Retrained:
    """A language model as a problem's model: ``fit`` goes on from the same weights."""

    def __init__(self, epochs: int = 3):
        self.retrain = partial(train_on, epochs=epochs)

    def fit(self, X, y, seed: int = 0):
        return self.retrain(X, y, seed)


problem("epochs/llama", Spec(texts, lambda X, y: Retrained(), 256, 40))
