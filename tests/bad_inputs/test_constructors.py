"""Every parameter of every public class says what it accepts, and refuses the rest by its name."""

import inspect

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.utils._param_validation import make_constraint

from influencekit import GradDot, InfluenceFunction
from influencekit.applications import LookAheadSelector
from influencekit.utils.validation import validate_parameters
from tests.test_architecture import public_objects

#: What classes need to be made at all.
NEEDED = {
    "attributor": InfluenceFunction(),
    "attributors": GradDot(),
    "recall": GradDot(),
    "rescore": GradDot(),
    "folder": "folder",
    "estimator": LogisticRegression(),
    "selector": LookAheadSelector(None, None),
    "clusterer": KMeans(),
    "labels": [0, 1],
    "X_val": np.zeros((2, 1)),
    "y_val": np.zeros(2),
}
#: Data and estimators, which are looked at when they are read.
DATA = {
    ("LabelGrouper", "labels"),
    ("LookAheadSelector", "X_val"),
    ("LookAheadSelector", "y_val"),
    ("NoisyLabelDetector", "estimator"),
    ("DatasetPruner", "estimator"),
    ("HorizonSearchCV", "estimator"),
    ("HorizonSearchCV", "selector"),
}


class Stranger:
    """A value that no parameter has heard of."""


#: Values that are wrong for most parameters, whatever these mean.
STRANGE = (
    Stranger(), Stranger, "no such word", b"bytes", -1, -1.5, 0, float("nan"), float("inf"), 1e300,
    2.5, True, 1j, None, [Stranger()], {"a": Stranger()}, np.array(["a", "b"]), range(0), print,
)  # fmt: skip


def estimators():
    """Public classes with parameters, by name."""
    found = dict(public_objects())
    return {
        name: kind
        for name, kind in found.items()
        if inspect.isclass(kind)
        and (issubclass(kind, BaseEstimator) or hasattr(kind, "_parameter_constraints"))
        and not inspect.isabstract(kind)
        and parameters_of(kind)
    }


def parameters_of(kind):
    given = inspect.signature(kind).parameters.values()
    return [p.name for p in given if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def made(kind, **given):
    return kind(**{n: NEEDED[n] for n in parameters_of(kind) if n in NEEDED} | given)


CLASSES = [pytest.param(kind, id=name) for name, kind in estimators().items()]


def accepts(kind, name, value):
    accepted = kind._parameter_constraints[name]
    return any(make_constraint(one).is_satisfied_by(value) for one in accepted)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_parameter_refuses_what_it_does_not_accept(kind):
    for name in parameters_of(kind):
        assert name in kind._parameter_constraints
        assert (kind.__name__, name) in DATA or not accepts(kind, name, Stranger())
        for value in STRANGE:
            if not accepts(kind, name, value):
                with pytest.raises(ValueError, match=f"'{name}' parameter .* must be .*") as caught:
                    validate_parameters(made(kind, **{name: value}))
                assert repr(value)[:40] in str(caught.value)


@pytest.mark.parametrize("kind", CLASSES)
def test_numbers_of_numpy_are_numbers(kind):
    numbers = [np.int64(2), np.uint8(2), np.int32(1), np.float64(0.25), np.float32(0.25)]
    for name in parameters_of(kind):
        for number in numbers:
            assert accepts(kind, name, number) == accepts(kind, name, number.item()), (name, number)


def test_the_rules_look_at_something():
    assert len(CLASSES) >= 35 and sum(len(parameters_of(c.values[0])) for c in CLASSES) >= 230
