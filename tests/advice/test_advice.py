"""What a message advises works: everyone who follows it gets on, and no message is left out.

The tables beside this file have a row for each message that advises code: what goes wrong, the
words of the message, and code that does what they say.  A new message that advises code needs a
row, or an entry in NOT_RUN.
"""

import tempfile

import pytest

from tests.advice import (
    _applications,
    _attributors,
    _curvature,
    _data,
    _held_models,
    _indexes,
    _inputs,
    _models,
    _recordings,
    _runs,
    _selection,
    _tables,
    _training,
    _trees,
    _values,
)
from tests.advice._messages import advised, code_words, messages
from tests.advice._world import said_by

pyplot = pytest.importorskip("matplotlib.pyplot", reason="some advice is on displays")

TABLES = (
    _applications,
    _attributors,
    _curvature,
    _data,
    _held_models,
    _indexes,
    _inputs,
    _models,
    _recordings,
    _runs,
    _selection,
    _tables,
    _training,
    _trees,
    _values,
)
ROWS = [row for table in TABLES for row in table.ROWS]

#: Messages whose advice is not run, by a piece of each, and why.
NOT_RUN = {
    "trajectory: the model's own loss of a step is": "needs transformers",
    "name: this ground truth needs": "needs a folder without the data",
    "name: no ground truth": "run in tests/datasets/test_ground_truth.py",
    "coefficients; the Hessian of at": "needs more than 6,000 coefficients",
    "has no named dampings": "said to authors of methods",
    "no second derivatives, and does not run in": "needs a model without second derivatives",
    "terms to bring the residual below rtol": "solvers are run in tests/curvature",
    "which numpy's files do not hold; accepted are float16": "trained ones are refused before",
    "batches and wrong in others": "run in tests/gradients/test_trusted_layers.py",
    "has reentrant checkpoints": "run in tests/curvature/test_second_route.py",
    "accepted are layers with a width above 0": "a layer of width 0 has nothing to train",
    "accepted are real parameters. Hold its": "run in tests/curvature/test_half_precision.py",
    "accepted is a Tensor, a tuple or list of some": "run in tests/models",
    "so its objective is not a function of the": "run in tests/models/test_several_outputs.py",
    "outputs per example takes an output Hessian": "run in tests/models/test_own_losses.py",
    "accepted is a tuple of them. Wrap the": "run in tests/models/test_several_outputs.py",
    "is met, but it is loose for these data": "warnings of models hardly trained are let be",
    "Its solver left out": "warnings of models hardly trained are let be",
    "for a projection that fits, or set projection_dim": "needs a machine of little memory",
    "Its solver stopped early, after max_iter=": "warnings of models hardly trained are let be",
    "is_unbalance=True weights classes": "needs LightGBM",
    "asks for validation data (eval_set), which": "needs XGBoost",
    "XGBoost with num_parallel_tree above 1": "needs XGBoost",
    "or projection='factored', which holds none": "run in tests/index/test_own_projection.py",
    "no file for": "needs files of the Census Bureau",
    "the Census Bureau's files of": "needs a network",
    "uci_concrete: no file concrete.csv.gz in": "needs a file that is not part of the sources",
    "uci_concrete: not found in": "needs a network",
    "one-versus-rest LogisticRegression with": "newer scikit-learn has no such model",
    "LogisticRegression(multi_class='multinomial')": "newer scikit-learn has no such parameter",
    "has its own loss function. Give the loss of its logits": "needs transformers",
    "for models of the transformers library, the loss is known only if": "needs transformers",
    "has a loss of its own (": "run in tests/models/test_trainer.py",
    "of an example cannot become a tensor": "run in tests/models/test_tokenized_data.py",
    "accepted is one row for each example. Give a collate_fn": "any DataLoader of other tests",
    "padding changes the model's loss of example": "run in tests/data/test_padding_collators.py",
    "Of a DatasetDict, give one": "run in tests/models/test_trainer.py",
    "scores of properties of": "run in tests/attributors/test_token_scores.py",
    "without a batch sampler; accepted is a torch": "record_trajectory is run by other rows",
    "a training batch came from somewhere else": "record_trajectory is run by other rows",
    "the recorded optimizer does not hold": "the recorder itself refuses such a run first",
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Where files go; figures are closed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    pyplot.close("all")


def code_of(message):
    return set().union(*map(code_words, advised(message.text)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.site[:50])
def test_advice_works(row):
    said = said_by(row.code)
    about = [text for text in said if row.site in text]
    assert about, f"not said: {row.site!r}; but {said}"
    for words, code in row.advice.items():
        assert any(words in text for text in about), f"{words!r} is not in {about}"
        assert [word for word in code_words(words) if word not in code] == []
        then = said_by(code)
        assert not any(row.site in text for text in then), f"{words!r} leads back to {then}"
        assert not any(text.startswith("raised") for text in then), f"{words!r} leads to {then}"


def test_every_message_that_advises_code_is_run():
    missing = {}
    for message in messages():
        words = code_of(message)
        if not words or any(piece in message.text for piece in NOT_RUN):
            continue
        rows = [row for row in ROWS if row.site in message.text]
        run = {word for row in rows for said in row.advice for word in code_words(said)}
        left = [word for word in sorted(words) if not any(found.endswith(word) for found in run)]
        if left:
            missing[f"{message.place}: {message.text}"] = left
    assert missing == {}


def test_the_list_of_what_is_not_run_is_up_to_date():
    texts = [message.text for message in messages() if code_of(message)]
    assert [piece for piece in NOT_RUN if not any(piece in text for text in texts)] == []


def test_advice_is_told_from_the_rest():
    said = (
        "rank: got rank=3; accepted is depth=2, every fit(x). Take scale=None or LoGra(rank=...)."
    )
    assert set().union(*map(code_words, advised(said))) == {"scale=", "LoGra(", "rank="}
    assert len(messages()) > 500
