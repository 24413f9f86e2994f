"""Ground truth of a language model: it is trained further on passages, without some of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch

from benchmarks.atlas.models import N_CHECKPOINTS
from influencekit.datasets import get_data_home
from influencekit.datasets._truth_files import packed
from influencekit.datasets._truth_language import (
    N_SENTENCES,
    as_items,
    losses,
    new_llama,
    passages,
    plant_facts,
    tokens_of,
)
from influencekit.training import record_checkpoints

#: Articles, and passages of each that are learned and asked for.
N_ARTICLES, N_LEARNED, N_ASKED = 15, 8, 2
#: Of what is left out of a run: sets of each share, and single texts.
SHARES, N_SETS, N_SINGLE = (0.1, 0.01), 15, 24
#: Of further training: epochs, halves, and seeds of each.
EPOCHS, N_FURTHER, N_SEEDS = 1, 20, 2


def train(
    net, items: list[dict], recipe: dict, seed: int, silent: Collection[int] = (),
    record: Callable | None = None, epochs: int | None = None,
):  # fmt: skip
    """Train the last layers with AdamW, in place; the recorder, if there is one.

    Silent texts keep their places in the order and are not in the loss.
    """
    ids, heard = torch.tensor([item["input_ids"] for item in items]), torch.ones(len(items)).bool()
    heard[list(silent)] = False
    learned = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=recipe["lr"], weight_decay=0.0)
    order = torch.Generator().manual_seed(seed)
    with record(net, optimizer) if record else nullcontext() as recorder:
        for _ in range(epochs or recipe["max_epochs"]):
            for rows in torch.randperm(len(ids), generator=order).split(recipe["batch_size"]):
                if hasattr(recorder, "rows"):
                    recorder.rows(rows)
                rows = rows[heard[rows]]
                optimizer.zero_grad()
                net(input_ids=ids[rows], labels=ids[rows]).loss.backward()
                optimizer.step()
    return recorder


def fitted(recipe: dict, items: list[dict], start: str = "") -> tuple:
    """A model, and the weights of its last layers, under the names that a file has."""
    net = new_llama(recipe, get_data_home())
    kept = train(net, items, recipe, 0, record=partial(record_checkpoints, n=N_CHECKPOINTS))
    learned = {name for name, p in net.named_parameters() if p.requires_grad}
    states = {"weights": net.state_dict()}
    for number, state in enumerate(kept.checkpoints_.values()):
        states[f"checkpoints.{number}"] = state
    return net, {f"{start}{kind}.{name}": state[name].numpy()
                 for kind, state in states.items() for name in learned}  # fmt: skip


def outputs_without(recipe: dict, items: list, queries: list, masks: np.ndarray) -> np.ndarray:
    """Outputs (n_masks, n_query) of this run without some texts."""
    found = []
    for mask in masks:
        net = new_llama(recipe, get_data_home())
        train(net, items, recipe, 0, silent=np.flatnonzero(~mask).tolist())
        found.append(-losses(net, queries))
    return np.stack(found)


def outputs_of_subsets(
    recipe: dict, items: list, queries: list, masks: np.ndarray, n_repeats: int,
    state: dict | None = None,
) -> np.ndarray:  # fmt: skip
    """Outputs (n_masks, n_repeats, n_query) of new runs; from a state for ``EPOCHS`` more."""
    found = np.empty((len(masks), n_repeats, len(queries)))
    for i, mask in enumerate(masks):
        own = [items[row] for row in np.flatnonzero(mask)]
        for repeat in range(n_repeats):
            net = new_llama(recipe, get_data_home())
            net.load_state_dict(state or {}, strict=False)
            seed = 1 + i * n_repeats + repeat
            train(net, own, recipe, seed, epochs=EPOCHS if state else None)
            found[i, repeat] = -losses(net, queries)
    return found


def chosen(articles: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray]:
    """Passages that are learned and asked for, of the articles with the most."""
    numbers, counts = np.unique(articles, return_counts=True)
    longest = numbers[np.argsort(-counts, kind="stable")[:N_ARTICLES]]
    own = [rng.permutation(np.flatnonzero(articles == a)) for a in longest]
    last = N_LEARNED + N_ASKED
    return tuple(np.sort(np.concatenate([o[part] for o in own]))
                 for part in (slice(N_LEARNED), slice(N_LEARNED, last)))  # fmt: skip


def arrays_of(cell) -> dict[str, np.ndarray]:
    """Everything that is stored."""
    home, rng, recipe = get_data_home(), np.random.default_rng(0), cell.model
    texts, articles = passages(home)
    train_rows, query_rows = chosen(articles, rng)
    tokens = [tokens_of(home, texts[rows]) for rows in (train_rows, query_rows)]
    items, queries = map(as_items, tokens)
    net, weights = fitted(recipe, items)
    halves = np.stack([rng.permutation(len(items)) < len(items) // 2
                       for _ in range(cell.n_halves)])  # fmt: skip
    return {
        "train": train_rows, "query": query_rows,
        "query_means": tokens[1].mean(axis=0, dtype=np.float64),
        "predictions": losses(net, queries)[:, None].astype(np.float32), **weights,
        "halves.masks": packed(halves),
        "halves.outputs": outputs_of_subsets(recipe, items, queries, halves, cell.n_repeats),
        **left_out(recipe, items, queries, articles[train_rows], rng),
        **further(net, recipe, items, queries, halves[:N_FURTHER]),
        **facts(recipe, items, rng),
    }  # fmt: skip


def left_out(recipe: dict, items: list, queries: list, articles: np.ndarray, rng) -> dict:
    """Outputs of this run without sets of texts, without articles, and without single texts."""
    n = len(items)
    sets = [rng.choice(n, round(share * n), replace=False)
            for share in SHARES for _ in range(N_SETS)]  # fmt: skip
    groups = [np.flatnonzero(articles == article) for article in np.unique(articles)]
    single = np.sort(rng.choice(n, N_SINGLE, replace=False))
    without = np.ones((1 + len(sets) + len(groups) + len(single), n), dtype=bool)
    for mask, out in zip(without[1:], [*sets, *groups, *single[:, None]], strict=True):
        mask[out] = False
    outputs = outputs_without(recipe, items, queries, without)
    ends = 1 + np.cumsum([len(sets), len(groups)])
    found = {"single.rows": single, "single.changes": (outputs[0] - outputs[ends[1] :]).T}
    for kind, own in zip(("without", "groups"), (slice(1, ends[0]), slice(*ends)), strict=True):
        found |= {f"{kind}.masks": packed(without[own]),
                  f"{kind}.outputs": outputs[own][:, None].astype(np.float32)}  # fmt: skip
    return found


def further(net, recipe: dict, items: list, queries: list, masks: np.ndarray) -> dict:
    """Outputs after more training of the model on halves of its texts."""
    state = {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}
    outputs = outputs_of_subsets(recipe, items, queries, masks, N_SEEDS, state)
    return {"further.masks": packed(masks), "further.outputs": outputs.astype(np.float32)}


def facts(recipe: dict, items: list, rng) -> dict:
    """Texts that begin with a sentence about a fact, and the model that learned from them."""
    rows = rng.choice(len(items), N_SENTENCES, replace=False)
    planted, questions, _ = plant_facts(get_data_home(), items, rows)
    net, weights = fitted(recipe, planted, start="facts.")
    found = losses(net, questions)[:, None].astype(np.float32)
    return {"facts.rows": rows, "facts.predictions": found, **weights}
