"""Marks of tests that several rooms share."""

import pytest

#: For formulas that hold at any parameters: the nets are not trained, which fits warn of.
NOT_TRAINED = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
