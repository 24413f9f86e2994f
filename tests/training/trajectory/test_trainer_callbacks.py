"""Recorded trainings of the transformers library's Trainer: replay, checkpoints, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from influencekit import GradDot, RunAverage, SGDInfluence, as_task
from influencekit.attributors import AdamWInfluence
from influencekit.data import make_examples
from influencekit.exceptions import TrajectoryError
from influencekit.models import SequenceCrossEntropy
from influencekit.training import TrainerCheckpoints, TrainerRecorder, Trajectory
from influencekit.training.trajectory._replay import Replay
from tests.models._tiny_texts import TEXTS, llama

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::FutureWarning",
        "ignore::DeprecationWarning",
        "ignore::influencekit.exceptions.NotStationaryWarning",
    ),
]


def pad(items):
    longest = max(len(item["input_ids"]) for item in items)

    def rows(filler, of):
        return torch.tensor([of(i) + [filler] * (longest - len(i["input_ids"])) for i in items])

    return {
        "input_ids": rows(0, lambda i: i["input_ids"]),
        "attention_mask": rows(0, lambda i: [1] * len(i["input_ids"])),
        "labels": rows(-100, lambda i: i.get("labels", i["input_ids"])),
    }


@pytest.fixture
def trainer(tmp_path):
    def make(callback, model=None, collator=pad, data=TEXTS, **how):
        return transformers.Trainer(
            model=model or llama(transformers),
            args=transformers.TrainingArguments(
                tmp_path / "trainer",
                **{
                    "num_train_epochs": 2,
                    "per_device_train_batch_size": 4,
                    "report_to": [],
                    "disable_tqdm": True,
                    "logging_strategy": "no",
                    "save_strategy": "no",
                    "use_cpu": True,
                    "learning_rate": 1e-2,
                    "lr_scheduler_type": "linear",
                    "max_grad_norm": 0.5,
                    **how,
                },
            ),
            train_dataset=data,
            eval_dataset=data[:2],
            data_collator=collator,
            callbacks=[callback],
        )

    return make


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_recorded_run_is_the_run_and_can_be_replayed(trainer, accumulated, tmp_path):
    how = {"gradient_accumulation_steps": accumulated, "optim": "sgd"}
    plain = trainer(TrainerCheckpoints(n=1), **how)
    plain.train()
    recorder = TrainerRecorder(every=2, folder=tmp_path / "run")
    recorded = trainer(recorder, **how)
    recorded.train()
    for one, other in zip(plain.model.parameters(), recorded.model.parameters(), strict=True):
        assert torch.equal(one, other)
    run = Trajectory.load(tmp_path / "run")
    assert run.n_steps == {1: 6, 2: 4}[accumulated] and run.n_rows == len(TEXTS)
    for epoch in range(2):  # each text once
        steps = run.n_steps // 2
        rows = np.concatenate(run.batches[epoch * steps : (epoch + 1) * steps])
        assert sorted(rows) == list(range(len(TEXTS)))
    assert (run.max_norm == 0.5).all() and (np.diff(run.options["lr"][:, 0]) < 0).all()
    # replay is checked against the recorded weights
    scores = SGDInfluence(trajectory=recorder).fit(recorded, TEXTS).score(TEXTS[:2])
    assert scores.shape == (2, len(TEXTS)) and np.isfinite(scores).all()


def test_a_score_is_the_change_by_a_run_without_the_text(trainer):
    recorder = TrainerRecorder()
    recorded = trainer(recorder, optim="sgd", num_train_epochs=1, learning_rate=0.02)
    start = {n: p.detach().clone() for n, p in recorded.model.named_parameters()}
    recorded.train()
    run, query, taken = recorder.trajectory_, TEXTS[0], 3
    attributor = SGDInfluence(trajectory=run, removal="fixed")
    scores = attributor.fit(recorded, TEXTS).score([query])[0]

    def end_of(weight):
        """Loss of the query at the end of the run with a weight of one text."""
        model = llama(transformers).eval()
        params = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in start.items():
                params[name].copy_(value)
        for step, rows in enumerate(run.batches):
            weights = np.array([len(TEXTS[r]["input_ids"]) - 1.0 for r in rows])
            total = sum(
                (weight if r == taken else 1.0) * w * loss_of(model, TEXTS[r])
                for r, w in zip(rows, weights, strict=True)
            )
            grads = torch.autograd.grad(total / weights.sum(), list(params.values()))
            norm = torch.cat([g.flatten() for g in grads]).norm()
            factor = min(1.0, 0.5 / (float(norm) + 1e-6))
            with torch.no_grad():
                for p, g in zip(params.values(), grads, strict=True):
                    p -= run.options["lr"][step, 0] * factor * g
        return float(loss_of(model, query).detach())

    # the library's norms round to float32, so that a small weight would drown
    change = (end_of(1.1) - end_of(0.9)) / 0.2  # negative: the text helps
    assert scores[taken] == pytest.approx(-change, rel=0.03)


def loss_of(model, row):
    ids = torch.tensor(row["input_ids"])
    return F.cross_entropy(model(input_ids=ids[None]).logits[0][:-1], ids[1:])


def test_the_default_optimizer(trainer):
    recorder = TrainerRecorder()
    recorded = trainer(recorder, model=llama(transformers).float(), weight_decay=0.1)
    recorded.train()
    assert recorder.trajectory_.optimizer == "AdamW" and len(recorder.trajectory_.groups) == 2
    attributor = AdamWInfluence(trajectory=recorder.trajectory_).fit(recorded, TEXTS)
    assert np.isfinite(attributor.score(TEXTS[:1])).all()


@pytest.mark.parametrize("head", ["causal", "LoRA", "masked tokens"])
def test_a_loss_that_rounds_to_float32_is_replayed_as_it_was(trainer, head):
    # the library rounds the logits of these heads before the loss, also of a model in float64
    recorder = TrainerRecorder(every=3)
    trained = trainer(recorder, model=_rounding(head), learning_rate=1e-3)
    trained.train()
    run = recorder.trajectory_
    assert run.switches["own_loss"]
    replay = Replay(as_task(trained), run, make_examples(as_task(trained), TEXTS), np.arange(10))
    for start, end in run.segments():
        last = replay.states(start, end)[-1]
        there = replay.advance(last, end - 1, replay.gradient(last.theta, end - 1)).theta
        gone = (replay.snapshot(end).theta - replay.snapshot(start).theta).norm()
        assert (there - replay.snapshot(end).theta).norm() <= 1e-9 * gone
    scores = AdamWInfluence(trajectory=recorder).fit(trained, TEXTS).score(TEXTS[:1])
    assert np.isfinite(scores).all()


def _rounding(head):
    """A model in float64 whose loss is in float32."""
    if head == "masked tokens":
        torch.manual_seed(0)
        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
        config = transformers.ModernBertConfig(
            vocab_size=13, num_hidden_layers=1, pad_token_id=0, cls_token_id=1, sep_token_id=2,
            bos_token_id=1, eos_token_id=2, attention_dropout=0.0, **sizes,
        )  # fmt: skip
        return transformers.ModernBertForMaskedLM(config).double()
    if head == "causal":
        return llama(transformers)
    peft = pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    return peft.get_peft_model(llama(transformers), config).double()


def test_another_loss_than_the_one_that_rounds_is_refused(trainer):
    recorder = TrainerRecorder()
    trained = trainer(recorder)
    trained.train()
    task = as_task(trained, SequenceCrossEntropy("mean", shift=True))
    with pytest.raises(TrajectoryError, match="own loss of a step is"):
        AdamWInfluence(trajectory=recorder).fit(task, TEXTS).score(TEXTS[:1])


def test_checkpoints_for_averages(trainer):
    callback = TrainerCheckpoints(n=3)
    trained = trainer(callback, gradient_accumulation_steps=2)
    trained.train()
    assert list(callback.checkpoints_) == [0, 2, 3] and callback.n_steps_ == 4
    found = RunAverage(GradDot(), slopes="own").fit(trained, TEXTS)
    assert found.n_checkpoints_ == 3
    want = 0.0
    for state in callback.checkpoints_.values():
        model = llama(transformers)
        with torch.no_grad():  # the head is tied to the embedding
            for name, parameter in model.named_parameters():
                parameter.copy_(state[name])
        want = want + GradDot().fit(model, TEXTS).score(TEXTS[:2]) / 3
    np.testing.assert_allclose(found.score(TEXTS[:2]), want, rtol=1e-7)
    # a recording will do as well
    recorder = TrainerRecorder(every=1)
    recorded = trainer(recorder)
    recorded.train()
    given = RunAverage(GradDot(), checkpoints=recorder, n_checkpoints=2).fit(recorded, TEXTS)
    assert given.n_checkpoints_ == 2


def test_checkpoints_of_an_adapter(trainer):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(llama(transformers), config).double()
    callback = TrainerCheckpoints(n=2)
    trained = trainer(callback, model=model)
    trained.train()
    names = set(callback.checkpoints_[1])
    assert set(as_task(trained).parameters) <= names
    assert not any("embed_tokens" in name for name in names)
    average = RunAverage(GradDot()).fit(trained, TEXTS)
    assert average.n_checkpoints_ == 2 and np.isfinite(average.score(TEXTS[:1])).all()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"neftune_noise_alpha": 5}, "neftune_noise_alpha=5"),
        (
            {"load_best_model_at_end": True, "save_strategy": "epoch", "eval_strategy": "epoch"},
            "load_best_model_at_end=True",
        ),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor=0.1"),
        ({"optim": "adafactor"}, "optimizer: got"),
        ({"gradient_accumulation_steps": 2, "dropout": 0.1}, "with dropout"),
        ({"collator": "masking"}, "draws random numbers"),
        ({"dtype": torch.bfloat16, "bf16": True}, "are in torch.bfloat16"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_replayed_is_refused_before_training(trainer, how, said):
    how = dict(how)
    rate = how.pop("dropout", 0.0)
    model = llama(transformers, attention_dropout=rate).to(how.pop("dtype", torch.float64))
    if how.pop("collator", None):

        def masking(items):
            batch = pad(items)
            batch["labels"][torch.rand(batch["labels"].shape) < 0.3] = -100
            return batch

        how["collator"] = masking
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(TrajectoryError, match=said):
        trainer(TrainerRecorder(), model=model, **how).train()
    for one, other in zip(before, model.parameters(), strict=True):
        assert torch.equal(one, other)


def gpt2(rate=0.0):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=13, n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=0,
        eos_token_id=0, resid_pdrop=rate, embd_pdrop=rate, attn_pdrop=rate,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def classifier(rate=0.0):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=13, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=16, num_labels=3,
        hidden_dropout_prob=rate, attention_probs_dropout_prob=rate,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def classes(items):
    batch = pad(items)
    batch["labels"] = torch.tensor([item["label"] for item in items])
    return batch


def of_model(kind, without=None):
    """Texts for a model; one of them without labels stays in its batch, but not in the loss."""
    if kind == "tokens":
        return [
            {**t, "labels": [-100] * len(t["input_ids"]) if i == without else t["input_ids"]}
            for i, t in enumerate(TEXTS)
        ]
    labels = [-100 if i == without else sum(t["input_ids"]) % 3 for i, t in enumerate(TEXTS)]
    return [{**t, "label": label} for t, label in zip(TEXTS, labels, strict=True)]


def pad_left(items):
    """Padding on the left; only padding predicts the first token of a text."""
    batch = pad(items)
    gone = [int((row == 0).sum()) for row in batch["attention_mask"]]
    batch = {
        name: torch.stack([row.roll(n) for row, n in zip(rows, gone, strict=True)])
        for name, rows in batch.items()
    }
    batch["labels"][torch.arange(len(items)), torch.tensor(gone)] = -100
    return batch | {"position_ids": (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)}


def prompts():
    peft = pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(0)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    return peft.get_peft_model(llama(transformers), config).double()


TRAININGS = {
    "labels counted before the shift": (gpt2, "tokens", {}),
    "accumulated, labels counted": (gpt2, "tokens", {"gradient_accumulation_steps": 2}),
    "accumulated, means added": (classifier, "texts", {"gradient_accumulation_steps": 2}),
    "dropout and padding": (lambda: gpt2(0.2), "tokens", {}),
    "dropout, padded on the left": (lambda: gpt2(0.2), "tokens", {"collator": pad_left}),
    "prompt tuning": (prompts, "tokens", {"learning_rate": 0.02}),
    "dropout of a classifier": (lambda: classifier(0.2), "texts", {}),
    "evaluated meanwhile": (gpt2, "tokens", {"eval_strategy": "steps", "eval_steps": 1}),
    "gradient checkpointing": (gpt2, "tokens", {"gradient_checkpointing": True}),
    "groups by length": (gpt2, "tokens", {"train_sampling_strategy": "group_by_length"}),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_scores_are_changes_by_trainings_without_a_text(trainer, name):
    make, kind, how = TRAININGS[name]
    rate = {"optim": "sgd", "learning_rate": 0.002, "max_grad_norm": 10.0}
    how = {"collator": classes if kind == "texts" else pad, **rate, **how}
    queries, taken = of_model(kind)[:3], (4, 7, 9)

    def end(without):
        run = trainer(TrainerCheckpoints(n=1), model=make(), data=of_model(kind, without), **how)
        run.train()
        with torch.no_grad():
            return [-float(run.model.eval()(**how["collator"]([q])).loss) for q in queries]

    recorder = TrainerRecorder(every=2)
    recorded = trainer(recorder, model=make(), data=of_model(kind), **how)
    recorded.train()
    full, removed = end(None), np.array([end(i) for i in taken])
    lost = (np.array(full) - removed).T
    influence = SGDInfluence(trajectory=recorder, removal_order="finite")
    found = influence.fit(recorded, of_model(kind)).score(queries)[:, taken]
    assert np.linalg.norm(found - lost) <= 0.1 * np.linalg.norm(lost)


def test_a_run_in_bf16_is_replayed_as_it_was(trainer):
    recorder = TrainerRecorder(every=3)
    trained = trainer(recorder, model=gpt2(), bf16=True)
    trained.train()
    run = recorder.trajectory_
    replay = Replay(as_task(trained), run, make_examples(as_task(trained), TEXTS), np.arange(10))
    for start, end in run.segments():
        last = replay.states(start, end)[-1]
        there = replay.advance(last, end - 1, replay.gradient(last.theta, end - 1)).theta
        gone = (replay.snapshot(end).theta - replay.snapshot(start).theta).norm()
        assert (there - replay.snapshot(end).theta).norm() <= 1e-4 * gone


def test_a_loss_with_other_terms_is_refused(trainer):
    model = gpt2()
    plain = model.forward

    def forward(input_ids=None, attention_mask=None, labels=None, **named):
        output = plain(input_ids, attention_mask=attention_mask, labels=labels, **named)
        output["loss"] = output["loss"] + 0.1 * output["logits"].square().mean()
        return output

    model.forward = forward
    with pytest.raises(TrajectoryError, match="adds terms to the mean"):
        trainer(TrainerRecorder(), model=model).train()
