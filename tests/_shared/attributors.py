"""What the attributors of tests/test_common.py need of their models and their fit."""

from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

from influencekit import FurtherTraining, Training, TreeInfluence
from influencekit.values import DataOOB

__all__ = ["asks_queries", "further_training", "trees_for"]


def asks_queries(attributor):
    """Whether ``fit`` needs the queries."""
    return attributor._asks_queries


def trees_for(attributor):
    """Unfitted model of trees, where the attributor reads no other; else None."""
    held = getattr(attributor, "attributor", attributor)
    if isinstance(held, DataOOB):
        return RandomForestClassifier(n_estimators=30, random_state=0)
    return GradientBoostingClassifier(n_estimators=3) if isinstance(held, TreeInfluence) else None


def further_training(**options):
    """A FurtherTraining; options of a training go into a Training."""
    described = {name: options.pop(name) for name in Training().get_params() if name in options}
    return FurtherTraining(training=Training(**described), **options)
