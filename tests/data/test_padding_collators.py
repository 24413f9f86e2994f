"""Collators that pad each batch: inputs, targets and scores do not depend on the batch size."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from influencekit import GradDot, as_task
from influencekit.data import make_examples
from influencekit.exceptions import InfluenceKitWarning
from influencekit.models import SequenceCrossEntropy

V, C, N, K = 11, 5, 14, 3
RNG = np.random.default_rng(0)
ROWS = [
    (torch.tensor(RNG.integers(1, V, n)), torch.tensor(RNG.integers(0, C, n)))
    for n in RNG.integers(2, 9, N)
]
QUERIES = [(torch.tensor([1, 2]), torch.tensor([0, 3])), *ROWS[:2]]


class Tagger(nn.Module):
    """A label for every token; padding does not reach other tokens."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.head = nn.Embedding(V, 4), nn.Linear(4, C)

    def forward(self, ids):
        return self.head(torch.tanh(self.tokens(ids)))


class Classifier(Tagger):
    """A label for the whole text, from the mean over its tokens."""

    def forward(self, ids, mask=None):
        z = torch.tanh(self.tokens(ids))
        shares = torch.ones_like(ids) if mask is None else mask
        return self.head((z * shares[..., None]).sum(1) / shares.sum(1)[:, None])


def pad(items):
    return (
        pad_sequence([x for x, _ in items], batch_first=True),
        pad_sequence([t for _, t in items], batch_first=True, padding_value=-100),
    )


def dot_products(net, rows, queries, loss_of):
    """Gradient dot products by autograd, one example at a time without padding."""

    def gradient(row):
        found = torch.autograd.grad(loss_of(row), list(net.parameters()))
        return torch.cat([g.flatten() for g in found])

    ours, theirs = (torch.stack([gradient(row) for row in some]) for some in (queries, rows))
    return (ours @ theirs.T).numpy()


@pytest.mark.parametrize("size", [None, 1, 3])
def test_token_labels_padded_by_the_collator(size):
    net = Tagger().double()
    task = as_task(net, loss=SequenceCrossEntropy("mean"))
    got = GradDot(batch_size=size).fit(task, DataLoader(ROWS, 4, collate_fn=pad))
    got = got.score(DataLoader(QUERIES, 2, collate_fn=pad))
    want = dot_products(
        net, ROWS, QUERIES, lambda row: F.cross_entropy(net(row[0][None])[0], row[1])
    )
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * abs(want).max())


def masked(items):
    ids = pad_sequence([x for x, _ in items], batch_first=True)
    return {
        "ids": ids,
        "mask": (ids > 0).long(),
        "labels": torch.tensor([int(t[0]) for _, t in items]),
    }


@pytest.mark.parametrize("size", [None, 1, 5])
def test_inputs_padded_by_the_collator(size):
    net = Classifier().double()
    task = as_task(net, loss=nn.CrossEntropyLoss())
    got = GradDot(batch_size=size).fit(task, DataLoader(ROWS, 4, collate_fn=masked))
    got = got.score(DataLoader(QUERIES, 2, collate_fn=masked))
    want = dot_products(
        net, ROWS, QUERIES, lambda row: F.cross_entropy(net(row[0][None]), row[1][:1])
    )
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * abs(want).max())


def test_padding_that_changes_the_model_is_said():
    task = as_task(Classifier().double(), loss=nn.CrossEntropyLoss())

    def unmasked(items):
        batch = masked(items)
        return batch["ids"], batch["labels"]

    with pytest.warns(InfluenceKitWarning, match="padding changes the model's loss"):
        scores = [
            GradDot(batch_size=size)
            .fit(task, DataLoader(ROWS, 4, collate_fn=unmasked))
            .score(torch.ones(1, 8, dtype=torch.long), [0])
            for size in (None, 1, 5)
        ]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-12)
    np.testing.assert_allclose(scores[2], scores[0], rtol=1e-12)


def test_a_batch_has_its_rows_and_no_others():
    task = as_task(Tagger(), loss=SequenceCrossEntropy())
    examples = make_examples(task, DataLoader(ROWS, 4, collate_fn=pad))
    longest = max(len(x) for x, _ in ROWS)
    for batch in examples.take([5, 2, 9]).batches(2):
        assert batch.inputs.shape == batch.targets.shape == (len(batch.inputs), longest)
    whole = torch.cat([batch.inputs for batch in examples.batches(4)])
    assert torch.equal(whole, pad(ROWS)[0])
    assert torch.equal(examples.targets, pad(ROWS)[1])


def test_long_inputs_and_long_targets_of_different_examples():
    rows = [(torch.arange(n), torch.zeros(m)) for n, m in [(2, 9), (3, 1), (8, 2), (4, 5)]]
    seen = []

    def collate(items):
        seen.append(len(items))
        return tuple(
            pad_sequence(list(some), batch_first=True) for some in zip(*items, strict=True)
        )

    task = as_task(nn.Linear(1, 1), loss=nn.MSELoss())
    from influencekit.data._datasets import open_dataset

    source = open_dataset(task, DataLoader(rows, 2, collate_fn=collate), "X")
    inputs, targets = source.read_pair(slice(1, 2))
    assert inputs.shape == (1, 8) and targets.shape == (1, 9)
    assert max(seen) <= 4 + 2


def masking(items):
    ids, _ = pad(items)
    drawn = torch.rand(ids.shape) < 0.3 if random.random() < 2 else None
    return torch.where(drawn, 0, ids), torch.where(drawn, ids % C, -100)


def test_random_masks_are_frozen_and_said():
    task = as_task(Tagger().double(), loss=SequenceCrossEntropy())
    before = torch.get_rng_state()
    with pytest.warns(InfluenceKitWarning, match=r"masking\) draws random numbers"):
        examples = make_examples(task, DataLoader(ROWS, 4, collate_fn=masking))
    assert torch.equal(torch.get_rng_state(), before)
    whole = next(examples.batches(N))
    for size in (1, 3):
        parts = list(examples.batches(size))
        assert torch.equal(torch.cat([b.inputs for b in parts]), whole.inputs)
        assert torch.equal(torch.cat([b.targets for b in parts]), whole.targets)
    # a target for exactly the tokens that were taken out
    hidden = (pad(ROWS)[0] != whole.inputs).sum()
    assert 0 < hidden <= (whole.targets != -100).sum()


def test_a_generator_of_the_collators_own_is_refused():
    generator = torch.Generator().manual_seed(0)

    def collate(items):
        ids, labels = pad(items)
        return ids + torch.randint(0, 2, ids.shape, generator=generator), labels

    with pytest.raises(ValueError, match="collate_fn \\(collate\\) gives other batches"):
        make_examples(
            as_task(Tagger(), loss=SequenceCrossEntropy()), DataLoader(ROWS, 4, collate_fn=collate)
        )


def test_what_cannot_be_collated_is_said():
    task = as_task(Tagger(), loss=SequenceCrossEntropy())
    with pytest.raises(ValueError, match="collate_fn pads them"):
        make_examples(task, DataLoader(ROWS, 4))

    def merged(items):
        return torch.cat([x for x, _ in items]), torch.cat([t for _, t in items])

    with pytest.raises(ValueError, match="accepted is one row"):
        make_examples(task, DataLoader(ROWS, 4, collate_fn=merged))
