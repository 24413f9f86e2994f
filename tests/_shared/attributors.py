"""What the attributors of tests/test_common.py need of their models and their fit."""

from influencekit import FurtherTraining, LDSSearch, SubsetPosterior, Training, TreeInfluence

__all__ = ["asks_queries", "further_training", "reads_trees"]


def asks_queries(attributor):
    """Whether ``fit`` needs the queries."""
    return isinstance(attributor, (LDSSearch, SubsetPosterior))


def reads_trees(attributor):
    """Whether the model has to be made of trees."""
    return isinstance(getattr(attributor, "attributor", attributor), TreeInfluence)


def further_training(**options):
    """A FurtherTraining; options of a training go into a Training."""
    described = {name: options.pop(name) for name in Training().get_params() if name in options}
    return FurtherTraining(training=Training(**described), **options)
