"""
Which training texts taught a fine-tuned language model its answer?
====================================================================

A language model is fine-tuned by the Trainer of the transformers library, with a LoRA adapter.  Its
training keeps a few checkpoints.  Then we ask for the training texts behind an answer, as a whole
and word by word.  The model here is tiny, has random weights and needs no data; yours comes from
``from_pretrained``.  (``pip install transformers accelerate peft``)
"""

# %%
# A tiny model, and texts about animals
# -------------------------------------
# Each animal has a color.  One of the cats is wrong on purpose: its text says "red".

import tempfile

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from influencekit import GradDot, InfluenceFunction, RunAverage
from influencekit.training import TrainerCheckpoints

words = "the cat dog bird is black brown yellow red and it sleeps runs sings now"
token = {word: i + 1 for i, word in enumerate(words.split())}  # 0 is padding

rng = np.random.default_rng(0)
animals = {"cat": ("black", "sleeps"), "dog": ("brown", "runs"), "bird": ("yellow", "sings")}
sentences = []
for _ in range(20):
    for animal, (color, verb) in animals.items():
        end = ["", " now", " and it " + verb][rng.integers(3)]
        sentences.append(f"the {animal} is {color}{end}")
sentences[30] = "the cat is red and it sleeps"
texts = [{"input_ids": [token[word] for word in text.split()]} for text in sentences]

torch.manual_seed(0)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(token) + 1,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        pad_token_id=0,
    )
)
adapter = LoraConfig(
    r=8, target_modules="all-linear", modules_to_save=["lm_head"], task_type="CAUSAL_LM"
)
model = get_peft_model(model, adapter)

# %%
# Training, as usual
# ------------------
# The texts have different lengths, so the collator pads each batch.  The callback copies the
# adapter's weights at eight points of the training and changes nothing else.


def pad(items):
    longest = max(len(item["input_ids"]) for item in items)
    ids = torch.zeros(len(items), longest, dtype=torch.long)
    for row, item in zip(ids, items, strict=True):
        row[: len(item["input_ids"])] = torch.tensor(item["input_ids"])
    mask = (ids > 0).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(ids == 0, -100)}


with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            folder,
            num_train_epochs=30,
            per_device_train_batch_size=8,
            learning_rate=1e-2,
            report_to=[],
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=texts,
        data_collator=pad,
        callbacks=[TrainerCheckpoints(n=8)],
    )
    trainer.train()

# %%
# The texts behind an answer
# --------------------------
# The Trainer goes where a model goes, and its dataset where the data go.

query = "the cat is red"
asked = [{"input_ids": [token[word] for word in query.split()]}]

attributor = InfluenceFunction("ekfac").fit(trainer, trainer.train_dataset)
found, scores = attributor.top_k(asked, k=3)
for row, score in zip(found[0], scores[0], strict=True):
    print(f"{score:9.4f}  {sentences[row]}")

# %%
# Word by word
# ------------
# ``by="token"`` splits a score: the parts of all words sum to the score of the text.  "red" was
# learned from the one text that says so.

parts = attributor.score(asked, by="token")[0]  # (n_train, n_tokens)
for place, word in enumerate(query.split()):
    best = int(parts[:, place].argmax())
    print(f"{word:5s} {parts[best, place]:9.4f}  {sentences[best]}")

# %%
# Along the training
# ------------------
# Averages over the eight checkpoints predict a retraining better than the end of the training
# does, where few gradients are left.

average = RunAverage(GradDot()).fit(trainer, trainer.train_dataset)
found, scores = average.top_k(asked, k=3)
print(average.n_checkpoints_, [sentences[row] for row in found[0]])

# %%
# What to take home
# -----------------
# A Trainer and its dataset go where a fitted model and its table go: no surgery on the model, no
# padding by hand.  The scores of single words sum to the score of the text, so a list of texts can
# be read word by word.  This model is tiny and random; on a real one, measure with a few
# retrainings whether the ranking holds before you rely on it.
