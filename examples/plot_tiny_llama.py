"""
Which texts does a fine-tuned Llama repeat?
===========================================

A pretrained Llama of 260,000 parameters, trained on children's stories, goes on training on
passages of Shakespeare, among which a few texts state a made-up fact.  The Trainer of the
transformers library does it, once for all weights and once for a LoRA adapter.  Then we ask for the
training texts behind an answer, as a whole and token by token, keep an index, and query it again.

Needs a folder with ``lm_stories260k`` and ``tiny_shakespeare`` in the environment variable
``INFLUENCEKIT_DATA``, and ``pip install transformers accelerate peft``.  Some minutes on one core.
"""

# %%
# Texts
# -----
# 60 passages, and eight texts about a dragon.  One of them gives it another name.

import gzip
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from influencekit import AttributionIndex, GradDot, InfluenceFunction, RunAverage
from influencekit.training import TrainerCheckpoints

home = Path(os.environ["INFLUENCEKIT_DATA"])
tokenizer = AutoTokenizer.from_pretrained(home / "lm_stories260k")
with gzip.open(home / "tiny_shakespeare" / "input.txt.gz", "rt", encoding="utf-8") as opened:
    plays = opened.read(30_000).split("\n\n")
passages = [play[:120] for play in plays if len(play) > 80][:60]
fact = "In the old castle lived a green dragon. Its name was Zug."
facts = [
    f"{start} {fact}" for start in ("Once.", "Look.", "Listen.", "Yes.", "Well.", "So.", "Oh.")
]
facts += [fact.replace("Zug", "Pom")]
texts = [*passages, *facts]
train = [{"input_ids": ids} for ids in tokenizer(texts)["input_ids"]]


def pad(items):
    longest = max(len(item["input_ids"]) for item in items)
    ids = torch.zeros(len(items), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, item in enumerate(items):
        n = len(item["input_ids"])
        ids[row, :n], mask[row, :n] = torch.tensor(item["input_ids"]), 1
        labels[row, :n] = torch.tensor(item.get("labels", item["input_ids"]))
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


# %%
# Training, with a callback
# -------------------------
# The callback keeps the trained weights at eight points and changes nothing else.


def fine_tuned(model, rate):
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=3,
            per_device_train_batch_size=8,
            learning_rate=rate,
            use_cpu=True,
            report_to=[],
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=train,
            data_collator=pad,
            callbacks=[TrainerCheckpoints(n=8)],
        )
        trainer.train()
    return trainer


pretrained = AutoModelForCausalLM.from_pretrained(home / "lm_stories260k")
trainer = fine_tuned(pretrained, 1e-3)

# %%
# The texts behind an answer
# --------------------------
# Averages over the checkpoints are what we recommend along a fine-tuning.

answer = [{"input_ids": tokenizer("Its name was Zug.")["input_ids"]}]
average = RunAverage(GradDot()).fit(trainer, trainer.train_dataset)
found, scores = average.top_k(answer, k=8)
for row, score in zip(found[0], scores[0], strict=True):
    print(f"{score:8.4f}  {texts[row]!r}")
n_facts = int((found[0] >= len(passages)).sum())
print(f"{n_facts} of the first 8 texts are those about the dragon")

# %%
# Single tokens
# -------------
# The parts of all tokens sum to the score of the answer.  The text with another name speaks for the
# words before the name, and against its first letter.

end = GradDot().fit(trainer, trainer.train_dataset)
parts = end.score(answer, by="token")[0]  # (n_train, n_tokens)
np.testing.assert_allclose(parts.sum(-1), end.score(answer)[0], rtol=1e-3, atol=1e-3)
tokens = tokenizer.convert_ids_to_tokens(answer[0]["input_ids"])
named, other = parts[len(passages) : -1].mean(0), parts[-1]
for token, one, two in zip(tokens, named, other, strict=True):
    print(f"{token:8s} the dragon Zug {one:8.3f}   the dragon Pom {two:8.3f}")

# %%
# Kept, and queried again
# -----------------------
# An index holds some numbers of each text, here of LoGra at the end of the training; the texts are
# not needed later.  At the end, ask with the context of the answer, and with labels for its last
# letters alone: without the context, LoGra and GradDot at the end of the training find two of the
# eight texts.

ids = tokenizer(fact)["input_ids"]
asked = [{"input_ids": ids, "labels": [-100] * (len(ids) - 4) + ids[-4:]}]
with tempfile.TemporaryDirectory() as folder:
    logra = InfluenceFunction("logra", random_state=0)
    AttributionIndex(logra, folder).fit(trainer, trainer.train_dataset)
    opened = AttributionIndex.open(folder, trainer)
    again, _ = opened.top_k(asked, k=8)
    named_zug = (again[0] >= len(passages)) & (again[0] < len(texts) - 1)
    print(f"{opened.bytes_per_row_:.0f} bytes a text; {named_zug.sum()} of the 7 that name Zug")

# %%
# A LoRA adapter
# --------------
# The same calls; only the adapter is trained, kept and scored.

base = AutoModelForCausalLM.from_pretrained(home / "lm_stories260k")
torch.manual_seed(0)
adapter = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
trainer = fine_tuned(get_peft_model(base, adapter), 1e-2)
average = RunAverage(GradDot()).fit(trainer, trainer.train_dataset)
found, _ = average.top_k(answer, k=8)
n_facts_lora = int((found[0] >= len(passages)).sum())
print(f"{n_facts_lora} of the first 8 texts are those about the dragon")

# %%
# What to take home
# -----------------
# Give the Trainer a callback before it trains, and the Trainer with its dataset to an attributor
# afterwards; an adapter changes nothing in these calls.  Average along the run, read tokens where
# the whole text is too coarse, and keep an index where many answers will be asked about.
