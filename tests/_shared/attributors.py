"""What the attributors of tests/test_common.py need of their models and their fit."""

from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

from influencekit import TreeInfluence
from influencekit.values import DataOOB

__all__ = ["asks_queries", "trees_for"]


def asks_queries(attributor):
    """Whether ``fit`` needs the queries."""
    return attributor._asks_queries


def trees_for(attributor):
    """Unfitted model of trees, where the attributor reads no other; else None."""
    held = getattr(attributor, "attributor", attributor)
    if isinstance(held, DataOOB):
        return RandomForestClassifier(n_estimators=30, random_state=0)
    return GradientBoostingClassifier(n_estimators=3) if isinstance(held, TreeInfluence) else None
