"""LoGra on a tiny language model: rank of the projections and λ (for bench_sensitivity.py).

The model (lm_stories260k, 260,032 parameters) goes on training on passages of Shakespeare; the
ground truth goes on from the same weights on random halves of them.
"""

from __future__ import annotations

import gzip
from functools import partial

import numpy as np
import torch

from influencekit import GradDot, InfluenceFunction, SensitivityStudy, retrain_on_subsets
from influencekit.curvature import CURVATURES

N_TOKENS = 48
RANKS = [2, 4, 8, 16]
DAMPINGS = ["auto", *np.geomspace(1e-7, 1e0, 8)]


def passages(data_home, n: int, seed: int) -> np.ndarray:
    """Token numbers of n passages, (n, N_TOKENS)."""
    from transformers import AutoTokenizer

    path = data_home / "tiny_shakespeare" / "input.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        text = file.read()[: 6 * n * N_TOKENS]
    tokens = AutoTokenizer.from_pretrained(data_home / "lm_stories260k")(text)["input_ids"]
    rows = np.array(tokens[: len(tokens) // N_TOKENS * N_TOKENS]).reshape(-1, N_TOKENS)
    return rows[np.random.RandomState(seed).permutation(len(rows))[:n]]


def train_on(X, y, seed, *, folder, epochs: int, lr: float = 3e-4, batch_size: int = 16):
    """The model after some epochs of AdamW on passages X; y is not used."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    tokens = torch.as_tensor(np.asarray(X))
    for _ in range(epochs):
        for rows in torch.randperm(len(tokens)).split(batch_size):
            optimizer.zero_grad()
            model(input_ids=tokens[rows], labels=tokens[rows]).loss.backward()
            optimizer.step()
    return model.eval()


def llama_study(options, sizes):
    """Study of one model."""
    n_train, n_query, n_subsets, n_repeats, epochs, _ = sizes
    tokens = passages(options.data_home, n_train + n_query, options.seed)
    X, X_query = tokens[:n_train], tokens[n_train:]
    train = partial(train_on, folder=options.data_home / "lm_stories260k", epochs=epochs)
    model = train(X, None, options.seed)
    truth = retrain_on_subsets(
        None,
        X,
        X,
        X_query,
        X_query,
        retrain=train,
        n_subsets=n_subsets,
        n_repeats=n_repeats,
        random_state=options.seed,
        cache_dir=options.out / "retrainings",
        n_jobs=options.n_jobs,
        verbose=1,
    )
    grids = {
        "GradDot": GradDot(),
        "IF fisher": (
            InfluenceFunction("fisher"),
            {"projection_dim": [16, 64, 256], "damping": DAMPINGS},
        ),
    }
    if "logra" in CURVATURES:
        logra = InfluenceFunction(CURVATURES["logra"](rows="fisher"))
        grids["LoGra"] = (logra, {"curvature__rank": RANKS, "damping": DAMPINGS})
    study = SensitivityStudy(
        grids,
        cache_dir=options.out / "cells",
        n_jobs=options.n_jobs,
        random_state=options.seed,
        verbose=1,
    )
    return study.fit(model, X, X, X_query, X_query, subset_outputs=truth)
