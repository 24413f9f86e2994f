"""What may be held by those who choose, study or use attributors: refusals before any work."""

from __future__ import annotations

from typing import Any

__all__ = ["check_held", "refuse_property"]


def check_held(attributor: Any, holder: str, argument: str = "attributor") -> None:
    """Refuse an attributor that cannot be fitted, or be asked about each row, by a holder.

    Parameters
    ----------
    attributor : attributor
    holder, argument : str
        For the message: who holds it, and as what.

    Raises
    ------
    ValueError
    """
    refuse_property(attributor, holder, argument)
    if attributor._asks_queries:
        raise ValueError(
            f"{argument}: got a search that needs examples beyond the training data, which "
            f"{holder} does not pass on. Fit the search first, and give its best_attributor_ "
            f"instead."
        )


def refuse_property(attributor: Any, holder: str, argument: str = "attributor") -> None:
    """Refuse groups that explain one number of all rows together.

    Raises
    ------
    ValueError
    """
    grouped = attributor._grouped
    if grouped is not None and grouped.property is not None:
        raise ValueError(
            f"{argument}: got GroupAttributor with a property, one number of all rows that are "
            f"given, while {holder} asks about the output of each row. Accepted is property=None. "
            "Choose the attributor first, and put the groups around it: "
            "GroupAttributor(SurrogateLambdaSearchCV(InfluenceFunction()), property=...)."
        )
