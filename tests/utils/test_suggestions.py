"""Misspelt choices, parameter names and column names: the message names the right one."""

import importlib
import inspect
import pkgutil

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

import influencekit
from influencekit import FurtherTraining, GradDot, InfluenceFunction, LDSSearch, Training, as_task
from influencekit.applications import fairness_gap, removal_curve, score_then_retrain
from influencekit.datasets import fetch_acs
from influencekit.displays import AgreementDisplay, LabelIssuesDisplay, TopExamplesDisplay
from influencekit.gradients import make_projection
from influencekit.gradients._plan import plan
from influencekit.groups import GroupAttributor
from influencekit.metrics import linear_datamodeling_score, noise_ceiling
from influencekit.models import SequenceCrossEntropy, resolve_output
from influencekit.report import AttributionReport
from influencekit.training import retrain_on_subsets
from influencekit.utils import StrOptions
from influencekit.utils._suggest import did_you_mean
from influencekit.utils.validation import validate_parameters

X = np.random.default_rng(0).standard_normal((12, 3))
Y = (X[:, 0] > 0).astype(int)
MODEL = LogisticRegression().fit(X, Y)


def misspelt(word):
    """A letter dropped, doubled or swapped with the next one; other case; a joint more or less."""
    middle = len(word) // 2
    found = {word[:i] + word[i + 1 :] for i in {1, len(word) - 2} if 0 < i < len(word)}
    found |= {word[:i] + word[i] + word[i:] for i in {1, middle}}
    found |= {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in {0, max(middle - 1, 0)}}
    found |= {word.upper(), word.title(), word[:middle] + "-" + word[middle:]}
    found |= {word.replace("_", "-"), word.replace("_", ""), word.replace("_", " ")}
    return found - {word}


def public_estimators():
    for module in pkgutil.walk_packages(influencekit.__path__, "influencekit."):
        if any(part.startswith("_") for part in module.name.split(".")):
            continue
        found = importlib.import_module(module.name)
        for name in getattr(found, "__all__", ()):
            one = getattr(found, name)
            concrete = inspect.isclass(one) and not inspect.isabstract(one)
            if concrete and getattr(one, "_parameter_constraints", None):
                yield one


def an_instance(cls):
    needed = {
        "attributor": InfluenceFunction(),
        "attributors": {"if": InfluenceFunction()},
        "clusterer": KMeans(2),
        "estimator": MODEL,
        "folder": "index",
        "grid": {},
        "labels": Y,
        "model": MODEL,
        "X_val": X,
        "y_val": Y,
    }
    parameters = inspect.signature(cls).parameters.values()
    return cls(**{p.name: needed[p.name] for p in parameters if p.default is p.empty})


def choices_of_estimators():
    for cls in sorted(set(public_estimators()), key=lambda cls: cls.__name__):
        for name, accepted in cls._parameter_constraints.items():
            words = set().union(*(one.options for one in accepted if isinstance(one, StrOptions)))
            if words:
                yield cls, name, sorted(words)


CHOICES = list(choices_of_estimators())


@pytest.mark.parametrize(
    ("cls", "name", "words"), CHOICES, ids=[f"{cls.__name__}-{name}" for cls, name, _ in CHOICES]
)
def test_every_misspelt_choice_of_an_estimator_is_told_the_right_one(cls, name, words):
    estimator = an_instance(cls)
    for word in words:
        for wrong in sorted(misspelt(word) - set(words)):
            setattr(estimator, name, wrong)
            with pytest.raises(ValueError, match=rf"'{name}' parameter .*Did you mean '{word}'\?"):
                validate_parameters(estimator)


def test_there_are_enough_misspelt_strings():
    count = sum(len(misspelt(w) - set(words)) for _, _, words in CHOICES for w in words)
    assert count >= 228


def test_an_estimator_says_it_when_it_is_fitted():
    with pytest.raises(ValueError, match=r"Did you mean 'ggn'\?"):
        InfluenceFunction("gnn").fit(MODEL, X, Y)
    with pytest.raises(ValueError, match=r"Did you mean 'paired'\?"):
        FurtherTraining(lr=0.1, removal="pared").fit(MODEL, X, Y)


def test_nothing_is_suggested_where_nothing_is_close():
    with pytest.raises(ValueError, match=r"Got 'identity' instead\.$"):
        InfluenceFunction("identity").fit(MODEL, X, Y)
    with pytest.raises(ValueError, match=r"Got 3 instead\.$"):
        InfluenceFunction(3).fit(MODEL, X, Y)


OUTPUTS = np.random.default_rng(1).standard_normal((4, 6))
MASKS = np.random.default_rng(2).random((4, 12)) < 0.5
FUNCTIONS = {
    "engine": lambda w: retrain_on_subsets(MODEL, X, Y, X, Y, engine=w),
    "on_nan": lambda w: retrain_on_subsets(MODEL, X, Y, X, Y, on_nan=w),
    "output": lambda w: resolve_output(as_task(MODEL), w, True),
    "correlation": lambda w: linear_datamodeling_score(OUTPUTS, MASKS, OUTPUTS, correlation=w),
    "correlation of noise_ceiling": lambda w: noise_ceiling(np.ones((4, 2, 3)), correlation=w),
    "projection of make_projection": lambda w: make_projection(as_task(MODEL), 2, projection=w),
    "operation": lambda w: plan(w, None),
    "gap of fairness_gap": lambda w: fairness_gap([0.1, 0.9], [0, 1], ["a", "b"], w),
    "which": lambda w: removal_curve(MODEL, X, Y, X, Y, {}, which=w),
    "curvature": lambda w: score_then_retrain(MODEL, X, Y, X, Y, curvature=w),
    "survey_horizon": lambda w: fetch_acs("ACSIncome", survey_horizon=w),
    "reduction": lambda w: SequenceCrossEntropy(reduction=w),
    "measure": lambda w: AgreementDisplay.from_results({}, measure=w),
    "kind of LabelIssuesDisplay": lambda w: LabelIssuesDisplay.plot(None, kind=w),
    "kind of TopExamplesDisplay": lambda w: TopExamplesDisplay.plot(None, kind=w),
}
WORDS = {
    "engine": ["auto", "stacked", "joblib"],
    "on_nan": ["raise", "keep"],
    "output": ["neg_loss", "margin", "logit", "prediction"],
    "correlation": ["spearman", "pearson"],
    "correlation of noise_ceiling": ["spearman", "pearson"],
    "projection of make_projection": ["rademacher", "gaussian", "two_sided", "factored"],
    "operation": ["features", "dot", "matrix", "covariance", "project", "matmul", "sums"],
    "gap of fairness_gap": ["demographic_parity", "equal_opportunity", "equalized_odds"],
    "which": ["helpful", "harmful"],
    "curvature": ["hessian", "ggn", "fisher", "none"],
    "survey_horizon": ["1-Year", "5-Year"],
    "reduction": ["tokens", "mean", "sum"],
    "measure": ["cosine", "spearman"],
    "kind of LabelIssuesDisplay": ["scores", "ranking"],
    "kind of TopExamplesDisplay": ["auto", "images", "bars"],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_misspelt_choice_of_a_function_is_told_the_right_one(name):
    for word in WORDS[name]:
        for wrong in sorted(misspelt(word) - set(WORDS[name])):
            with pytest.raises(ValueError, match=rf"Did you mean '{word}'\?"):
                FUNCTIONS[name](wrong)


def test_names_of_parameters():
    attributor = InfluenceFunction(damping=0.1)
    with pytest.raises(ValueError, match=r"'dampin' for estimator .*Did you mean 'damping'\?"):
        attributor.set_params(curvature="fisher", dampin=1.0)
    assert attributor.curvature == "auto"
    with pytest.raises(ValueError, match=r"Did you mean 'damping'\?"):
        GroupAttributor(attributor).set_params(attributor__daming=1.0)
    with pytest.raises(ValueError, match=r"Did you mean 'attributor'\?"):
        GroupAttributor(attributor).set_params(atributor__damping=1.0)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'dampnig'.*'damping'\?"):
        InfluenceFunction(dampnig=1.0)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'attributor'$"):
        LDSSearch()


def test_a_constructor_is_read_as_before():
    class Own(GradDot):
        def __init__(self, output="auto", *, scale=1):
            super().__init__(output=output)
            self.scale = scale

    assert list(inspect.signature(Own).parameters) == ["output", "scale"]
    assert clone(Own(scale=3)).scale == 3
    with pytest.raises(TypeError, match=r"'scal'\. Did you mean 'scale'\?"):
        Own(scal=2)


def test_names_in_a_search_space_and_of_columns():
    search = LDSSearch(InfluenceFunction(), {"dampings": [0.1, 1.0]})
    with pytest.raises(ValueError, match=r"Did you mean 'damping'\?"):
        search.fit(MODEL, X, Y, X_query=X, y_query=Y)
    frame = pd.DataFrame(X, columns=["age", "sex", "hours_per_week"])
    fitted = InfluenceFunction().fit(LogisticRegression().fit(frame, Y), frame, Y)
    with pytest.raises(ValueError, match=r"Did you mean 'sex'\?"):
        fitted.score(frame.rename(columns={"sex": "sexx"}), Y)
    with pytest.raises(ValueError, match=r"Did you mean 'hours_per_week'\?"):
        AttributionReport.from_attributor(fitted, frame, X_train=frame, features=["hours-per-weak"])


def test_options_of_an_optimizer():
    given = {"weight_dacay": 0.1}
    with pytest.raises(ValueError, match=r"Did you mean 'weight_decay'\?"):
        FurtherTraining(training=Training(lr=0.1, optimizer_params=given)).fit(MODEL, X, Y)


def test_a_word_is_compared_without_case_and_joints():
    assert did_you_mean("Empirical Fisher", ["fisher", "empirical_fisher"]).count("empirical_")
    assert did_you_mean("kefac", ["kfac", "ekfac"]) == " Did you mean 'ekfac'?"  # letters swapped
    assert did_you_mean(None, ["a"]) == did_you_mean("sex", [0, 1]) == ""
