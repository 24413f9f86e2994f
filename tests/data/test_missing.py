"""Missing numbers of pandas' own dtypes, in the form of older versions."""

import numpy as np
import pandas as pd
import pytest

from influencekit.data._missing import as_floats


@pytest.mark.parametrize("numbers", [[1, 2], [1.5, np.float32(2)], [True, 3], []])
def test_missing_numbers_become_nan(numbers):
    found = as_floats(np.array([*numbers, pd.NA], dtype=object))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [*map(float, numbers), np.nan])


@pytest.mark.parametrize(
    "values",
    [
        np.array(["a", pd.NA], dtype=object),
        np.array([1, None], dtype=object),
        np.array([1, 2], dtype=object),
        np.array([[1, pd.NA]], dtype=object),
        np.array([1.0, np.nan]),
    ],
    ids=["words", "None", "all there", "a table", "floats"],
)
def test_others_stay(values):
    assert as_floats(values) is values
