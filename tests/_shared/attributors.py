"""What the attributors of tests/test_common.py need of their models and their fit."""

from influencekit import LDSSearch, SubsetPosterior, TreeInfluence

__all__ = ["asks_queries", "reads_trees"]


def asks_queries(attributor):
    """Whether ``fit`` needs the queries."""
    return isinstance(attributor, (LDSSearch, SubsetPosterior))


def reads_trees(attributor):
    """Whether the model has to be made of trees."""
    return isinstance(getattr(attributor, "attributor", attributor), TreeInfluence)
