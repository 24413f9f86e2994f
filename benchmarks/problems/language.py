"""The tiny language model, fine-tuned on passages of Shakespeare by the Trainer of transformers."""

from __future__ import annotations

import tempfile
from collections.abc import Collection

import numpy as np
import torch

from benchmarks.problems import data

MODEL = "lm_stories260k"


def model(dtype=torch.float32):
    """The pretrained model; where its files are missing, a small one with random weights."""
    import transformers

    if data.has(MODEL):
        net = transformers.AutoModelForCausalLM.from_pretrained(data.file(MODEL))
        return net.to(dtype)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    config = transformers.LlamaConfig(
        vocab_size=64, num_hidden_layers=1, tie_word_embeddings=True, **sizes
    )
    return transformers.LlamaForCausalLM(config).to(dtype)


def texts(n: int, length: int, seed: int = 0) -> np.ndarray:
    """Token numbers (n, length) of passages; random ones where the files are missing."""
    if data.has(MODEL):
        return data.passages(n, length, seed)
    return np.random.default_rng(seed).integers(1, 64, (n, length))


def items(tokens: np.ndarray, silent: Collection[int] = ()) -> list[dict]:
    """Rows of a dataset; a silent text keeps its place in its batch and is not in the loss."""
    return [
        {"input_ids": row, "labels": [-100] * len(row) if i in silent else row}
        for i, row in enumerate(tokens.tolist())
    ]


def stacked(rows: list[dict]) -> dict:
    return {key: torch.tensor([row[key] for row in rows]) for key in ("input_ids", "labels")}


def trainer(net, rows: list[dict], callbacks=(), seed: int = 0, **changes):
    """A Trainer with the library's AdamW, linear schedule and clipping."""
    import transformers

    folder = tempfile.mkdtemp(prefix="language_models_")
    changes = {"num_train_epochs": 1, "learning_rate": 3e-4, **changes}
    arguments = transformers.TrainingArguments(
        folder,
        per_device_train_batch_size=16,
        use_cpu=True,
        report_to=[],
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        seed=seed,
        **changes,
    )
    found = transformers.Trainer(
        model=net,
        args=arguments,
        train_dataset=rows,
        data_collator=stacked,
        callbacks=list(callbacks),
    )
    for callback in (transformers.PrinterCallback, transformers.ProgressCallback):
        found.remove_callback(callback)
    return found


def losses(net, tokens: np.ndarray) -> np.ndarray:
    """Mean loss of each text's next tokens."""
    ids = torch.as_tensor(tokens)
    net.eval()
    with torch.no_grad():
        logits = net(input_ids=ids).logits.double()
    each = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none"
    )
    return each.mean(1).numpy()
