"""A sample of the flips of ``python -m tests.flips``."""

import pytest

from tests.flips._experiment import GOOD, flips
from tests.flips._stores import STORES

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("n", [30, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", STORES)
def test_a_flipped_bit_is_noticed_or_has_no_effect(tmp_path, kind, n):
    ends = flips(STORES[kind], tmp_path / "files", n)
    assert ends.total() == n
    assert set(ends) <= set(GOOD)
