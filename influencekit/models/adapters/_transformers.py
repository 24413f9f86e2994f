"""Models of the transformers library as Tasks; the library itself is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._module import copy_module, like_parameters
from influencekit.models._task import Task
from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses._binary import BinaryCrossEntropy
from influencekit.models.losses._criteria import Criterion, read_criterion
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.models.losses._elementwise import SquaredError
from influencekit.models.losses._sequence import SequenceCrossEntropy

__all__ = ["is_pretrained", "next_tokens", "transformers_task"]

_HEADS = {
    "ForCausalLM": "next tokens",
    "LMHeadModel": "next tokens",
    "ForMaskedLM": "tokens",
    "ForTokenClassification": "tokens",
    "ForSequenceClassification": "sequence",
}


def is_pretrained(model: Any) -> bool:
    """Whether a model is one of the transformers library."""
    return any(
        kind.__name__ == "PreTrainedModel" and kind.__module__.startswith("transformers.")
        for kind in type(model).__mro__
    )


def transformers_task(model: nn.Module, loss: Any = None) -> Task:
    """Task of a model of the transformers library, trained with its own loss.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With a head for causal or masked language modeling, or for classification of tokens
        or sequences.
    loss : OutputLoss, torch.nn.Module or callable, default=None
        Loss of the logits in training, if it was not the library's loss.

    Returns
    -------
    Task
        Its natural outputs are the logits.  A language model's loss is
        :class:`SequenceCrossEntropy` with ``reduction="tokens"``: the library's loss is a mean over
        all tokens of a batch, so the objective is taken as the mean over all tokens.

    Raises
    ------
    UnsupportedModelError
        If the model has another head, or its own loss function.

    Notes
    -----
    Labels are as in the library: the label of token t is the token itself, and tokens with label
    -100 are not in the loss. The labels of a causal language model may be left out; then they are
    its ``input_ids``, without the tokens whose ``attention_mask`` is 0.
    """
    head = _head(model)
    own = loss is None
    criterion = Criterion(_own_loss(model, head)) if own else read_criterion(loss)
    module = copy_module(model)
    config = getattr(module, "config", None)
    if config is not None and hasattr(config, "use_cache"):
        config.use_cache = False
    return Task(
        module=module,
        loss=criterion.loss,
        link=criterion.link,
        class_weight=like_parameters(criterion.class_weight, module),
        input_targets=next_tokens if head == "next tokens" else None,
        estimator=model,
        name=type(model).__name__,
    )


def next_tokens(inputs: Any) -> Tensor:
    """Labels (n, T) of a causal language model's inputs, -100 where attention is masked.

    Parameters
    ----------
    inputs : dict of Tensor
        With ``input_ids`` and, if there is padding, ``attention_mask``.

    Returns
    -------
    Tensor of shape (n, T), int64
    """
    if not isinstance(inputs, Mapping) or "input_ids" not in inputs:
        raise ValueError(
            "X: a language model without y takes its labels from the inputs' 'input_ids'; "
            "accepted is a dict {'input_ids': ..., 'attention_mask': ...} of arrays (n, T), or "
            "give y."
        )
    labels = inputs["input_ids"].long()
    if "attention_mask" not in inputs:
        return labels.clone()
    return torch.where(inputs["attention_mask"] != 0, labels, -100)


def _head(model: nn.Module) -> str | None:
    """What the model's head predicts, from the first class name that tells."""
    for kind in type(model).__mro__:
        for ending, head in _HEADS.items():
            if kind.__name__.endswith(ending):
                return head
    return None


def _own_loss(model: nn.Module, head: str | None) -> OutputLoss:
    if hasattr(model, "_loss_function"):
        raise UnsupportedModelError(
            f"model: this {type(model).__name__} has its own loss function. Give the loss of its "
            f"logits: as_task(model, loss=...)."
        )
    if head is None:
        raise UnsupportedModelError(
            f"model: got {type(model).__name__}; for models of the transformers library, the loss "
            f"is known only if the name ends in {', '.join(_HEADS)}. Give the loss of its logits: "
            "as_task(model, loss=...)."
        )
    if head == "sequence":
        return _classifier_loss(model.config)
    return SequenceCrossEntropy(shift=head == "next tokens")


def _classifier_loss(config: Any) -> OutputLoss:
    """The loss that the library chooses by ``problem_type``, or by the number of labels."""
    problem = getattr(config, "problem_type", None)
    if problem == "regression" or (problem is None and config.num_labels == 1):
        return SquaredError(average=True)
    if problem == "multi_label_classification":
        return BinaryCrossEntropy(average=True, multilabel=True)
    return CrossEntropy()
