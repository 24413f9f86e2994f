"""Tokenized data as they come, and the heads of the transformers library, against autograd."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from influencekit import GradDot, InfluenceFunction
from influencekit.exceptions import ProjectionWarning
from influencekit.models import as_task
from tests.models._tiny_texts import (
    LENGTHS,
    RNG,
    TEXTS,
    V,
    dot_products,
    llama,
    next_token_loss,
    same,
)

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning"),
]
QUERIES = TEXTS[:2]


def length(row):
    return len(row.get("labels", row["input_ids"]))


@pytest.fixture(scope="module")
def model():
    return llama(transformers)


@pytest.fixture(scope="module")
def expected(model):
    return dot_products(
        model, TEXTS, QUERIES, lambda r: next_token_loss(model, r), lambda r: length(r) - 1
    )


def pad(items, left=False, labels=True):
    longest = max(len(item["input_ids"]) for item in items)

    def row(values, filler):
        some = [filler] * (longest - len(values))
        return some + values if left else values + some

    batch = {
        "input_ids": torch.tensor([row(i["input_ids"], 0) for i in items]),
        "attention_mask": torch.tensor([row([1] * len(i["input_ids"]), 0) for i in items]),
    }
    if labels:
        batch["labels"] = torch.tensor([row(i["input_ids"], -100) for i in items])
    return batch


def loader(rows, **how):
    return DataLoader(rows, 3, collate_fn=lambda items: pad(items, **how))


@pytest.mark.parametrize("size", [None, 1, 4])
def test_ragged_texts(model, expected, size):
    same(GradDot(batch_size=size).fit(model, TEXTS).score(QUERIES), expected)


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: [{**row, "labels": row["input_ids"], "text": "a"} for row in rows],
        lambda rows: {"input_ids": [row["input_ids"] for row in rows]},
        loader,
        lambda rows: loader(rows, labels=False),
        lambda rows: loader(rows, left=True),
        lambda rows: loader(rows, left=True, labels=False),
        lambda rows: {k: v.numpy() for k, v in pad(rows, left=True).items()},
    ],
    ids=["labels", "lists", "loader", "unlabeled", "left", "unlabeled left", "arrays left"],
)
def test_every_container(model, expected, form, request):
    # rotary positions are float32, so that padding on the left moves them by rounding
    tolerance = 1e-6 if "left" in request.node.name else 1e-8
    same(GradDot().fit(model, form(TEXTS)).score(form(QUERIES)), expected, tolerance)


def test_hugging_face_datasets(model, expected):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    data = datasets.Dataset.from_list([{**row, "text": "a"} for row in TEXTS])
    same(GradDot().fit(model, data).score(data.select(range(2))), expected)


def test_labels_apart_from_the_inputs(model):
    labels = [[-100, *row["input_ids"][1:]] for row in TEXTS]
    labels[0][-1] = -100
    rows = [{**row, "labels": own} for row, own in zip(TEXTS, labels, strict=True)]
    want = dot_products(
        model,
        rows,
        QUERIES,
        lambda r: next_token_loss(model, r),
        lambda r: sum(label != -100 for label in r["labels"]),
    )
    same(GradDot().fit(model, TEXTS, labels).score(QUERIES), want)
    with pytest.raises(ValueError, match="given twice"):
        GradDot().fit(model, rows, labels)


def test_classes_in_every_place():
    model = llama(transformers, "LlamaForSequenceClassification", num_labels=3)
    classes = np.arange(len(TEXTS)) % 3

    def loss(row):
        logits = model(input_ids=torch.tensor(row["input_ids"])[None]).logits
        return F.cross_entropy(logits, torch.tensor([row["label"]]))

    rows = [{**row, "label": int(c)} for row, c in zip(TEXTS, classes, strict=True)]
    want = dot_products(model, rows, rows[:2], loss)
    same(GradDot(batch_size=4).fit(model, rows).score(rows[:2]), want)
    same(GradDot().fit(model, TEXTS, classes).score(TEXTS[:2], classes[:2]), want)
    named = [{**row, "labels": int(c)} for row, c in zip(TEXTS, classes, strict=True)]
    same(GradDot().fit(model, named).score(TEXTS[:2], classes[:2]), want)


def bert(kind, **changes):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=V,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=32,
        initializer_range=0.3,
        **changes,
    )
    return getattr(transformers, kind)(config).double()


def test_labels_of_tokens():
    model = bert("BertForTokenClassification", num_labels=3)
    rows = [{**r, "labels": [-100, *(t % 3 for t in r["input_ids"][1:])]} for r in TEXTS]

    def loss(row):
        logits = model(input_ids=torch.tensor(row["input_ids"])[None]).logits[0]
        return F.cross_entropy(logits, torch.tensor(row["labels"]))

    want = dot_products(model, rows, rows[:2], loss, lambda r: length(r) - 1)
    same(GradDot(batch_size=4).fit(model, rows).score(rows[:2]), want)


def test_multiple_choice():
    model = bert("BertForMultipleChoice")
    rows = [
        {"input_ids": RNG.integers(1, V, (3, n)).tolist(), "labels": i % 3}
        for i, n in enumerate(LENGTHS)
    ]

    def loss(row):
        logits = model(input_ids=torch.tensor(row["input_ids"])[None]).logits
        return F.cross_entropy(logits, torch.tensor([row["labels"]]))

    want = dot_products(model, rows, rows[:2], loss)
    same(GradDot(batch_size=4).fit(model, rows).score(rows[:2]), want)


def test_question_answering():
    model = bert("BertForQuestionAnswering")
    rows = [
        {"input_ids": RNG.integers(1, V, 7).tolist(), "start_positions": i % 3, "end_positions": 4}
        for i in range(8)
    ]

    def loss(row):
        out = model(input_ids=torch.tensor(row["input_ids"])[None])
        start = F.cross_entropy(out.start_logits, torch.tensor([row["start_positions"]]))
        return (start + F.cross_entropy(out.end_logits, torch.tensor([row["end_positions"]]))) / 2

    want = dot_products(model, rows, rows[:2], loss)
    same(GradDot(batch_size=3).fit(model, rows).score(rows[:2]), want)


def test_sequence_to_sequence():
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=V, d_model=8, d_kv=4, d_ff=12, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config).double()
    rows = [
        {**row, "labels": RNG.integers(1, V, 2 + i % 4).tolist()} for i, row in enumerate(TEXTS)
    ]

    def loss(row):
        ids, labels = (torch.tensor(row[key])[None] for key in ("input_ids", "labels"))
        logits = model(input_ids=ids, labels=labels).logits[0]
        return F.cross_entropy(logits, labels[0])

    want = dot_products(model, rows, rows[:2], loss, length)
    same(GradDot(batch_size=3).fit(model, rows).score(rows[:2]), want)
    arrays = {key: [row[key] for row in rows] for key in ("input_ids", "labels")}
    same(GradDot().fit(model, arrays).score(rows[:2]), want)


def test_images():
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
        image_size=8, patch_size=4, num_labels=3, initializer_range=0.3,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).double()
    rows = [{"pixel_values": torch.randn(3, 8, 8), "labels": i % 3} for i in range(8)]

    def loss(row):
        logits = model(pixel_values=row["pixel_values"][None].double()).logits
        return F.cross_entropy(logits, torch.tensor([row["labels"]]))

    same(
        GradDot(batch_size=3).fit(model, rows).score(rows[:2]),
        dot_products(model, rows, rows[:2], loss),
    )


@pytest.mark.parametrize("curvature", ["auto", "logra"])
def test_curvatures_work_on_a_language_model_by_themselves(model, curvature):
    options = {} if curvature == "auto" else {"curvature": curvature, "random_state": 0}
    attributor = InfluenceFunction(**options).fit(model, TEXTS[:5])
    whole, tokens = attributor.score(QUERIES), attributor.score(QUERIES, by="token")
    assert tokens.shape == (2, 5, max(map(length, QUERIES)))
    np.testing.assert_allclose(tokens.sum(2), whole, rtol=1e-6, atol=1e-6 * abs(whole).max())


@pytest.mark.parametrize("curvature", ["auto", "logra"])
def test_curvatures_of_a_large_vocabulary(curvature):
    model = llama(transformers, vocab_size=1500).float()  # too many outputs for their Hessian
    attributor = InfluenceFunction(curvature, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProjectionWarning)
        assert np.isfinite(attributor.fit(model, TEXTS[:4]).score(QUERIES)).all()


def test_what_an_item_must_be_is_said(model):
    with pytest.raises(ValueError, match="the entry 'input_ids' of an example cannot become"):
        GradDot().fit(model, [{"input_ids": "words"}])
    assert as_task(model).collate_fn.pad_token == 0
