"""Models that hold other models: the references are the models inside, and refits."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import RandomForestClassifier, VotingClassifier, VotingRegressor
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.linear_model import (
    HuberRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    StratifiedKFold,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PowerTransformer, StandardScaler
from sklearn.svm import LinearSVC

from influencekit import GradDot, InfluenceFunction, as_task
from influencekit.exceptions import UnsupportedModelError
from influencekit.models._predict import predict, predict_proba
from tests.models._objective import assert_stationary

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3)) + [0, 2, -1]
ETA = 0.6 * X @ [1.0, -1, 0.5] + 0.4
VALUES = 3 * ETA + RNG.normal(size=120)
COUNTS = RNG.poisson(np.exp(ETA / 2)).astype(float)
TWO = (ETA + 0.5 * RNG.logistic(size=120) > ETA.mean()).astype(int)
THREE = np.digitize(ETA + 0.5 * RNG.normal(size=120), np.quantile(ETA, [0.33, 0.66]))
NAMES = np.array(["ape", "bee", "cat"])
ROWS = list(range(0, 120, 12))


def logistic(C=1.0, **options):
    return LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, **options)


def without(model, y, read):
    """Change of what ``read`` gives for nine rows, by leaving out each of ten."""
    own = read(model)
    return np.stack(
        [own - read(clone(model).fit(np.delete(X, j, 0), np.delete(y, j, 0))) for j in ROWS], axis=1
    )


def agreement(scores, effects):
    return np.corrcoef(np.ravel(scores[:, ROWS]), np.ravel(effects))[0, 1]


@pytest.mark.parametrize("labels", [THREE, NAMES[THREE]])
@pytest.mark.parametrize(
    "base",
    [
        logistic(),
        logistic(class_weight={0: 1.0, 1: 3.0}),
        LinearSVC(dual=False, tol=1e-12),
        make_pipeline(StandardScaler(), logistic()),
    ],
)
def test_one_versus_rest_is_the_sum_of_its_problems(base, labels):
    model = OneVsRestClassifier(base).fit(X, labels)
    task = as_task(model)
    np.testing.assert_array_equal(predict(task, X), model.predict(X))
    found = InfluenceFunction(output=lambda out, t: (out * t).sum(1)).fit(model, X, labels)
    expected = 0
    for k, name in enumerate(model.classes_):
        own = InfluenceFunction(damping=0.0, output=lambda out, t: out[:, 0])
        own = own.fit(model.estimators_[k], X, (labels == name).astype(int)).score(X[:9])
        expected = expected + own * (labels[:9] == name)[:, None]
    np.testing.assert_allclose(found.score(X[:9], labels[:9]), expected, rtol=1e-7, atol=1e-12)


def test_one_versus_rest_beside_refits():
    model = OneVsRestClassifier(logistic()).fit(X, THREE)
    task = as_task(model)
    assert_stationary(task, X, THREE)
    np.testing.assert_allclose(predict_proba(task, X), model.predict_proba(X), atol=1e-10)
    scores = InfluenceFunction(output="margin").fit(model, X, THREE).score(X[:9], THREE[:9])
    effects = without(model, THREE, lambda m: m.decision_function(X[:9])[np.arange(9), THREE[:9]])
    assert agreement(scores, effects) > 0.98


def test_multi_output_regressor():
    Y = np.c_[VALUES, ETA**2]
    model = MultiOutputRegressor(Ridge(2.0)).fit(X, Y)
    found = InfluenceFunction().fit(model, X, Y).score(X[:9], Y[:9])
    alone = InfluenceFunction().fit(Ridge(2.0).fit(X, Y), X, Y).score(X[:9], Y[:9])
    np.testing.assert_allclose(found, alone, rtol=1e-9)
    np.testing.assert_allclose(predict(as_task(model), X), model.predict(X))
    effects = without(model, Y, lambda m: -np.square(m.predict(X[:9]) - Y[:9]).sum(1))
    assert agreement(found, effects) > 0.98


def test_multi_output_classifier():
    Y = np.c_[TWO, THREE > 0].astype(int)
    model = MultiOutputClassifier(logistic()).fit(X, Y)
    found = InfluenceFunction().fit(model, X, Y).score(X[:9], Y[:9])
    expected = sum(
        InfluenceFunction().fit(model.estimators_[k], X, Y[:, k]).score(X[:9], Y[:9, k])
        for k in range(2)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(predict(as_task(model), X), model.predict(X))
    with pytest.raises(UnsupportedModelError, match="accepted are 0 and 1"):
        as_task(MultiOutputClassifier(logistic()).fit(X, Y + 1))


@pytest.mark.parametrize("weights", [None, [1, 3]])
@pytest.mark.parametrize("steps", [False, True])
def test_vote_of_regressors(weights, steps):
    first = make_pipeline(MinMaxScaler(), Ridge(2.0)) if steps else Ridge(2.0)
    parts = [("a", first), ("b", LinearRegression()), ("c", "drop")]
    model = VotingRegressor(parts, weights=weights and [*weights, 1]).fit(X, VALUES)
    found = InfluenceFunction(output="prediction").fit(model, X, VALUES).score(X[:9])
    shares = [0.5, 0.5] if weights is None else [0.25, 0.75]
    expected = sum(
        share * InfluenceFunction(output="prediction").fit(one, X, VALUES).score(X[:9])
        for share, one in zip(shares, model.estimators_, strict=True)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(predict(as_task(model), X), model.predict(X))
    losses = InfluenceFunction().fit(model, X, VALUES).score(X[:9], VALUES[:9])
    effects = without(model, VALUES, lambda m: -np.square(m.predict(X[:9]) - VALUES[:9]))
    assert agreement(losses, effects) > 0.95


@pytest.mark.parametrize("labels", [TWO, THREE, NAMES[THREE]])
def test_soft_vote_of_classifiers(labels):
    parts = [("a", logistic(0.1, class_weight={0: 2.0})), ("b", logistic(10.0))]
    if labels is not TWO:
        parts = [
            (name, one.set_params(solver="newton-cg", class_weight=None)) for name, one in parts
        ]
    model = VotingClassifier(parts, voting="soft", weights=[1, 2])
    if labels.dtype.kind == "U":
        model.set_params(a__class_weight=None)
    model.fit(X, labels)
    task = as_task(model)
    np.testing.assert_allclose(predict_proba(task, X), model.predict_proba(X), atol=1e-10)
    np.testing.assert_array_equal(predict(task, X), model.predict(X))
    scores = InfluenceFunction().fit(model, X, labels).score(X[:9], labels[:9])
    own = np.searchsorted(model.classes_, labels[:9])
    effects = without(model, labels, lambda m: np.log(m.predict_proba(X[:9])[np.arange(9), own]))
    assert agreement(scores, effects) > 0.97


def test_hard_votes_have_no_gradient_and_advise_soft_ones():
    model = VotingClassifier([("a", logistic()), ("b", logistic(0.1))]).fit(X, TWO)
    with pytest.raises(UnsupportedModelError, match="voting='soft'"):
        as_task(model)
    scores = InfluenceFunction().fit(model.set_params(voting="soft"), X, TWO).score(X[:3], TWO[:3])
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("voting", ["soft", "hard"])
def test_models_that_hold_unknown_models_are_not_known(voting):
    forest = RandomForestClassifier(5)
    for model in (
        VotingClassifier([("a", forest)], voting=voting),
        OneVsRestClassifier(forest),
        CalibratedClassifierCV(forest),
        FixedThresholdClassifier(forest),
    ):
        for one in (model, clone(model).fit(X, TWO)):
            with pytest.raises(UnsupportedModelError):
                as_task(one)


TARGETS = {
    "log": TransformedTargetRegressor(Ridge(1.0), func=np.log1p, inverse_func=np.expm1),
    "power": TransformedTargetRegressor(Ridge(1.0), transformer=PowerTransformer()),
    "default": TransformedTargetRegressor(transformer=StandardScaler()),
}


@pytest.mark.parametrize("name", TARGETS)
def test_transformed_targets(name):
    model = clone(TARGETS[name]).fit(X, COUNTS)
    influence = InfluenceFunction(output="prediction").fit(model, X, COUNTS)
    np.testing.assert_allclose(predict(influence.task_, X), model.predict(X), rtol=1e-9)
    found = influence.score(X[:9])
    # the regressor inside, times the slope of the inverse
    inner = model.regressor_
    seen = model.transformer_.transform(COUNTS[:, None])[:, 0]
    alone = InfluenceFunction(output="prediction").fit(inner, X, seen).score(X[:9])
    z, h = inner.predict(X[:9])[:, None], 1e-5
    inverse = model.transformer_.inverse_transform
    slope = (inverse(z + h) - inverse(z - h)) / (2 * h)
    np.testing.assert_allclose(found, slope * alone, rtol=1e-5, atol=1e-9)
    effects = without(model, COUNTS, lambda m: m.predict(X[:9]))
    assert agreement(found, effects) > (0.9 if name == "power" else 0.97)
    losses = InfluenceFunction().fit(model, X, COUNTS).score(X[:9], COUNTS[:9])
    plain = InfluenceFunction().fit(inner, X, seen).score(X[:9], seen[:9])
    np.testing.assert_allclose(losses, plain, rtol=1e-9)


def test_transformed_targets_of_huber_are_refused_with_the_way_out():
    model = TransformedTargetRegressor(HuberRegressor(), func=np.log1p, inverse_func=np.expm1)
    with pytest.raises(UnsupportedModelError, match="regressor_"):
        as_task(model.fit(X, COUNTS))


@pytest.mark.parametrize(
    "options",
    [{"threshold": 0.2}, {"threshold": 0.8, "pos_label": 0}, {}, {"threshold": -0.3}],
)
def test_thresholds_change_labels_only(options):
    inner = LinearSVC(dual=False) if options.get("threshold", 0) < 0 else logistic()
    model = FixedThresholdClassifier(inner, **options).fit(X, TWO)
    task = as_task(model)
    np.testing.assert_array_equal(predict(task, X), model.predict(X))
    found = InfluenceFunction().fit(model, X, TWO).score(X[:9], TWO[:9])
    alone = InfluenceFunction().fit(model.estimator_, X, TWO).score(X[:9], TWO[:9])
    np.testing.assert_array_equal(found, alone)


def test_a_tuned_threshold():
    model = TunedThresholdClassifierCV(logistic()).fit(X, TWO)
    np.testing.assert_array_equal(predict(as_task(model), X), model.predict(X))
    assert model.best_threshold_ != 0.5


@pytest.mark.parametrize("cv", [3, StratifiedKFold(4, shuffle=True, random_state=1)])
@pytest.mark.parametrize("steps", [False, True])
def test_calibrated_classifiers_are_an_ensemble(cv, steps):
    model = CalibratedClassifierCV(logistic(), cv=cv)
    model = (make_pipeline(StandardScaler(), model) if steps else model).fit(X, TWO)
    last = model[-1] if steps else model
    seen = model[0].transform(X) if steps else X
    folds = StratifiedKFold(cv) if isinstance(cv, int) else cv
    expected = 0
    for (train, _), one in zip(folds.split(seen, TWO), last.calibrated_classifiers_, strict=True):
        own = InfluenceFunction(output="margin").fit(one.estimator, seen[train], TWO[train])
        full = np.zeros((9, len(X)))
        full[:, train] = own.score(seen[:9], TWO[:9])
        expected = expected + full / len(last.calibrated_classifiers_)
    found = InfluenceFunction(output="margin").fit(model, X, TWO)
    np.testing.assert_allclose(found.score(X[:9], TWO[:9]), expected, rtol=1e-7, atol=1e-12)
    assert len(found.fitted_) == len(last.calibrated_classifiers_)
    assert len(found.train_rows_) == len(X)


def test_calibrated_classifiers_that_are_one_and_folds_that_are_unknown():
    model = CalibratedClassifierCV(logistic(), ensemble=False).fit(X, TWO)
    found = GradDot().fit(model, X, TWO).score(X[:9], TWO[:9])
    alone = GradDot().fit(logistic().fit(X, TWO), X, TWO).score(X[:9], TWO[:9])
    np.testing.assert_allclose(found, alone)
    several = CalibratedClassifierCV(logistic(), cv=3).fit(X, TWO)
    with pytest.raises(UnsupportedModelError, match="ensemble=False"):
        as_task(several)
    drawn = CalibratedClassifierCV(logistic(), cv=StratifiedKFold(3, shuffle=True)).fit(X, TWO)
    with pytest.raises(UnsupportedModelError, match="without an integer seed"):
        GradDot().fit(drawn, X, TWO)


@pytest.mark.parametrize(
    "step", [RFE(logistic(), n_features_to_select=2), SelectFromModel(logistic())]
)
def test_selecting_steps(step):
    model = make_pipeline(step, logistic()).fit(X, TWO)
    found = InfluenceFunction().fit(model, X, TWO).score(X[:9], TWO[:9])
    inner = InfluenceFunction().fit(model[-1], model[0].transform(X), TWO)
    np.testing.assert_allclose(found, inner.score(model[0].transform(X[:9]), TWO[:9]))


def test_recursive_elimination_as_the_model_itself():
    model = RFE(PoissonRegressor(alpha=0.0), n_features_to_select=2).fit(X, COUNTS)
    np.testing.assert_allclose(predict(as_task(model), X), model.predict(X))
    kept = X[:, model.support_]
    found = InfluenceFunction().fit(model, X, COUNTS).score(X[:9], COUNTS[:9])
    inner = InfluenceFunction().fit(model.estimator_, kept, COUNTS)
    np.testing.assert_allclose(found, inner.score(kept[:9], COUNTS[:9]))
