"""Models of the transformers library as Tasks; the library itself is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._module import copy_module, like_parameters
from influencekit.models._task import Task
from influencekit.models.adapters._collate import PadItems, after_padding, arguments_of
from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses._binary import BinaryCrossEntropy
from influencekit.models.losses._criteria import Criterion, read_criterion
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.models.losses._elementwise import SquaredError
from influencekit.models.losses._sequence import SequenceCrossEntropy

__all__ = ["is_adapted", "is_pretrained", "next_tokens", "trained_module", "transformers_task"]

#: What a model predicts, by the end of its class's name.
_HEADS = {
    "ForCausalLM": "next tokens",
    "LMHeadModel": "next tokens",
    "ForMaskedLM": "tokens",
    "ForTokenClassification": "tokens",
    "ForSequenceClassification": "classes",
    "ForImageClassification": "classes",
    "ForAudioClassification": "classes",
    "ForVideoClassification": "classes",
    "ForMultipleChoice": "choice",
    "ForNextSentencePrediction": "choice",
    "ForQuestionAnswering": "span",
    "ForConditionalGeneration": "answer",
}


def is_pretrained(model: Any) -> bool:
    """Whether a model is one of the transformers library."""
    return any(
        kind.__name__ == "PreTrainedModel" and kind.__module__.startswith("transformers.")
        for kind in type(model).__mro__
    )


def transformers_task(model: Any, loss: Any = None) -> Task:
    """Task of a model of the transformers library, trained with its own loss.

    Parameters
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
        With a head for causal, masked or sequence-to-sequence language modeling, for
        classification of tokens, sequences, images or sound, for question answering, or for
        multiple choice.  Of a PeftModel, only the adapter is trainable.
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
    known, model = model, model.get_base_model() if is_adapted(model) else model
    head = _head(model)
    own = loss is None
    criterion = Criterion(_own_loss(model, head)) if own else read_criterion(loss)
    module: Any = copy_module(trained_module(known))
    inner = module.get_base_model() if _has_prompts(known) else module
    if hasattr(getattr(inner, "config", None), "use_cache"):
        inner.config.use_cache = False
    for part in module.modules():  # gradients are taken in ways that it refuses
        if getattr(part, "gradient_checkpointing", False) is True:
            part.gradient_checkpointing = False
    if head == "span":
        inner.register_forward_hook(_join_spans)
    if _has_prompts(known):
        criterion = _behind_prompts(module, head, criterion, own)
    return Task(
        module=module,
        loss=criterion.loss,
        link=criterion.link,
        class_weight=like_parameters(criterion.class_weight, module),
        input_targets=next_tokens if head == "next tokens" else None,
        collate_fn=_collator(inner, head),
        estimator=known,
        name=type(model).__name__,
    )


def is_adapted(model: Any) -> bool:
    """Whether a model is a PeftModel around one of the transformers library."""
    adapted = any(
        kind.__name__ == "PeftModel" and kind.__module__.startswith("peft.")
        for kind in type(model).__mro__
    )
    return adapted and is_pretrained(model.get_base_model())


def trained_module(model: Any) -> nn.Module:
    """The module whose copy is that of the model's Task.

    The adapters of a PeftModel stand inside the model that it wraps; learned prompts do not.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    torch.nn.Module
    """
    inside = is_adapted(model) and not _has_prompts(model)
    return model.get_base_model() if inside else model


def _collator(model: Any, head: str | None) -> PadItems:
    """How this model's tokenized data become batches."""
    pad_token = getattr(model.config, "pad_token_id", None)
    decoder_inputs = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    return PadItems(
        arguments_of(model),
        pad_token if isinstance(pad_token, int) else 0,
        decoder_inputs if head == "answer" else None,
        next_tokens=head == "next tokens",
    )


def _has_prompts(model: Any) -> bool:
    """Whether a PeftModel learns inputs or states in place of weights (prompt tuning)."""
    return is_adapted(model) and bool(model.active_peft_config.is_prompt_learning)


def _behind_prompts(module: Any, head: str | None, criterion: Criterion, own: bool) -> Criterion:
    """The loss of a model whose outputs begin with those of learned tokens."""
    kind = str(module.active_peft_config.peft_type).rpartition(".")[2]
    if head in ("classes", "choice") or kind == "PREFIX_TUNING":
        return criterion
    if head != "next tokens" or kind not in ("PROMPT_TUNING", "P_TUNING"):
        raise UnsupportedModelError(
            f"model: {kind} of a {type(module.get_base_model()).__name__} is not supported; "
            "accepted are prompt tuning and p-tuning of causal language models and classifiers, "
            "prefix tuning, and adapters of weights (LoRA, DoRA, IA3)."
        )
    module.register_forward_hook(
        partial(_without_prompts, module.active_peft_config.num_virtual_tokens)
    )
    # the last learned token predicts the first of the text
    return Criterion(SequenceCrossEntropy()) if own else criterion


def _without_prompts(n: int, _module: nn.Module, _inputs: Any, output: Any) -> dict[str, Any]:
    """Outputs that predict the tokens of the text, each at its own place."""
    return {**output, "logits": output["logits"][:, n - 1 : -1]}


def _join_spans(_module: nn.Module, _inputs: Any, output: Any) -> dict[str, Tensor]:
    """Logits (n, 2, T) of where an answer starts and where it ends."""
    return {"logits": torch.stack([output["start_logits"], output["end_logits"]], dim=1)}


def next_tokens(inputs: Any) -> Tensor:
    """Labels (n, T) of a causal language model's inputs, -100 where attention is masked.

    The first token after masked ones is not in the loss either: nothing before it predicts it.

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
    used = (inputs["attention_mask"] != 0) & ~after_padding(inputs["attention_mask"])
    return torch.where(used, labels, -100)


def _head(model: nn.Module) -> str | None:
    """What the model's head predicts, from the first class name that tells."""
    names = [kind.__name__ for kind in type(model).__mro__]
    found = (head for name in names for ending, head in _HEADS.items() if name.endswith(ending))
    head = next(found, None)
    if head == "answer" and not getattr(model.config, "is_encoder_decoder", False):
        return "next tokens"  # a decoder that also reads images or sound
    return head


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
    if head == "classes":
        return _classifier_loss(model.config)
    if head == "choice":
        return CrossEntropy()
    if head == "span":  # the mean of the two losses
        return SequenceCrossEntropy("mean")
    return SequenceCrossEntropy(shift=head == "next tokens")


def _classifier_loss(config: Any) -> OutputLoss:
    """The loss that the library chooses by ``problem_type``, or by the number of labels."""
    problem = getattr(config, "problem_type", None)
    if problem == "regression" or (problem is None and config.num_labels == 1):
        return SquaredError(average=True)
    if problem == "multi_label_classification":
        return BinaryCrossEntropy(average=True, multilabel=True)
    return CrossEntropy()
