"""What was run: attributor, model, sizes, versions."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from influencekit._version import __version__
from influencekit.attributors.baselines._loss_baseline import LossBaseline
from influencekit.attributors.baselines._random_baseline import RandomBaseline
from influencekit.attributors.further._further_training import FurtherTraining
from influencekit.attributors.influence._stationary import LARGEST_QUIET_RATIO
from influencekit.models._outputs import output_name
from influencekit.report._answers import Answers
from influencekit.report._text import number, plain
from influencekit.selection._attributor_search import innermost

__all__ = ["damping_text", "run"]

_PACKAGES = ("torch", "scikit-learn", "skorch", "numpy", "scipy")

_OUTPUTS = {
    "neg_loss": "minus the loss at the {target}",
    "margin": "the log-odds of the {target}",
    "logit": "the raw score (logit) of the {target}",
    "prediction": "the prediction",
}


def run(attributor: Any, found: Answers, queries: Any) -> dict[str, Any]:
    """What the page says about the attributor, the model and the test examples.

    Parameters
    ----------
    attributor : fitted attributor
    found : Answers
        Answers for all test examples.
    queries : Examples or ExamplesList

    Returns
    -------
    dict of str to object
    """
    has_targets = queries.targets is not None
    return {
        "version": __version__,
        "n_train": f"{attributor.n_train_:,}",
        "summary": summary(attributor, found),
        "explained": explained(attributor, has_targets),
        "nature": nature(attributor),
        "cautions": cautions(attributor),
        "settings": settings(attributor, len(found.loss), has_targets),
        "parameters": parameters(attributor),
        "model": model_text(attributor),
    }


def explained(attributor: Any, has_targets: bool) -> str:
    """The explained output, in words."""
    output = getattr(innermost(attributor), "output", None)
    if output is None:
        return "the output named in the attributor's documentation"
    name = output_name(attributor.task_, output, has_targets)
    words = _OUTPUTS.get(name, "the output {name}") if isinstance(output, str) else "{name}()"
    target = "given label or value" if has_targets else "model's own prediction"
    return plain(words.replace("{target}", target).replace("{name}", name))


def settings(attributor: Any, n_test: int, has_targets: bool) -> list[tuple[str, str]]:
    """Names and values for the table of the run.

    Parameters
    ----------
    attributor : fitted attributor
    n_test : int
    has_targets : bool
        Whether labels or values of the test examples are known.

    Returns
    -------
    list of tuple of str
    """
    task, inner = attributor.task_, innermost(attributor)
    opened = attributor._models
    rows = [("attributor", plain(_one_line(attributor), 2000))]
    if inner is not attributor:
        rows.append(("attributor chosen", plain(_one_line(inner), 2000)))
    if damping := damping_text(attributor):
        rows.append(("damping λ in use", damping))
    rows += [
        ("explained output", explained(attributor, has_targets)),
        ("model", f"{task.name} ({task.problem_type})"),
        ("number of models", str(len(opened) if isinstance(opened, tuple) else 1)),
        ("trained parameters, p", f"{task.n_parameters:,}"),
        ("training examples, n", f"{attributor.n_train_:,}"),
        ("of these learned from", f"{len(attributor.train_rows_):,}"),
        ("test examples given", f"{n_test:,}"),
    ]
    rows += _curvature(inner, task.n_parameters)
    if (ratio := getattr(inner, "gradient_ratio_", None)) is not None:
        rows.append(("gradient ratio (0 at a stationary point)", _numbers(ratio)))
    return rows + [
        ("influencekit", __version__),
        ("Python", platform.python_version()),
        *_versions(),
    ]


def _curvature(attributor: Any, p: int) -> list[tuple[str, str]]:
    """The curvature in use, and the projection that was used, also where it was not asked for."""
    fitted = getattr(attributor, "curvature_", None)
    if isinstance(fitted, (list, tuple)):  # of an ensemble: they are alike
        fitted = fitted[0]
    found = [("curvature in use", plain(name))] if (name := getattr(fitted, "name", None)) else []
    projection: Any = getattr(fitted, "projection", None)
    if dim := getattr(projection, "dim", None):
        text = f"to {dim:,} of {p:,} dimensions, {projection.projection}, seed {projection.seed}"
        found.append(("projection in use", plain(text)))
    return found


def nature(attributor: Any) -> str:
    """What kind of numbers the scores are, in words."""
    inner = innermost(attributor)
    if isinstance(inner, FurtherTraining):
        return (
            "Scores are measured, by further training with and without each training example: "
            "they are valid for this amount of further training, and contain the noise of its "
            "seeds."
        )
    if isinstance(inner, (LossBaseline, RandomBaseline)):
        return "This attributor is a baseline for comparison; its scores are not predictions."
    return "Scores are predictions from the model's derivatives, not results of retraining."


def cautions(attributor: Any) -> list[str]:
    """What to keep in mind about this attributor and its model."""
    found = []
    ratio = np.max(getattr(innermost(attributor), "gradient_ratio_", 0.0))
    if ratio > LARGEST_QUIET_RATIO:
        found.append(
            f"This model is not at a stationary point of its objective (gradient ratio "
            f"{number(float(ratio))}): scores may rank examples, but their size does not match "
            f"the effect of retraining without the example."
        )
    n_held = attributor.n_train_ - len(attributor.train_rows_)
    if n_held:
        found.append(
            f"The model held out {n_held:,} of the training examples for validation and did not "
            "learn from them; they score 0."
        )
    return found


def summary(attributor: Any, found: Answers) -> str:
    """One line about model, data and how well the model does on the test examples."""
    n_test = len(found.loss)
    text = (
        f"{type(innermost(attributor)).__name__} of {attributor.task_.name}, trained on "
        f"{attributor.n_train_:,} examples. Test examples given: {n_test:,}"
    )
    if found.mistaken is not None:
        return f"{text}; the model is wrong on {int(found.mistaken.sum()):,} of them."
    return f"{text}; mean loss {number(float(found.loss.mean()))}."


def damping_text(attributor: Any) -> str:
    """The damping of each model; empty for a method without one."""
    damping = getattr(innermost(attributor), "damping_", None)
    return "" if damping is None else _numbers(damping)


def parameters(attributor: Any) -> list[tuple[str, str]]:
    """Parameters of the attributor and of the objects inside it."""
    found = attributor.get_params(deep=True)
    return [(plain(name), plain(found[name], 300)) for name in sorted(found)]


def model_text(attributor: Any) -> str:
    """The printed form of the fitted estimator and its torch module."""
    task = attributor.task_
    texts = dict.fromkeys([repr(task.estimator), repr(task.module)])
    return plain("\n\n".join(text for text in texts if text != "None"), 5000)


def _one_line(estimator: Any) -> str:
    return " ".join(repr(estimator).split())


def _numbers(values: Any) -> str:
    flat = np.ravel(values)
    text = ", ".join(number(float(v)) for v in flat[:5])
    return text if len(flat) <= 5 else f"{text}, … ({len(flat)} models)"


def _versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:  # used from the source folder without being installed
            continue
