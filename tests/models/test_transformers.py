"""Models of the transformers library: their own loss, labels, padding and gradients."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from influencekit import GradCos, GradDot, InfluenceFunction, as_task
from influencekit.data import make_examples
from influencekit.exceptions import ResourceError, UnsupportedModelError
from influencekit.gradients import (
    GradientEngine,
    Gradients,
    ggn_cotangent,
    loss_cotangent,
    sampled_cotangent,
)
from influencekit.models import CrossEntropy, SequenceCrossEntropy, SquaredError

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = pytest.mark.slow

V, N, T = 13, 6, 7
TIED = {"tie_word_embeddings": True}
#: The library's norms and rotary embedding compute in float32 whatever the model's dtype.
FLOAT32_INSIDE = {"rtol": 1e-5, "atol": 1e-6}


def llama(**changes):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        **{"vocab_size": V, "initializer_range": 0.3, "pad_token_id": 0, **TIED, **changes},
    )
    return config


def language_model(**changes):
    return transformers.LlamaForCausalLM(llama(**changes)).double()


def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=16, n_embd=8, n_layer=1, n_head=2, initializer_range=0.3
    )
    return transformers.GPT2LMHeadModel(config).double()


def text(n=N, length=T, padding=0, seed=0):
    """Token ids of n texts of different lengths, with ``padding`` further columns."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, V, size=(n, length))
    mask = (np.arange(length) < rng.integers(3, length + 1, size=(n, 1))).astype(np.int64)
    mask[0] = 1
    ids, mask = ids * mask, mask
    wide = ((0, 0), (0, padding))
    return {"input_ids": np.pad(ids, wide), "attention_mask": np.pad(mask, wide)}


def rows_by_autograd(model, data, shift=True):
    """Gradient of each text's mean loss, and its number of scored tokens, text by text."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    rows, counts = [], []
    for i in range(len(data["input_ids"])):
        kept = data["attention_mask"][i].astype(bool)
        ids = torch.tensor(data["input_ids"][i][kept])[None]
        logits = model.eval()(input_ids=ids).logits[0]
        loss = F.cross_entropy(logits[:-1], ids[0, 1:])
        grads = torch.autograd.grad(loss, wanted)
        rows.append(torch.cat([g.flatten() for g in grads]))
        counts.append(int(kept.sum()) - 1)
    return torch.stack(rows), torch.tensor(counts, dtype=torch.float64)


@pytest.mark.parametrize("make", [language_model, gpt2])
def test_the_objective_is_the_librarys_loss(make):
    model, data = make(), text()
    batch = {k: torch.tensor(v) for k, v in data.items()}
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    task = as_task(model)
    examples = make_examples(task, data)
    assert torch.equal(examples.targets, labels)
    losses = task.loss(task.forward(batch), examples.targets)
    weights = task.example_weights(examples.targets)
    expected = model.eval()(**batch, labels=labels).loss
    found = (losses * weights).sum() / weights.sum()
    torch.testing.assert_close(found, expected.double(), **FLOAT32_INSIDE)


@pytest.mark.parametrize(
    "make", [language_model, lambda: language_model(tie_word_embeddings=False), gpt2]
)
def test_gradients_and_scores_are_those_of_autograd(make):
    model, data, queries = make(), text(), text(3, seed=1)
    rows, counts = rows_by_autograd(model, data)
    query_rows, _ = rows_by_autograd(model, queries)
    task = as_task(model)
    examples = make_examples(task, data)
    engine = GradientEngine(task)
    found = Gradients(engine, examples, loss_cotangent(task)).matrix()
    torch.testing.assert_close(found, rows, **FLOAT32_INSIDE)

    scores = GradDot().fit(model, data).score(queries)
    expected = query_rows @ rows.T * counts / counts.mean()
    torch.testing.assert_close(torch.tensor(scores), expected, **FLOAT32_INSIDE)
    cosine = F.cosine_similarity(query_rows[:, None], rows[None], dim=2)
    scores = GradCos().fit(model, data).score(queries)
    torch.testing.assert_close(torch.tensor(scores), cosine, **FLOAT32_INSIDE)

    shares = counts / counts.sum()
    fisher = (rows.T * shares) @ rows + 0.1 * torch.eye(rows.shape[1], dtype=torch.float64)
    attributor = InfluenceFunction("fisher", damping=0.1)
    with pytest.warns(UserWarning, match="training gradient"):
        attributor.fit(model, data)
    expected = query_rows @ torch.linalg.solve(fisher, rows.T) * shares
    torch.testing.assert_close(torch.tensor(attributor.score(queries)), expected, **FLOAT32_INSIDE)


def test_nothing_takes_the_slow_fallback():
    for model in (language_model(), language_model(tie_word_embeddings=False), gpt2()):
        task = as_task(model)
        layout = GradientEngine(task).layout(make_examples(task, text()))
        # GPT-2 looks its positions up without examples: one embedding for the whole batch
        assert set(layout.rest) <= {"transformer.wpe.weight"}
        if isinstance(model, transformers.LlamaForCausalLM):
            factored = [layer.name for layer in layout.layers if layer.has_factors]
            assert len(factored) == 14 + 2 * (not model.config.tie_word_embeddings)


def test_padding_changes_nothing():
    model = language_model()
    scores = [
        GradDot().fit(model, text(padding=p)).score(text(3, padding=q, seed=1))
        for p, q in ((0, 0), (4, 0), (0, 3))
    ]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores[2], scores[0], rtol=1e-5, atol=1e-6)


def test_labels_of_every_kind_of_data():
    model, data = language_model(), text()
    expected = GradDot().fit(model, data).score(data)
    labels = np.where(data["attention_mask"] == 1, data["input_ids"], -100)
    for X, y in (
        (data, labels),
        ({**data, "labels": labels}, None),
        ([{k: v[i] for k, v in {**data, "labels": labels}.items()} for i in range(N)], None),
    ):
        X = Rows(X) if isinstance(X, list) else X
        np.testing.assert_allclose(GradDot().fit(model, X, y).score(X, y), expected)
    np.testing.assert_allclose(GradDot().fit(model, Rows(data)).score(data), expected)
    with pytest.raises(ValueError, match="given twice"):
        GradDot().fit(model, {**data, "labels": labels}, labels)
    with pytest.raises(ValueError, match="got the label 99"):
        GradDot().fit(model, data, np.where(labels == -100, 99, labels))
    with pytest.raises(ValueError, match="no token is in the loss"):
        GradDot().fit(model, data, np.full_like(labels, -100))
    with pytest.raises(ValueError, match="'input_ids'"):
        GradDot().fit(model, data["input_ids"])
    prompt = labels.copy()
    prompt[:, :3] = -100  # only the answer counts
    assert abs(GradDot().fit(model, data, prompt).score(data) - expected).max() > 1e-3


class Rows(torch.utils.data.Dataset):
    """A map-style Dataset of dicts."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows) if isinstance(self.rows, list) else len(self.rows["input_ids"])

    def __getitem__(self, i):
        return (
            self.rows[i] if isinstance(self.rows, list) else {k: v[i] for k, v in self.rows.items()}
        )


def test_the_gauss_newton_matrix_of_a_language_model():
    data = text(3, 4)
    with pytest.raises(ResourceError, match=r"draws labels from the model"):
        InfluenceFunction("ggn", damping=0.1).fit(language_model(vocab_size=1100), data)
    task = as_task(language_model())  # few tokens and classes: the matrix can be formed
    examples, engine = make_examples(task, data), GradientEngine(task)
    torch.manual_seed(0)
    directions = torch.randn(task.n_parameters, 20, dtype=torch.float64)

    def seen_from_directions(cotangent):
        products = Gradients(engine, examples, cotangent) @ directions
        return products.T @ products

    exact, errors = seen_from_directions(ggn_cotangent(task)), []
    for n_samples in (8, 128):
        found = seen_from_directions(sampled_cotangent(task, n_samples, random_state=0))
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[1] < 0.25
    assert errors[1] < errors[0] / 2


def test_other_heads():
    config = llama(num_labels=3)
    classifier = transformers.LlamaForSequenceClassification(config).double()
    assert isinstance(as_task(classifier).loss, CrossEntropy)
    data, y = text(), np.arange(N) % 3
    batch = {k: torch.tensor(v) for k, v in data.items()}
    task = as_task(classifier)
    loss = task.loss(task.forward(batch), torch.tensor(y)).mean()
    expected = classifier.eval()(**batch, labels=torch.tensor(y)).loss
    torch.testing.assert_close(loss, expected.double(), **FLOAT32_INSIDE)
    scores = GradDot(output="margin").fit(classifier, data, y).score(data, y)
    assert scores.shape == (N, N)
    with pytest.raises(ValueError, match="got None"):
        GradDot().fit(classifier, data)
    regressor = transformers.LlamaForSequenceClassification(llama(num_labels=1))
    assert isinstance(as_task(regressor).loss, SquaredError)
    tagger = as_task(transformers.LlamaForTokenClassification(llama(num_labels=3)))
    assert isinstance(tagger.loss, SequenceCrossEntropy) and not tagger.loss.shift
    with pytest.raises(UnsupportedModelError, match="ForCausalLM"):
        as_task(transformers.LlamaModel(config))
    given = as_task(language_model(), loss=SequenceCrossEntropy("sum", shift=True))
    assert given.loss.reduction == "sum" and given.input_targets is not None
    own = language_model()
    own.loss_function = lambda *args, **kwargs: 0.0
    with pytest.raises(UnsupportedModelError, match="its own loss function"):
        as_task(own)


def test_the_model_is_left_alone():
    model = language_model().train()
    cache = model.config.use_cache
    GradDot().fit(model, text())
    assert model.training and model.config.use_cache == cache


def test_the_package_does_not_import_transformers():
    code = "import sys, influencekit, influencekit.models; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_trained_llama_on_wikitext():
    home = os.environ.get("INFLUENCEKIT_DATA")
    if not home:
        pytest.skip("INFLUENCEKIT_DATA is not set")
    folder, file = Path(home) / "lm_stories260k", Path(home) / "wikitext2/wiki.valid.tokens.gz"
    if not folder.is_dir() or not file.is_file():
        pytest.skip(f"lm_stories260k or wikitext2 is not in {home}")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        texts = [line for line in (next(lines) for _ in range(60)) if len(line) > 100][:10]
    data = dict(tokenizer(texts, truncation=True, max_length=24, padding=True, return_tensors="np"))
    queries = {k: v[:3] for k, v in data.items()}
    rows, counts = rows_by_autograd(model, data)
    scores = GradDot().fit(model, data).score(queries)
    expected = rows[:3] @ rows.T * counts / counts.mean()
    scale = float(expected.abs().max())
    np.testing.assert_allclose(scores, expected.numpy(), rtol=0, atol=1e-4 * scale)
    # a text explains itself best
    assert GradCos().fit(model, data).score(queries).argmax(1).tolist() == [0, 1, 2]


def test_a_wrapped_model_is_an_ordinary_module():
    inner = language_model()

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, input_ids, attention_mask):
            return self.inner(input_ids=input_ids, attention_mask=attention_mask)

    data = text()
    wrapped = as_task(Wrapped(), loss=SequenceCrossEntropy(shift=True))
    labels = np.where(data["attention_mask"] == 1, data["input_ids"], -100)
    found = GradDot().fit(wrapped, data, labels).score(data, labels)
    np.testing.assert_allclose(found, GradDot().fit(inner, data).score(data), rtol=1e-9)
