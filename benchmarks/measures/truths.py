"""Ground truth that several cells of a run share."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from sklearn.base import clone

from benchmarks import problems
from benchmarks.problems import tensors
from influencekit import retrain_on_subsets
from influencekit.metrics import PreparedOutputs


@lru_cache(maxsize=1)
def retrained(name, n_train, n_test, n_subsets, n_repeats, n_models, epochs, seed=0):
    """Retrained halves, the problem, and models of several seeds on all rows."""
    problem = problems.load(name, seed, n_train, n_test)
    options = {"n_subsets": n_subsets, "n_repeats": n_repeats, "random_state": seed}
    if name.endswith("llama"):
        problem.model = type(problem.model)(epochs)
        options["retrain"] = problem.model.retrain
        model = problem.model.fit(*problem.train, seed)
        return retrain_on_subsets(None, *problem.data, **options), problem, [model]
    problem.model.set_params(max_epochs=epochs)
    models = []
    for i in range(n_models):
        torch.manual_seed(1000 * seed + i)
        models.append(clone(problem.model).fit(*problem.train))
    return retrain_on_subsets(models[0], *problem.data, **options), problem, models


def truth_of_digits(n: int, m: int, seed: int, n_subsets: int, n_repeats: int):
    """Masks and outputs of the tiny net retrained on halves, made once and saved."""
    path = tensors.FOLDER / f"truth-n{n}-m{m}-seed{seed}-{n_subsets}x{n_repeats}.npz"
    if not path.exists():
        rows = tensors.digits_rows(n, m, seed)
        net = tensors.digits_net(seed).fit(rows[0], rows[1])
        found = retrain_on_subsets(net, *rows, n_subsets=n_subsets, n_repeats=n_repeats,
                                   random_state=seed)  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, masks=found.masks, outputs=found.outputs)
    with np.load(path) as saved:
        return saved["masks"], PreparedOutputs(saved["outputs"])
