"""Postal codes of the states and their census numbers."""

from __future__ import annotations

from collections.abc import Sequence

from influencekit.utils._suggest import did_you_mean

__all__ = ["STATE_CODES", "check_states"]

#: Federal number (FIPS) of each state, and of Puerto Rico.
# fmt: off
STATE_CODES = {
    "AL": 1, "AK": 2, "AZ": 4, "AR": 5, "CA": 6, "CO": 8, "CT": 9, "DE": 10, "FL": 12, "GA": 13,
    "HI": 15, "ID": 16, "IL": 17, "IN": 18, "IA": 19, "KS": 20, "KY": 21, "LA": 22, "ME": 23,
    "MD": 24, "MA": 25, "MI": 26, "MN": 27, "MS": 28, "MO": 29, "MT": 30, "NE": 31, "NV": 32,
    "NH": 33, "NJ": 34, "NM": 35, "NY": 36, "NC": 37, "ND": 38, "OH": 39, "OK": 40, "OR": 41,
    "PA": 42, "RI": 44, "SC": 45, "SD": 46, "TN": 47, "TX": 48, "UT": 49, "VT": 50, "VA": 51,
    "WA": 53, "WV": 54, "WI": 55, "WY": 56, "PR": 72,
}
# fmt: on


def check_states(states: str | Sequence[str] | None) -> list[str]:
    """Postal codes as a list; None is all of them.

    Raises
    ------
    ValueError
        If a code does not exist.
    """
    if states is None:
        return list(STATE_CODES)
    states = [states] if isinstance(states, str) else list(states)
    for state in states:
        if state not in STATE_CODES:
            raise ValueError(
                f"states: got {state!r}; accepted are postal codes such as 'CA', or None for "
                f"all.{did_you_mean(state, STATE_CODES)}"
            )
    if not states:
        raise ValueError("states: got an empty list; accepted are postal codes, or None for all.")
    return states
