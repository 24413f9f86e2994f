"""Data of any form at the border: read as they are, or refused by the argument's name."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from influencekit.data import make_examples
from influencekit.data._inputs import check_sample_weight
from influencekit.models import CrossEntropy, SquaredError, Task
from influencekit.utils._long_work import parse_memory

pytest.importorskip("hypothesis", reason="draws the data")

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

LABELS = np.array(["ant", "bee", "cat"])


class Sum(nn.Module):
    """Takes numbers of any shape."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * x.flatten(1).sum(1)


#: The same data in every run, and no folder for what failed.
few = settings(max_examples=25, derandomize=True, database=None, deadline=None)
NUMBERS = st.one_of(
    hnp.floating_dtypes(sizes=(16, 32, 64), endianness="="),
    hnp.integer_dtypes(endianness="="),
    hnp.boolean_dtypes(),
)
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5)


def outcome(name, work, *args, **options):
    """Result and None, or None and the words of a refusal, which begin with the argument."""
    try:
        return work(*args, **options), None
    except (ValueError, TypeError) as error:
        refusal = str(error)
    assert re.match(rf"{name}\b", refusal)
    return None, refusal


def views(array, draw):
    """The array as it is, of another order, or one row after another skipped in memory."""
    wide = np.empty((2 * len(array), *array.shape[1:]), array.dtype)
    wide[::2] = array
    return draw(st.sampled_from([array, np.asfortranarray(array), wide[::2]]))


@few
@given(data=st.data(), size=st.integers(1, 7))
def test_numbers_are_read_as_they_are_or_refused(data, size):
    X = views(data.draw(hnp.arrays(data.draw(NUMBERS), data.draw(SHAPES))), data.draw)
    task = Task(Sum(), SquaredError(), name="net")
    examples, refusal = outcome("X", make_examples, task, X, require_y=False)
    if refusal:
        finite = np.abs(X.astype(np.float64)).max() <= np.finfo(np.float32).max
        assert X.ndim == 1 or not finite or X.dtype.kind != "f"
        return
    found = torch.cat([batch.inputs for batch in examples.batches(size)]).numpy()
    assert len(examples) == len(X)
    np.testing.assert_array_equal(found, X.astype(found.dtype))
    assert np.isfinite(found.astype(np.float64)).all()


@few
@given(codes=st.lists(st.integers(0, 4), min_size=1, max_size=9), size=st.integers(1, 4))
def test_labels_become_their_positions_or_are_refused(codes, size):
    y = np.array(["ant", "bee", "cat", "dog", ""])[codes]
    task = Task(nn.Linear(2, 3), CrossEntropy(), classes=LABELS, name="net")
    X = np.zeros((len(y), 2), dtype=np.float32)
    if max(codes) > 2:
        with pytest.raises(ValueError, match=r"^y\b"):
            make_examples(task, X, y)
        return
    batches = make_examples(task, X, y).batches(size)
    np.testing.assert_array_equal(torch.cat([b.targets for b in batches]), codes)


@few
@given(weights=hnp.arrays(np.float64, st.integers(1, 5)))
def test_weights_are_finite_and_not_negative(weights):
    good = np.isfinite(weights).all() and (weights >= 0).all() and weights.any()
    found, refusal = outcome("sample_weight", check_sample_weight, weights, len(weights))
    assert (refusal is None) == good
    if good:
        np.testing.assert_array_equal(found, weights)


@few
@given(given_=st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text("0123456789.KMGTiB -e", max_size=6)
))  # fmt: skip
def test_an_amount_of_memory_is_bytes_or_refused(given_):
    found, refusal = outcome("max_memory", parse_memory, given_)
    if refusal is None:
        assert isinstance(found, int) and 0 < found <= 10**14
        assert not isinstance(given_, (bool, float))
