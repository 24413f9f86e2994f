"""The Trainer of the transformers library, and models of peft, against autograd text by text."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from influencekit import GradDot, InfluenceFunction, as_task
from influencekit.exceptions import (
    InfluenceKitWarning,
    NotStationaryWarning,
    UnsupportedModelError,
)
from influencekit.models import SequenceCrossEntropy, load_checkpoints
from tests.models._tiny_texts import TEXTS, V, dot_products, llama, next_token_loss, same

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
QUERIES = TEXTS[:2]


def pad(items):
    longest = max(len(item["input_ids"]) for item in items)

    def rows(filler, of):
        return torch.tensor([of(i) + [filler] * (longest - len(i["input_ids"])) for i in items])

    return {
        "input_ids": rows(0, lambda i: i["input_ids"]),
        "attention_mask": rows(0, lambda i: [1] * len(i["input_ids"])),
        "labels": rows(-100, lambda i: i["input_ids"]),
    }


@pytest.fixture
def train(tmp_path):
    def make(model, collator=pad, kind=transformers.Trainer, data=TEXTS, **how):
        trainer = kind(
            model=model,
            args=transformers.TrainingArguments(
                tmp_path,
                **{
                    "max_steps": 2,
                    "per_device_train_batch_size": 4,
                    "report_to": [],
                    "disable_tqdm": True,
                    "logging_strategy": "no",
                    "save_strategy": "no",
                    "use_cpu": True,
                    **{k: v for k, v in how.items() if k != "compute_loss_func"},
                },
            ),
            train_dataset=data,
            data_collator=collator,
            **{k: v for k, v in how.items() if k == "compute_loss_func"},
        )
        trainer.train()
        return trainer

    return make


def scores_by_autograd(model, prompts=0):
    return dot_products(
        model,
        TEXTS,
        QUERIES,
        lambda r: next_token_loss(model, r, prompts),
        lambda r: len(r["input_ids"]) - (not prompts),
    )


def test_a_trainer_its_data_and_its_loader(train):
    model = llama(transformers)
    trainer = train(model, data=[{**row, "text": "a"} for row in TEXTS])
    want = scores_by_autograd(model)
    same(GradDot(batch_size=3).fit(trainer, trainer.train_dataset).score(QUERIES), want)
    same(GradDot().fit(trainer, trainer.get_train_dataloader()).score(QUERIES), want)
    same(GradDot().fit(model, trainer.get_train_dataloader()).score(QUERIES), want)
    assert as_task(trainer).penalty == {}  # AdamW's decay is no term of the objective


def test_weight_decay_of_the_optimizer_is_the_penalty(train):
    trainer = train(llama(transformers), optim="sgd", weight_decay=0.1, learning_rate=1e-3)
    task = as_task(trainer)
    decays = {n for n in task.parameters if "norm" not in n}
    assert set(task.penalty) == decays and float(task.penalty[min(decays)]) == 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotStationaryWarning)
        scores = InfluenceFunction("fisher").fit(trainer, TEXTS).score(QUERIES)
    assert np.isfinite(scores).all()


def test_a_loss_of_its_own_needs_to_be_given(train):
    class Own(transformers.Trainer):
        def compute_loss(self, *args, **kwargs):
            return 2 * super().compute_loss(*args, **kwargs)

    for trainer in (
        train(llama(transformers), kind=Own),
        train(llama(transformers), label_smoothing_factor=0.1),
        train(llama(transformers), compute_loss_func=lambda out, labels, **_: out.logits.sum()),
    ):
        with pytest.raises(UnsupportedModelError, match="has a loss of its own"):
            as_task(trainer)
        task = as_task(trainer, loss=SequenceCrossEntropy(shift=True))
        assert GradDot().fit(task, TEXTS).score(QUERIES).shape == (2, len(TEXTS))


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


def test_masked_language_models_keep_one_mask(train):
    def mask(items):
        batch = pad(items)
        hidden = (torch.rand(batch["labels"].shape) < 0.4) & (batch["labels"] != -100)
        batch["input_ids"][hidden] = 1
        return {**batch, "labels": batch["labels"].masked_fill(~hidden, -100)}

    trainer, queries, scores = (
        train(bert("BertForMaskedLM"), collator=mask),
        pad(QUERIES),
        [],
    )
    for size in (None, 1, 4):
        with pytest.warns(InfluenceKitWarning, match=r"\(mask\) draws random numbers"):
            attributor = GradDot(batch_size=size).fit(trainer, TEXTS)
        scores.append(attributor.score(queries))
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-9)
    np.testing.assert_allclose(scores[2], scores[0], rtol=1e-9)


ADAPTERS = {
    "lora": lambda peft: peft.LoraConfig(
        r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False
    ),
    "dora": lambda peft: peft.LoraConfig(
        r=2, use_dora=True, target_modules=["q_proj", "v_proj"], init_lora_weights=False
    ),
    "ia3": lambda peft: peft.IA3Config(
        target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
    "prompts": lambda peft: peft.PromptTuningConfig(num_virtual_tokens=3),
    "p-tuning": lambda peft: peft.PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=8),
    "prefix": lambda peft: peft.PrefixTuningConfig(num_virtual_tokens=3),
}


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_adapters(name):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    config = ADAPTERS[name](peft)
    config.task_type = "CAUSAL_LM"
    model = peft.get_peft_model(llama(transformers), config).double()
    want = scores_by_autograd(model, prompts=3 * (name in ("prompts", "p-tuning")))
    same(GradDot(batch_size=4).fit(model, TEXTS).score(QUERIES), want)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert as_task(model).n_parameters == trainable


def test_an_adapter_trained_by_the_trainer(train):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    config = ADAPTERS["lora"](peft)
    config.task_type = "CAUSAL_LM"
    model = peft.get_peft_model(llama(transformers), config).double()
    trainer = train(model, weight_decay=0.1, optim="sgd")
    task = as_task(trainer)
    assert set(task.penalty) == set(task.parameters)
    got = GradDot(batch_size=4).fit(trainer, trainer.train_dataset).score(QUERIES)
    same(got, scores_by_autograd(model))


def test_prompts_of_a_classifier():
    peft = pytest.importorskip("peft", reason="peft is not installed")
    config = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="SEQ_CLS")
    model = peft.get_peft_model(bert("BertForSequenceClassification", num_labels=3), config)
    model = model.double()
    rows = [{**row, "labels": i % 3} for i, row in enumerate(TEXTS)]

    def loss(row):
        ids = torch.tensor(row["input_ids"])[None]
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        return torch.nn.functional.cross_entropy(logits, torch.tensor([row["labels"]]))

    same(
        GradDot(batch_size=4).fit(model, rows).score(rows[:2]),
        dot_products(model, rows, rows[:2], loss),
    )
    # this model reads the last token, padding or not, where it does not see the tokens
    base = llama(transformers, "LlamaForSequenceClassification", num_labels=3)
    config = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="SEQ_CLS")
    model = peft.get_peft_model(base, config).double()
    with pytest.warns(InfluenceKitWarning, match="padding changes the model's loss"):
        GradDot().fit(model, rows)


def test_adapters_that_are_not_known_are_refused():
    peft = pytest.importorskip("peft", reason="peft is not installed")
    base = llama(transformers, "LlamaForTokenClassification", num_labels=3)
    config = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="TOKEN_CLS")
    with pytest.raises(UnsupportedModelError, match="PROMPT_TUNING of a LlamaForToken"):
        as_task(peft.get_peft_model(base, config))


def test_checkpoints_in_folders(train, tmp_path):
    trainer = train(llama(transformers), save_strategy="steps", save_steps=1)
    folders = sorted(tmp_path.glob("checkpoint-*"))
    tasks = load_checkpoints(trainer, folders)
    assert len(tasks) == 2
    ends = tasks[1].module.state_dict()
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(ends[name], value)
    first = transformers.LlamaForCausalLM.from_pretrained(folders[0]).double()
    same(GradDot().fit(tasks[0], TEXTS).score(QUERIES), scores_by_autograd(first))
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        load_checkpoints(trainer, [tmp_path])


def test_checkpoints_of_adapters_in_folders(train, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    config = ADAPTERS["lora"](peft)
    config.task_type = "CAUSAL_LM"
    base = llama(transformers)
    trainer = train(peft.get_peft_model(base, config).double(), save_strategy="steps", save_steps=2)
    (task,) = load_checkpoints(trainer, [tmp_path / "checkpoint-2"])
    wanted = dict(trainer.model.get_base_model().named_parameters())
    for name, parameter in task.parameters.items():
        torch.testing.assert_close(parameter.detach(), wanted[name].detach(), rtol=1e-6, atol=0)


def test_several_trainers_and_what_is_no_data(train):
    one, other = train(llama(transformers)), train(llama(transformers), learning_rate=1e-3)
    each = [GradDot().fit(t, TEXTS).score(QUERIES) for t in (one, other)]
    np.testing.assert_allclose(GradDot().fit([one, other], TEXTS).score(QUERIES), sum(each) / 2)
    with pytest.raises(TypeError, match=r"Tokenize them first: X = tokenizer\(texts\)"):
        GradDot().fit(one, ["a text"])
    with pytest.raises(ValueError, match=r"the entries \['train'\]"):
        GradDot().fit(one, {"train": TEXTS})
