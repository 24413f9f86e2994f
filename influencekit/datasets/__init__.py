"""Common data sets, downloaded once and kept in a folder of your choice."""

from influencekit.datasets._acs import fetch_acs, fetch_acs_income
from influencekit.datasets._bunch import get_data_home
from influencekit.datasets._concrete import fetch_uci_concrete

__all__ = [
    "fetch_acs",
    "fetch_acs_income",
    "fetch_uci_concrete",
    "get_data_home",
]
