"""Ground truth of a language model: planted facts, and files that do not fit."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from influencekit.datasets import _truth_language as language
from influencekit.datasets import load_ground_truth
from influencekit.datasets._truth_files import check_truth, read_truth
from influencekit.utils._archives import DamagedFile

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed with the package
pytest.importorskip("benchmarks.atlas", reason="benchmarks/ is not part of this tree")
from benchmarks.atlas import score  # noqa: E402

NAME, TRUTHS = "wikitext2-llama", ROOT / "benchmarks/atlas/truths"
TOKENIZER_OF_WORDS = {}


@pytest.fixture(scope="module")
def files():
    return read_truth(TRUTHS, NAME)


class Words:
    """A tokenizer whose tokens are words, after a beginning of each text."""

    def __call__(self, texts, **_):
        if isinstance(texts, str):
            return {"input_ids": self.ids(texts)}
        return {"input_ids": [self.ids(text) for text in texts]}

    def ids(self, text):
        return [1] + [TOKENIZER_OF_WORDS.setdefault(w, 2 + len(TOKENIZER_OF_WORDS))
                      for w in text.split()]  # fmt: skip


def test_facts_are_at_the_beginning_of_their_texts_and_asked_for(monkeypatch):
    monkeypatch.setattr(language, "tokenizer", lambda home: Words())
    rows = np.arange(60)[::-1][: language.N_SENTENCES]
    plain = [{"input_ids": [1, *range(1000 + i, 1020 + i)]} for i in range(60)]
    X, questions, stated = language.plant_facts(Path(), plain, rows)
    assert [len(item["input_ids"]) for item in X] == [21] * 60
    assert [X[i] for i in range(20)] == plain[:20]
    names = {number: word for word, number in TOKENIZER_OF_WORDS.items()}
    for number, fact in enumerate(language.FACTS):
        own = [" ".join(names.get(t, "") for t in X[row]["input_ids"][1:]).strip()
               for row in np.flatnonzero(stated[number])]  # fmt: skip
        assert sorted(own) == sorted(fact.statements)
        asked = questions[number]
        answer = [t for t in asked["labels"] if t != -100]
        assert " ".join(names[t] for t in answer) == fact.answer
        assert asked["input_ids"][-len(answer) :] == answer
    assert stated.sum() == 30 and stated.sum(axis=0).max() == 1


def test_no_other_sentence_names_an_answer():
    for fact in language.FACTS:
        word = fact.answer.split()[0]
        assert all(word in sentence.split() for sentence in fact.statements)
        others = [s for f in language.FACTS for s in (*f.statements, f.other) if f is not fact]
        assert not any(word in sentence.split() for sentence in [fact.other, *others])


def test_facts_are_measured_by_the_texts_that_come_first():
    stated = np.array([[1, 1, 0, 0, 0], [0, 0, 0, 1, 1]], dtype=bool)
    scores = np.array([[5.0, 0, 4, 3, 2], [5, 4, 3, 2, 1]])
    found = score.facts_traced(stated, scores)
    assert found["facts"] == 0.25 and found["facts_mrr"] == (1 + 1 / 4) / 2


@pytest.mark.parametrize(
    ("recipe", "arrays", "said"),
    [
        ({"source": "iris"}, {}, "a model of kind 'llama' of 'iris'"),
        ({"model": {"kind": "mlp"}}, {}, "a model of kind 'mlp' of 'wikitext2'"),
        ({}, {"facts.rows": None}, "no array facts.rows"),
        ({}, {"facts.rows": np.arange(39)}, r"facts.rows has shape \(39,\), not \(40,\)"),
        ({}, {"facts.rows": np.arange(40) + 100}, "facts.rows has positions that are not from 0"),
        ({}, {"planted.labels": np.zeros(3)}, "'planted.labels' that no truth has"),
        ({}, {"predictions": np.zeros((9, 1))}, "n_query is 30"),
    ],
)
def test_files_of_a_language_model_that_do_not_fit_are_refused(files, recipe, arrays, said):
    own, found = files
    found = {k: v for k, v in {**found, **arrays}.items() if v is not None}
    with pytest.raises(DamagedFile, match=said):
        check_truth({**own, **recipe}, found, NAME)


@pytest.mark.parametrize("number", [{"layers": 0}, {"lr": "x"}, {"device": 1}, {"layers": True}])
def test_a_recipe_of_a_language_model_has_its_four_numbers(number):
    model = {"kind": "llama", "layers": 2, "lr": 1e-3, "max_epochs": 1, "batch_size": 8, **number}
    with pytest.raises(DamagedFile, match="its recipe sets"):
        language.new_llama(model, Path())


def test_a_table_has_no_facts_and_texts_no_wrong_labels():
    truth = load_ground_truth("iris-linear")
    with pytest.raises(ValueError, match="no facts are planted in iris-linear"):
        truth.facts()
    truth._arrays.pop("planted.labels")
    with pytest.raises(ValueError, match="no wrong labels are planted in iris-linear"):
        truth.planted()


@pytest.mark.slow
def test_the_llama_and_its_facts_are_read_and_their_losses_are_those_of_a_plain_softmax():
    home = os.environ.get("INFLUENCEKIT_DATA")
    if not home or not (Path(home) / "wikitext2").is_dir():
        pytest.skip("INFLUENCEKIT_DATA has no wikitext2")
    pytest.importorskip("transformers")
    truth = load_ground_truth(NAME)
    shown = truth.facts()
    texts, asked = shown.texts()
    for number, fact in enumerate(language.FACTS):
        assert asked[number].split() == f"{fact.question} {fact.answer}".split()
        starts = [texts[row] for row in np.flatnonzero(shown.stated[number])]
        assert all(any(t.startswith(s) for s in fact.statements) for t in starts)
    found = json.loads((TRUTHS / f"{NAME}.json").read_text())
    assert (found["n_train"], found["n_query"]) == (len(truth.X), len(truth.X_query)) == (120, 30)
    import torch

    one = shown.X_query[0]
    with torch.no_grad():
        logits = shown.model(input_ids=torch.tensor([one["input_ids"]])).logits[0].double().numpy()
    log = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    own = [log[i - 1, t] for i, t in enumerate(one["labels"]) if t != -100]
    stored = shown._arrays["facts.predictions"][0, 0]
    assert stored == pytest.approx(-np.mean(own), abs=1e-3)
