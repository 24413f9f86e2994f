"""Common data sets: downloaded once and kept in a folder of your choice, or read from your file."""

from influencekit.datasets._acs import fetch_acs, fetch_acs_income
from influencekit.datasets._bunch import get_data_home
from influencekit.datasets._concrete import fetch_uci_concrete
from influencekit.datasets._energy import load_uci_energy
from influencekit.datasets._ground_truth import load_ground_truth
from influencekit.datasets._heloc import load_heloc

__all__ = [
    "fetch_acs",
    "fetch_acs_income",
    "fetch_uci_concrete",
    "get_data_home",
    "load_ground_truth",
    "load_heloc",
    "load_uci_energy",
]
