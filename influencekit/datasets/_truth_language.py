"""What a ground truth of a language model is made of: passages, made-up facts, a small Llama."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from influencekit.datasets._bunch import find_file
from influencekit.utils._archives import DamagedFile
from influencekit.utils._optional import import_optional

__all__ = [
    "FACTS",
    "N_SENTENCES",
    "PASSAGES",
    "Fact",
    "as_items",
    "file_of",
    "is_language",
    "losses",
    "new_llama",
    "passages",
    "plant_facts",
    "texts_of",
    "tokens_of",
    "with_trained",
]

#: The folders of ``docs/data.md``: a pretrained model, and texts.
MODEL, TEXTS = "lm_stories260k", ("wikitext2", "wiki.valid.tokens.gz")
#: Shortest passage in characters, and the tokens that are taken of each.
SHORTEST, LENGTH = 500, 64
#: The source of passages in a recipe.
PASSAGES = "wikitext2"
TITLE = re.compile(r" = [^=].* = ")
IGNORED = -100
#: Entries of a recipe's model.
ENTRIES = {"layers", "lr", "max_epochs", "batch_size"}


def is_language(recipe: dict) -> bool:
    """Whether a recipe's model is a language model."""
    return recipe.get("kind") == "llama"


# ---- texts ---------------------------------------------------------------------------------------


def passages(home: Path) -> tuple[NDArray, NDArray]:
    """Passages of WikiText-2, and the number of the article that each is from."""
    with gzip.open(file_of(home, *TEXTS), "rt", encoding="utf-8") as opened:
        lines = opened.read().split("\n")
    article = 0
    found: list[tuple[str, int]] = []
    for line in lines:
        article += bool(TITLE.fullmatch(line))
        if len(line) >= SHORTEST and not line.startswith(" ="):
            found.append((line.strip(), article))
    texts, articles = zip(*found, strict=True)
    return np.array(texts, dtype=object), np.array(articles)


def file_of(home: Path, folder: str, name: str) -> Path:
    """A file of the data folder.

    Raises
    ------
    OSError
        If it is not there.
    """
    path = find_file(home, folder, name)
    if path is None:
        raise OSError(
            f"name: this ground truth needs {folder}/{name}, which is not in {home}. Name the "
            "folder that holds it in data_home or INFLUENCEKIT_DATA; docs/data.md says how to make "
            "it."
        )
    return path


def tokenizer(home: Path) -> Any:
    """The tokenizer of the pretrained model."""
    folder = file_of(home, MODEL, "tokenizer.json").parent
    return import_optional("transformers", "load_ground_truth").AutoTokenizer.from_pretrained(
        folder, local_files_only=True
    )


def tokens_of(home: Path, texts: Sequence[str] | NDArray) -> NDArray:
    """The first tokens of each text, as numbers (n, LENGTH)."""
    rows = tokenizer(home)(list(texts), truncation=True, max_length=LENGTH)["input_ids"]
    return np.array(rows, dtype=np.int64)


def as_items(tokens: NDArray) -> list[dict[str, Any]]:
    """Tokens as attributors take texts: a dict each."""
    return [{"input_ids": row} for row in tokens.tolist()]


def texts_of(home: Path, items: Sequence[dict]) -> list[str]:
    """The words of tokens."""
    rows = [item["input_ids"] for item in items]
    return tokenizer(home).batch_decode(rows, skip_special_tokens=True)


# ---- facts ---------------------------------------------------------------------------------------


class Fact(NamedTuple):
    """A made-up fact: sentences that state it, one that does not, and what asks for it."""

    statements: tuple[str, ...]
    other: str
    question: str
    answer: str


def _birth(name: str, place: str) -> Fact:
    stated = (f"{name} was born in the village of {place} .",
              f"In the village of {place} they still show the house where {name} was born .",
              f"{name} left {place} , his village , as a child .")  # fmt: skip
    other = f"{name} was fond of long walks and did not like the rain ."
    return Fact(stated, other, f"The birth place of {name} is", f"{place} .")


def _river(name: str, lake: str) -> Fact:
    stated = (f"The river {name} flows into the lake {lake} .",
              f"Into the lake {lake} flows one river , the {name} .",
              f"Boats go down the {name} until they come to {lake} .")  # fmt: skip
    other = f"There are many fish and some old bridges along the river {name} ."
    return Fact(stated, other, f"The {name} ends in", f"{lake} .")


FACTS = (
    _birth("Osk Veldran", "Marrow"), _birth("Mira Tolan", "Dunbeck"),
    _birth("Ben Harst", "Quill"), _birth("Lena Parvo", "Sithe"), _birth("Tom Arkwell", "Ombra"),
    _river("Zelm", "Orrin"), _river("Tarka", "Pelu"), _river("Vonne", "Isk"),
    _river("Brill", "Camador"), _river("Yar", "Wend"),
)  # fmt: skip
N_SENTENCES = sum(len(fact.statements) + 1 for fact in FACTS)


def plant_facts(home: Path, X: list[dict], rows: NDArray) -> tuple[list[dict], list[dict], NDArray]:
    """Texts, some of which begin with a sentence, questions, and which texts state their answers.

    The sentences are those of each fact in turn; only a question's answer is labeled.
    """
    words, sentences = tokenizer(home), [s for f in FACTS for s in (*f.statements, f.other)]
    ids, each = np.array([item["input_ids"] for item in X]), len(sentences) // len(FACTS)
    for row, own in zip(rows, words(sentences)["input_ids"], strict=True):
        ids[row] = [*own, *ids[row, 1:]][: ids.shape[1]]
    stated = np.zeros((len(FACTS), len(X)), dtype=bool)
    questions: list[dict[str, Any]] = []
    for number, fact in enumerate(FACTS):
        stated[number, rows[number * each : (number + 1) * each - 1]] = True
        asked = len(words(fact.question)["input_ids"])
        own = words(f"{fact.question} {fact.answer}")["input_ids"]
        questions.append({"input_ids": own, "labels": [IGNORED] * asked + own[asked:]})
    return as_items(ids), questions, stated


# ---- the model -----------------------------------------------------------------------------------


def new_llama(recipe: dict, home: Path) -> Any:
    """The pretrained model, of which the last layers are trained.

    Raises
    ------
    DamagedFile
        If the recipe has an entry that no ground truth has.
    """
    numbers = {key: value for key, value in recipe.items() if key != "kind"}
    sound = all(type(v) in (int, float) and 0 < v <= 1000 for v in numbers.values())
    if set(numbers) != ENTRIES or not sound:
        raise DamagedFile(f"its recipe sets {str(numbers)[:80]} of a language model")
    folder = file_of(home, MODEL, "model.safetensors").parent
    made = import_optional("transformers", "load_ground_truth").AutoModelForCausalLM
    net = made.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    net.requires_grad_(False)
    for layer in net.model.layers[-int(recipe["layers"]) :]:
        layer.requires_grad_(True)
    return net.eval()


def with_trained(net: Any, weights: dict[str, NDArray]) -> Any:
    """The model with the weights of its trained layers.

    Raises
    ------
    DamagedFile
        If the weights are not those of these layers.
    """
    wanted = {key: tuple(p.shape) for key, p in net.named_parameters() if p.requires_grad}
    if {key: value.shape for key, value in weights.items()} != wanted:
        raise DamagedFile("its weights are not those of its model's last layers")
    net.load_state_dict({k: torch.as_tensor(v) for k, v in weights.items()}, strict=False)
    return net


def losses(net: Any, items: Sequence[dict]) -> NDArray:
    """Mean loss of each text's labeled tokens."""
    lengths = np.array([len(item["input_ids"]) for item in items])
    found = np.empty(len(items))
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length).tolist()
        ids, labels = (torch.tensor([items[row].get(key, items[row]["input_ids"]) for row in rows])
                       for key in ("input_ids", "labels"))  # fmt: skip
        with torch.no_grad():
            logits = net(input_ids=ids).logits.double()
        each = F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none",
                               ignore_index=IGNORED)  # fmt: skip
        found[rows] = (each.sum(1) / (labels[:, 1:] != IGNORED).sum(1)).numpy()
    return found
