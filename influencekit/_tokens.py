"""Scores for the single tokens of test texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.data._examples import Examples, ExamplesList, each
from influencekit.exceptions import UnsupportedModelError
from influencekit.models._outputs import predicted_targets
from influencekit.models._task import Task
from influencekit.models.losses._sequence import SequenceCrossEntropy
from influencekit.utils._suggest import check_choice

__all__ = ["token_scores"]

#: Examples in a forward pass.
_BATCH = 64
#: Largest difference between a text's score and the sum over its tokens, relative to the scores.
_ROUNDING = 1e-2


def token_scores(
    attributor: Any, queries: Examples | ExamplesList, by: str, return_std: bool = False
) -> np.ndarray:
    """Scores of every training example for every token of the queries.

    A token's score is that of its text with the labels of all other tokens taken out of the loss,
    times the token's share of the text's loss. So tokens sum to the score of the text.

    Parameters
    ----------
    attributor : BaseAttributor
        Fitted.
    queries : Examples or ExamplesList
    by : {"token"}
    return_std : bool, default=False
        Refused.

    Returns
    -------
    ndarray of shape (n_queries, n_train, n_tokens)
        0 for tokens that are not in the loss.

    Raises
    ------
    UnsupportedModelError
        If the loss of the model is not a sum over tokens.
    ValueError
        If the attributor's scores of tokens do not sum to the score of the text.
    """
    check_choice("by", by, ("example", "token"))
    if return_std:
        raise ValueError(
            "return_std=True: not known for tokens; accepted with by='token' is False."
        )
    pairs = list(zip(each(attributor._models), each(queries), strict=True))
    loss = _loss_of_tokens(pairs[0][0])
    targets = [_targets(task, examples) for task, examples in pairs]
    # a label at each place of the text; the outputs before it predict the next token's
    used = targets[0] != loss.ignore_index
    if loss.shift:
        used[:, 0] = False
    rows, places = (found.cpu() for found in torch.nonzero(used, as_tuple=True))
    alone = [
        examples.take(rows.numpy()).with_targets(_single(labels, rows, places, loss))
        for (_, examples), labels in zip(pairs, targets, strict=True)
    ]
    scores = attributor._all_scores(_like(queries, alone))
    if len(scores) != len(rows):
        raise ValueError(
            f"by='token': {type(attributor).__name__} gives {len(scores)} scores of properties of "
            "all queries together, which have no tokens. Use by='example', or property=None."
        )
    if loss.reduction != "sum":
        scores = scores / used.sum(1).cpu().numpy()[rows][:, None]
    found = np.zeros((len(used), scores.shape[1], used.shape[1]))
    found[rows.numpy(), :, places.numpy()] = scores
    whole = [e.take([0]).with_targets(t[:1]) for (_, e), t in zip(pairs, targets, strict=True)]
    _check_sums(attributor, found[0], attributor._all_scores(_like(queries, whole))[0])
    return found


def _loss_of_tokens(task: Task) -> SequenceCrossEntropy:
    if not isinstance(task.loss, SequenceCrossEntropy):
        raise UnsupportedModelError(
            f"by='token': the loss of {task.name} ({type(task.loss).__name__}) is not a sum over "
            "tokens; accepted are language models and classifiers of tokens. Use by='example'."
        )
    return task.loss


@torch.no_grad()
def _targets(task: Task, examples: Examples) -> Tensor:
    """Labels (n, T) of the queries, or the model's own predictions."""
    if examples.targets is not None:
        return examples.targets
    batches = examples.batches(_BATCH)
    return torch.cat([predicted_targets(task, task.forward(b.inputs)) for b in batches])


def _single(labels: Tensor, rows: Tensor, places: Tensor, loss: SequenceCrossEntropy) -> Tensor:
    """For each token, the labels of its text with all others taken out of the loss."""
    rows, places = rows.to(labels.device), places.to(labels.device)
    single = torch.full((len(rows), labels.shape[1]), loss.ignore_index, device=labels.device)
    single[torch.arange(len(rows)), places] = labels[rows, places]
    return single


def _like(queries: Examples | ExamplesList, parts: list[Examples]) -> Examples | ExamplesList:
    return ExamplesList(parts) if isinstance(queries, ExamplesList) else parts[0]


def _check_sums(attributor: Any, tokens: np.ndarray, whole: np.ndarray) -> None:
    off = np.abs(tokens.sum(1) - whole).max()
    if off > _ROUNDING * np.abs(whole).max():
        name = type(attributor).__name__
        raise ValueError(
            f"by='token': scores of {name} are not sums over the tokens of a text (off by "
            f"{off / np.abs(whole).max():.0%}), as it divides each query's gradient by its length. "
            "Use an attributor that is linear in the query's gradient, such as "
            "InfluenceFunction() or GradDot(); or by='example'."
        )
