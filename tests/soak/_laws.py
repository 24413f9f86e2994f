"""What holds for every model, whatever its data and options are."""

from __future__ import annotations

import copy
import os
import random
import re
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import torch
from sklearn.base import clone

from influencekit import GradDot
from influencekit.exceptions import ResourceError
from tests.soak._forms import FORMS, forms_for

#: Errors that are answers, if their message begins with an argument.
CLEAR = (ValueError, TypeError, ResourceError)
#: How a message names what it is about.
NAMED = re.compile(r"^[A-Za-z_][\w .()\[\]'\"=,/-]{0,60}: ")


#: Scores below it are rounding: a model that meets all its targets has gradients of 1e-16.
_ROUNDING = 1e-12
#: Roundings of an output: those of its parameters, of the products with them, and of their sum.
_ROUNDINGS = 8


class BrokenLaw(Exception):
    """A law that does not hold, with its name and what was seen."""

    def __init__(self, law, text):
        super().__init__(text)
        self.law = law


def close(law, got, expected, tolerance, rounding=0.0):
    """Refuse scores that differ by more than a share of the largest one and their rounding."""
    got, expected = np.asarray(got, float), np.asarray(expected, float)
    if got.shape != expected.shape:
        raise BrokenLaw(law, f"shape {got.shape} instead of {expected.shape}")
    if not np.isfinite(got).all():
        raise BrokenLaw(law, "NaN or infinity")
    largest = np.abs(expected).max(initial=_ROUNDING)
    error = np.abs(got - expected).max(initial=0.0)
    if error > tolerance * largest + rounding:
        raise BrokenLaw(law, f"off by {error / largest:.2g} of the largest score {largest:.3g}")


def tried(law, work):
    """Result of some work, or None where it ends with an error that says what to do."""
    try:
        return work()
    except BrokenLaw:
        raise
    except CLEAR as error:
        if not NAMED.match(str(error)):
            raise BrokenLaw(law, f"unclear {type(error).__name__}: {error}") from error
        return None
    except Exception as error:
        raise BrokenLaw(law, f"{type(error).__name__}: {error}") from error


class Checked:
    """One case: a problem, its options, and the scores that variants are compared with."""

    def __init__(self, problem, options, weights, rng):
        self.problem, self.options, self.weights, self.rng = problem, options, weights, rng
        single = problem.dtype == torch.float32
        self.tolerance = max(options.tolerance, 5e-3 if single else 0.0)
        if problem.meets_targets:
            self.tolerance = 2.0  # scores are rounding: two of them differ by their size at most
        self.scores = None

    def fitted(self, form=None, rows=None, **changed):
        """The attributor, fitted to the training data in some form and order."""
        p, weights = self.problem, self.weights
        X, y = (p.X, p.y) if rows is None else (p.X[rows], p.y[rows])
        weights = weights if weights is None or rows is None else weights[rows]
        X, y = (X, y) if form is None else FORMS[form](X, y)
        made = clone(self.options.attributor).set_params(**changed)
        return made.fit(p.model, X, y, sample_weight=weights)

    def scored(self, form=None, **asked):
        """Scores of the queries in the same form."""
        p = self.problem
        queries = (p.X_query, p.y_query)
        queries = queries if form is None else FORMS[form](*queries)
        return self.fitted(form, **asked).score(*queries)


def autograd(case):
    """GradDot is what autograd gives for one example at a time in float64."""
    p = case.problem
    scores = tried(
        "autograd",
        lambda: (
            GradDot("neg_loss", batch_size=case.options.attributor.batch_size)
            .fit(p.model, p.X, p.y, sample_weight=case.weights)
            .score(p.X_query, p.y_query)
        ),
    )
    if scores is not None:
        tolerance = 2e-4 if p.dtype == torch.float32 else 1e-9
        expected = p.reference(p.net, case.weights)
        moved = p.reference(p.rounded(), case.weights)
        rounding = _ROUNDINGS * np.abs(moved - expected).max(initial=0.0)
        close("autograd", scores, expected, tolerance, rounding)


def finite(case):
    """Scores are finite, or an error names an argument."""
    case.scores = tried("finite", case.scored)
    if case.scores is not None:
        close("finite", case.scores, case.scores, 0.0)


def permutation(case):
    """The order of the training rows is that of the columns, no more."""
    if case.options.by_position:
        return
    rows = case.rng.permutation(len(case.problem.X))
    scores = tried("permutation", lambda: case.scored(rows=rows))
    if scores is not None:
        close("permutation", scores, case.scores[:, rows], case.tolerance)


def batches(case):
    """Another batch size changes nothing."""
    size = int(case.rng.integers(1, 2 * len(case.problem.X)))
    scores = tried("batch size", lambda: case.scored(batch_size=size))
    if scores is not None:
        close(f"batch size {size}", scores, case.scores, case.tolerance)


def halves(case):
    """Queries in two parts, and in two threads, score as they do together."""
    p, at = case.problem, (len(case.problem.X_query) + 1) // 2
    fitted = case.fitted()
    parts = [slice(0, at), slice(at, None)] if at < len(p.X_query) else [slice(None)]
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(fitted.score, p.X_query[one], p.y_query[one]) for one in parts]
        scores = tried("halves", lambda: np.concatenate([one.result() for one in asked]))
    if scores is not None:
        close("halves", scores, case.scores, case.tolerance)


def forms(case):
    """A frame, a sparse matrix or a Dataset gives what an array gives."""
    form = str(case.rng.choice(forms_for(case.problem)))
    scores = tried(f"form {form}", lambda: case.scored(form))
    if scores is None:
        raise BrokenLaw(f"form {form}", "refused, although the array is not")
    close(f"form {form}", scores, case.scores, case.tolerance)


def repeated(case):
    """A fit with the same seed, and a copy of it, score the same to the last bit."""
    fitted = case.fitted()
    again = copy.deepcopy(fitted).score(case.problem.X_query, case.problem.y_query)
    close("repeated", again, case.scores, 0.0)


LAWS = (permutation, batches, halves, forms, repeated)


def state_of_the_world(problem):
    """What no fit and no score may change."""
    module = problem.module
    found = {
        "random numbers of torch": torch.get_rng_state().numpy().tobytes(),
        "random numbers of numpy": joblib.hash(np.random.get_state()),
        "random numbers of Python": joblib.hash(random.getstate()),
        "data": joblib.hash((problem.X, problem.y, problem.X_query, problem.y_query)),
        "files": [f for f in os.listdir(tempfile.gettempdir()) if not f.startswith("torch")],
        "threads": sorted(one.name for one in threading.enumerate()),
        "dtype": torch.get_default_dtype(),
        "gradients switched on": torch.is_grad_enabled(),
        "warnings of numpy": np.geterr(),
    }
    return {**found, **(_of_module(module) if module else {"model": joblib.hash(problem.model)})}


def _of_module(module):
    parts = list(module.modules())
    return {
        "parameters and buffers": joblib.hash(
            {k: v.numpy() for k, v in module.state_dict().items()}
        ),
        "mode": [part.training for part in parts],
        "gradients": [(p.requires_grad, p.grad is None) for p in module.parameters()],
        "hooks": [
            len(held)
            for part in parts
            for name, held in vars(part).items()
            if name.endswith("_hooks")
        ],
    }
