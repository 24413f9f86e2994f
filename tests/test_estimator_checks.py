"""Every public check fails on an attributor that breaks its rule, and on no other one."""

import copy
import threading
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from influencekit.base import BaseAttributor, Fitted
from influencekit.utils import estimator_checks
from influencekit.utils.estimator_checks import (
    check_attributor,
    parametrize_with_checks,
    yield_checks,
)


class Delegating(Fitted):
    """Asks the attributor, so that a defect is one method of one class."""

    def __init__(self, attributor):
        self.attributor = attributor

    def scores(self, queries):
        return self.attributor._score(queries)

    def self_scores(self):
        if self.attributor._self_influence is None:
            return super().self_scores()
        return self.attributor._self_influence()


class Reference(BaseAttributor):
    """Inner products of raw inputs: the simplest attributor that keeps every rule."""

    def __init__(self, scale=1, batch_size=None):
        self.scale = scale
        self.batch_size = batch_size

    def _fit(self, task, train):
        self.rows_ = values(train)
        return Delegating(self)

    def _score(self, queries):
        return self.scale * (values(queries) @ self.rows_.T)

    def _self_influence(self):
        return self.scale * (self.rows_**2).sum(1)


class WithoutOwnScores(Reference):
    """For defects of ``_score`` that would show in the diagonal too."""

    _self_influence = None


def values(examples):
    """Inputs of all examples, (n, n_features) float64."""
    return np.concatenate([batch.inputs.numpy() for batch in examples.batches(50)]).astype(float)


class ConvertsParameter(Reference):
    def __init__(self, scale=1.0, batch_size=None):
        self.scale = float(scale)
        self.batch_size = batch_size


class ChecksParameterInConstructor(Reference):
    def __init__(self, scale=1, batch_size=None):
        if not scale > 0:
            raise ValueError("scale must be positive")
        super().__init__(scale, batch_size)


class SetsMoreInConstructor(Reference):
    def __init__(self, scale=1, batch_size=None):
        super().__init__(scale, batch_size)
        self.rows_seen = 0


class ChangesParameterInFit(Reference):
    def _fit(self, task, train):
        fitted = super()._fit(task, train)
        self.batch_size = self.batch_size or 256
        return fitted


class ComputesInRepr(Reference):
    @property
    def largest_(self):
        return self._score(self.train_).max()

    def _fit(self, task, train):
        fitted = super()._fit(task, train)
        self.train_ = train
        return fitted

    def __repr__(self):
        largest = f", largest_={self.largest_:.1f}" if hasattr(self, "rows_") else ""
        return f"{type(self).__name__}(scale={self.scale}{largest})"


class RunsModelInRepr(Reference):
    def __repr__(self):
        if not hasattr(self, "task_"):
            return super().__repr__()
        outputs = self.task_.forward(torch.zeros(1, 4, dtype=self.task_.dtype))
        return f"{type(self).__name__}(n_outputs={outputs.shape[1]})"


class NamelessRepr(Reference):
    def __repr__(self):
        return "attributor"


class HoldsLambda(Reference):
    def _fit(self, task, train):
        fitted = super()._fit(task, train)
        self.kernel_ = lambda rows: rows
        return fitted


class ForgetsInPickle(Reference):
    def __getstate__(self):
        return {name: v for name, v in super().__getstate__().items() if name != "scale"}

    def __setstate__(self, state):
        super().__setstate__({"scale": 2, **state})


class ReturnsFloat32(Reference):
    def score(self, X, y=None):
        return super().score(X, y).astype(np.float32)


class ReturnsNone(Reference):
    def fit(self, model, X, y=None):
        super().fit(model, X, y)
        copied = copy.copy(self)
        return copied


class NeedsTestTargets(Reference):
    def _score(self, queries):
        found = super()._score(queries)
        return found if queries.targets is not None else found[:, :10]


class ChangesModel(Reference):
    def fit(self, model, X, y=None):
        super().fit(model, X, y)
        if hasattr(model, "coef_"):
            model.coef_ /= np.linalg.norm(model.coef_)
        return self


class LeavesEvalMode(Reference):
    def fit(self, model, X, y=None):
        if hasattr(model, "module_"):
            model.module_.eval()
        return super().fit(model, X, y)


class LeavesHook(Reference):
    def fit(self, model, X, y=None):
        if hasattr(model, "module_"):
            model.module_.register_forward_hook(print_nothing)
        return super().fit(model, X, y)


def print_nothing(*_):
    """A hook that does nothing."""


class ClearsGradients(Reference):
    def fit(self, model, X, y=None):
        if hasattr(model, "module_"):
            model.module_.zero_grad()
        return super().fit(model, X, y)


class SeedsGlobally(Reference):
    def _fit(self, task, train):
        np.random.seed(0)
        fitted = super()._fit(task, train)
        return fitted


class KeepsModel(WithoutOwnScores):
    """Reads the user's model when it scores, not the snapshot."""

    def fit(self, model, X, y=None):
        self.model_ = model
        return super().fit(model, X, y)

    def _score(self, queries):
        return super()._score(queries) * np.abs(getattr(self.model_, "coef_", 1.0)).sum()


class OwnScoresAreNotTheDiagonal(Reference):
    def _self_influence(self):
        return 2.0 * super()._self_influence()


class KeepsItsOutputElsewhere(Reference):
    def __init__(self, scale=1, batch_size=None, output="auto"):
        super().__init__(scale, batch_size)
        self.output = output


class SortsTestRows(WithoutOwnScores):
    def _score(self, queries):
        found = super()._score(queries)
        return found[np.argsort(found.sum(1), kind="stable")]


class DependsOnTestPosition(WithoutOwnScores):
    """Batches of four are weighed by their number, which starts anew after three."""

    def _score(self, queries):
        found = super()._score(queries)
        return found * (1.0 + np.arange(len(found)) // 4 % 3)[:, None]


class SortsColumns(WithoutOwnScores):
    def _score(self, queries):
        found = super()._score(queries)
        return found[:, np.argsort((self.rows_**2).sum(1), kind="stable")]


class DependsOnTrainPosition(WithoutOwnScores):
    """Weight falls over blocks of five rows, and starts anew after twelve blocks."""

    def _score(self, queries):
        found = super()._score(queries)
        return found / (1.0 + np.arange(found.shape[1]) // 5 % 12)


class WeighsByIndex(WithoutOwnScores):
    def _score(self, queries):
        found = super()._score(queries)
        return found / (1.0 + np.arange(found.shape[1]))


class CentresOverTestBatch(WithoutOwnScores):
    def _score(self, queries):
        found = super()._score(queries)
        return found - found.mean(axis=0)


class CreditsFirstCopyOnly(Reference):
    """Of equal training rows only the first one gets a score."""

    def _score(self, queries):
        rows = np.round(self.rows_, 6)
        _, first = np.unique(rows, axis=0, return_index=True)
        found = super()._score(queries)
        late = np.setdiff1d(np.arange(len(rows)), first)
        late = late[late >= 60]  # the problem has equal rows of its own
        found[:, late] = 0.0
        return found


class DependsOnBatchSize(Reference):
    def _score(self, queries):
        found = super()._score(queries)
        if self.batch_size is None:
            return found
        starts = range(0, len(found), self.batch_size)
        parts = [found[start : start + self.batch_size] for start in starts]
        return np.concatenate([part / np.abs(part).max() for part in parts])


class ReadsLoaderAsItComes(Reference):
    def score(self, X, y=None):
        if isinstance(X, DataLoader):
            X = torch.cat([batch[0] for batch in X])
        return super().score(X, y)


class MistakesLists(Reference):
    def score(self, X, y=None):
        if isinstance(X, list):
            X = [sorted(row) for row in X]
        return super().score(X, y)


class TransformIsNotScore(Reference):
    def transform(self, X, y=None):
        return -super().transform(X, y)


class HasFitTransform(Reference):
    def fit_transform(self, model, X, y=None):
        return self.fit(model, X, y).transform(X, y)


class RepeatsNames(Reference):
    def get_feature_names_out(self, input_features=None):
        return np.full(self.n_train_, "train", dtype=object)


class TopKIgnoresOpponents(Reference):
    def top_k(self, X, y=None, k=10, *, opponents=False):
        return super().top_k(X, y, k)


class TopKOfOtherRows(Reference):
    def top_k(self, X, y=None, k=10, *, opponents=False):
        rows, found = super().top_k(X, y, k, opponents=opponents)
        return rows[:, ::-1], found


class TakesDataAsModel(Reference):
    def fit(self, model, X, y=None):
        if isinstance(model, np.ndarray):
            self.rows_ = model
            return self
        return super().fit(model, X, y)


class CrashesOnDataAsModel(Reference):
    def fit(self, model, X, y=None):
        model.__class__.predict  # noqa: B018
        return super().fit(model, X, y)


class ReplacesNaN(Reference):
    def fit(self, model, X, y=None):
        return super().fit(model, np.nan_to_num(X) if isinstance(X, np.ndarray) else X, y)


class CutsLongX(Reference):
    def fit(self, model, X, y=None):
        if isinstance(X, np.ndarray) and np.ndim(y) == 1:
            X = X[: len(y)]
        return super().fit(model, X, y)


class SharesState(Reference):
    """Keeps the queries in an attribute while it works."""

    def _score(self, queries):
        self.now_ = queries
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.05)
        return super()._score(self.now_)


class NeedsGradients(Reference):
    def score(self, X, y=None):
        return super().score(X, y) * torch.is_grad_enabled()


class ScoresUnfitted(Reference):
    def score(self, X, y=None):
        if not hasattr(self, "rows_"):
            return np.zeros((len(X), 0))
        return super().score(X, y)


class CrashesUnfitted(Reference):
    def score(self, X, y=None):
        _ = self.rows_
        return super().score(X, y)


#: Each broken attributor and the checks that fail on it: one, unless the defect breaks more rules.
DEFECTS = [
    (ConvertsParameter, "clone_and_params"),
    (ChecksParameterInConstructor, "clone_and_params"),
    (SetsMoreInConstructor, "clone_and_params"),
    (ChangesParameterInFit, "clone_and_params"),
    (ComputesInRepr, "repr_computes_nothing"),
    (RunsModelInRepr, "repr_computes_nothing"),
    (NamelessRepr, "repr_computes_nothing"),
    (HoldsLambda, "serialization"),
    (ForgetsInPickle, "serialization"),
    (ReturnsFloat32, "shape_and_finite"),
    (ReturnsNone, "shape_and_finite"),
    (NeedsTestTargets, "shape_and_finite"),
    (OwnScoresAreNotTheDiagonal, "self_influence"),
    (ChangesModel, "model_untouched"),
    (LeavesEvalMode, "model_untouched"),
    (LeavesHook, "model_untouched"),
    (ClearsGradients, "model_untouched"),
    (SeedsGlobally, "model_untouched"),
    (KeepsModel, "snapshot"),
    (DependsOnTestPosition, "test_permutation"),
    (KeepsItsOutputElsewhere, "explained_output"),
    (SortsTestRows, "test_permutation test_subset duplicates"),
    (DependsOnTrainPosition, "train_permutation"),
    (SortsColumns, "train_permutation duplicates"),
    (WeighsByIndex, "train_permutation duplicates"),
    (CentresOverTestBatch, "test_subset"),
    (CreditsFirstCopyOnly, "duplicates"),
    (DependsOnBatchSize, "batch_size_independence"),
    (ReadsLoaderAsItComes, "input_kinds"),
    (MistakesLists, "input_kinds"),
    (TransformIsNotScore, "transform_and_names"),
    (HasFitTransform, "transform_and_names"),
    (RepeatsNames, "transform_and_names"),
    (TopKIgnoresOpponents, "top_k"),
    (TopKOfOtherRows, "top_k"),
    (TakesDataAsModel, "pipeline_misuse"),
    (CrashesOnDataAsModel, "pipeline_misuse"),
    (ReplacesNaN, "bad_values"),
    (CutsLongX, "bad_values"),
    (SharesState, "threads"),
    (NeedsGradients, "gradients_switched_off"),
    (ScoresUnfitted, "unfitted"),
    (CrashesUnfitted, "unfitted"),
]

NAMES = [check.__name__ for check in yield_checks()]


def failed_checks(attributor):
    """Names of the checks that fail, without "check_"; other errors than failures come out."""
    failed = set()
    for check in yield_checks():
        try:
            check(attributor)
        except AssertionError:
            failed.add(check.__name__.removeprefix("check_"))
    return failed


@parametrize_with_checks([Reference()])
def test_reference_passes(attributor, check):
    check(attributor)


@pytest.mark.parametrize(("kind", "checks"), DEFECTS, ids=lambda v: getattr(v, "__name__", ""))
def test_defect_fails_its_check_alone(kind, checks):
    assert failed_checks(kind()) == set(checks.split())


def test_every_check_has_a_defect_of_its_own():
    alone = {f"check_{checks}" for _, checks in DEFECTS if " " not in checks}
    assert alone == set(NAMES)


def test_every_check_in_the_module_is_yielded():
    defined = [name for name in vars(estimator_checks) if name.startswith("check_")]
    assert sorted(NAMES) == sorted(set(defined) - {"check_attributor"})
    assert len(set(NAMES)) == len(NAMES) == 21


def test_check_attributor_stops_at_a_failure():
    check_attributor(Reference())
    with pytest.raises(AssertionError, match="differ after pickle"):
        check_attributor(ForgetsInPickle())


def test_checks_leave_the_attributor_unfitted():
    attributor = Reference()
    check_attributor(attributor)
    assert vars(attributor) == {"scale": 1, "batch_size": None}


def test_expected_failures_are_marked():
    mark = parametrize_with_checks(
        [Reference()], expected_failed_checks=lambda _: {"check_threads": "one thread only"}
    )
    cases = {case.id: case.marks for case in mark.args[1]}
    (marked,) = cases.pop("Reference-check_threads")
    assert marked.name == "xfail"
    assert marked.kwargs["reason"] == "one thread only"
    assert len(cases) == 20
    assert not any(cases.values())
