"""Tiny random models of the transformers library, ragged texts, and scores by autograd."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

V = 13
RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(3, 9, 10)
TEXTS = [{"input_ids": RNG.integers(1, V, n).tolist()} for n in LENGTHS]


def llama(transformers, kind="LlamaForCausalLM", **changes):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        initializer_range=0.3,
        pad_token_id=0,
        tie_word_embeddings=True,
        **{"vocab_size": V, **changes},
    )
    return getattr(transformers, kind)(config).double()


def next_token_loss(model, row, prompts=0):
    """Mean loss of a text's next tokens, in float64, without any padding."""
    ids = torch.tensor(row["input_ids"])
    labels = torch.tensor(row.get("labels", row["input_ids"]))
    logits = model(input_ids=ids[None]).logits[0]
    if prompts:
        return F.cross_entropy(logits[prompts - 1 : -1], labels)
    return F.cross_entropy(logits[:-1], labels[1:])


def dot_products(model, rows, queries, loss_of, weight_of=lambda row: 1.0):
    """Scores of GradDot by autograd, one example at a time."""
    wanted = [p for p in model.eval().parameters() if p.requires_grad]

    def gradient(row):
        found = torch.autograd.grad(loss_of(row), wanted, allow_unused=True)
        parts = (
            torch.zeros_like(p) if g is None else g for p, g in zip(wanted, found, strict=True)
        )
        return torch.cat([part.flatten() for part in parts])

    ours, theirs = (torch.stack([gradient(row) for row in some]) for some in (queries, rows))
    weights = np.array([weight_of(row) for row in rows])
    return (ours @ theirs.T).numpy() * weights / weights.mean()


def same(got, want, tolerance=1e-8):
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * abs(want).max())
