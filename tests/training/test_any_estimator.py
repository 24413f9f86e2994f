"""Models without gradients, trained again: each against plain scikit-learn, cloned and fitted."""

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Lasso, LogisticRegression, Perceptron, Ridge, SGDClassifier
from sklearn.metrics import hinge_loss
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.fixes import parse_version

from influencekit import retrain_on_subsets

#: scikit-learn 1.8 says with l1_ratio alone what penalty said before.
NEW = parse_version(sklearn.__version__) >= parse_version("1.8")
L1 = {"l1_ratio": 1} if NEW else {"penalty": "l1"}

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 4))
Y = (X[:, 0] + 0.5 * rng.normal(size=60) > 0).astype(int)
Y3 = np.array(["low", "middle", "top"])[Y + (X[:, 1] > 0.5)]
VALUES = X[:, 0] ** 2 + X[:, 1]
QUERY = slice(40, 60)
TRAIN = slice(0, 40)
EPS = np.finfo(float).eps


def retrain(model, y=Y, **options):
    sizes = {} if "masks" in options else {"n_subsets": 2, "subset_fraction": 0.7}
    settings = {**sizes, "random_state": 0}
    return retrain_on_subsets(model, X[TRAIN], y[TRAIN], X[QUERY], y[QUERY], **settings | options)


def seeded(model, seed):
    """A clone all of whose random states are the seed."""
    copy = clone(model)
    names = [n for n in copy.get_params() if n.rsplit("__", 1)[-1] == "random_state"]
    return copy.set_params(**dict.fromkeys(names, int(seed)))


def by_hand(model, truth, say, y=Y):
    """``say(fitted)`` of each subset and seed, (n_subsets, n_repeats, n_query)."""
    return np.array(
        [
            [say(seeded(model, seed).fit(X[TRAIN][m], y[TRAIN][m])) for seed in seeds]
            for m, seeds in zip(truth.masks, truth.seeds, strict=True)
        ]
    )


def own_probability(fitted, y=Y):
    """Probability of each query's label, 0 for one that was never seen."""
    proba, found = fitted.predict_proba(X[QUERY]), np.zeros(20)
    for i, label in enumerate(y[QUERY]):
        at = np.flatnonzero(fitted.classes_ == label)
        found[i] = proba[i, at[0]] if len(at) else 0.0
    return found


CLASSIFIERS = [
    (RandomForestClassifier(7, max_depth=3), 0.5 / 7),
    (ExtraTreesClassifier(5), 0.1),
    (DecisionTreeClassifier(), 0.5),
    (KNeighborsClassifier(4), 0.125),
    (BaggingClassifier(DecisionTreeClassifier(), 6), 0.5 / 6),
    (BaggingClassifier(GaussianNB(), 3), EPS / 3),
    (GradientBoostingClassifier(n_estimators=4), EPS),
    (HistGradientBoostingClassifier(max_iter=4, min_samples_leaf=5), EPS),
    (AdaBoostClassifier(n_estimators=4), EPS),
    (GaussianNB(), EPS),
    (CalibratedClassifierCV(LinearSVC(), cv=2), EPS),
    (StackingClassifier([("tree", DecisionTreeClassifier()), ("svm", LinearSVC())], cv=2), EPS),
    (VotingClassifier([("a", GaussianNB()), ("b", LogisticRegression())], voting="soft"), EPS),
    (LogisticRegression(solver="liblinear", **L1), EPS),
]


@pytest.mark.parametrize(("model", "floor"), CLASSIFIERS, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("y", [Y, Y3], ids=["two", "three"])
def test_outputs_of_classifiers_are_their_probabilities(model, floor, y):
    if isinstance(model, LogisticRegression) and y is Y3:
        pytest.skip("liblinear is for two classes")
    n = 2 if isinstance(model, RandomForestClassifier) else 1
    truth = retrain(model, y, n_repeats=n)
    p = by_hand(model, truth, lambda fitted: own_probability(fitted, y), y)
    np.testing.assert_array_equal(truth.outputs, np.log(np.maximum(p, floor)))
    margin = retrain(model, y, n_repeats=n, output="margin").outputs
    expected = np.log(np.maximum(p, floor) / np.maximum(1 - p, floor))
    np.testing.assert_allclose(margin, expected, rtol=1e-8, atol=1e-8 if floor > 1e-9 else 1e-3)
    assert np.isfinite(truth.outputs).all() and np.isfinite(margin).all()


def test_a_class_that_a_subset_misses_has_probability_0():
    masks = np.ones((2, 40), dtype=bool)
    masks[0, Y3[TRAIN] == "middle"] = False
    truth = retrain(RandomForestClassifier(10), Y3, masks=masks)
    p = by_hand(RandomForestClassifier(10), truth, lambda fitted: own_probability(fitted, Y3), Y3)
    assert (p[0, 0, Y3[QUERY] == "middle"] == 0).all()
    np.testing.assert_array_equal(truth.outputs, np.log(np.maximum(p, 0.05)))


def test_decisions_take_the_place_of_probabilities():
    for model in (SVC(), LinearSVC(loss="hinge"), Perceptron(), SGDClassifier()):
        margin = retrain(model, output="margin")
        d = by_hand(model, margin, lambda fitted: fitted.decision_function(X[QUERY]))
        np.testing.assert_array_equal(margin.outputs, np.where(Y[QUERY] == 1, d, -d))
        hinge = retrain(model).outputs.mean(axis=2)
        losses = [hinge_loss(Y[QUERY], values) for values in d[:, 0]]
        np.testing.assert_allclose(hinge[:, 0], np.negative(losses), rtol=1e-12)


def test_decisions_of_several_classes():
    margin = retrain(SVC(), Y3, output="margin")
    d = by_hand(SVC(), margin, lambda fitted: fitted.decision_function(X[QUERY]), Y3)
    column = np.searchsorted(["low", "middle", "top"], Y3[QUERY])
    for got, values in zip(margin.outputs[:, 0], d[:, 0], strict=True):
        others = [np.delete(row, own).max() for row, own in zip(values, column, strict=True)]
        np.testing.assert_array_equal(got, values[np.arange(20), column] - others)
    losses = [hinge_loss(Y3[QUERY], v, labels=["low", "middle", "top"]) for v in d[:, 0]]
    np.testing.assert_allclose(retrain(SVC(), Y3).outputs.mean(axis=2)[:, 0], np.negative(losses))
    with pytest.raises(ValueError, match="decision_function_shape='ovr'"):
        retrain(SVC(decision_function_shape="ovo"), Y3, output="margin")
    with pytest.raises(ValueError, match="does not have rows of class 'middle'"):
        retrain(SVC(), Y3, output="margin", masks=(Y3[TRAIN] != "middle")[None])


def test_predictions_take_the_place_of_decisions():
    voting = VotingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier())])
    truth = retrain(voting)
    wrong = by_hand(voting, truth, lambda fitted: fitted.predict(X[QUERY]) != Y[QUERY])
    np.testing.assert_array_equal(truth.outputs, np.where(wrong, -1.0, 0.0))
    with pytest.raises(ValueError, match="neither probabilities nor decisions"):
        retrain(voting, output="margin")


@pytest.mark.parametrize(
    ("model", "scale"),
    [
        (RandomForestRegressor(4), 1),
        (BaggingRegressor(n_estimators=3), 1),
        (KNeighborsRegressor(3), 1),
        (Lasso(0.1), 1),
        (Ridge(positive=True), 1),
        (GradientBoostingRegressor(loss="huber", n_estimators=4), 0.5),
        (HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=5), 0.5),
    ],
    ids=lambda v: type(v).__name__,
)
def test_outputs_of_regressors(model, scale):
    truth = retrain(model, VALUES, output="prediction")
    said = by_hand(model, truth, lambda fitted: fitted.predict(X[QUERY]), VALUES)
    np.testing.assert_array_equal(truth.outputs, said)
    errors = retrain(model, VALUES).outputs
    np.testing.assert_array_equal(errors, -scale * np.square(VALUES[QUERY] - said))


def test_a_function_of_the_model():
    def first_column(model, rows, labels):
        assert len(rows) == len(labels) == 20
        return model.predict_proba(rows)[:, 0]

    for model in (RandomForestClassifier(3), GaussianNB()):
        truth = retrain(model, output=first_column)
        expected = by_hand(model, truth, lambda fitted: fitted.predict_proba(X[QUERY])[:, 0])
        np.testing.assert_array_equal(truth.outputs, expected)
    natural = retrain(RandomForestClassifier(3), output=lambda outputs, targets: outputs[:, 0])
    shares = retrain(RandomForestClassifier(3), output=first_column)
    np.testing.assert_allclose(natural.outputs, shares.outputs, atol=1e-12)
    forest = IsolationForest(n_estimators=5)  # of neither kind, and without targets
    options = {"n_subsets": 2, "random_state": 0}
    truth = retrain_on_subsets(
        forest, X, None, X[:5], output=lambda model, rows, _: model.score_samples(rows), **options
    )
    alone = seeded(forest, truth.seeds[1, 0]).fit(X[truth.masks[1]]).score_samples(X[:5])
    np.testing.assert_array_equal(truth.outputs[1, 0], alone)


def test_what_wraps_a_forest_is_unwrapped():
    expected = retrain(RandomForestClassifier(5)).outputs
    frozen = FrozenEstimator(RandomForestClassifier(5).fit(X, Y))
    search = GridSearchCV(RandomForestClassifier(), {"n_estimators": [5]}, cv=2).fit(X, Y)
    for model in (frozen, search):
        np.testing.assert_array_equal(retrain(model).outputs, expected)
    pipeline = make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(X, Y)
    truth = retrain(pipeline)
    again = retrain(pipeline, refit_transformers=True)
    p = by_hand(pipeline, again, own_probability)
    np.testing.assert_array_equal(again.outputs, np.log(np.maximum(p, 0.1)))
    scaled = pipeline[0].transform(X)
    near = KNeighborsClassifier().fit(scaled[TRAIN][truth.masks[0]], Y[TRAIN][truth.masks[0]])
    p = near.predict_proba(scaled[QUERY])[np.arange(20), Y[QUERY]]
    np.testing.assert_array_equal(truth.outputs[0, 0], np.log(np.maximum(p, 0.1)))


def test_frames_and_weights():
    frame, weights = pd.DataFrame(X, columns=list("abcd")), np.linspace(0.5, 2, 40)
    forest = RandomForestClassifier(5)
    truth = retrain_on_subsets(
        forest,
        frame[TRAIN],
        pd.Series(Y3)[TRAIN],
        frame[QUERY],
        pd.Series(Y3)[QUERY],
        sample_weight=weights,
        n_subsets=1,
        random_state=0,
    )
    m = truth.masks[0]
    alone = seeded(forest, truth.seeds[0, 0]).fit(X[TRAIN][m], Y3[TRAIN][m], weights[m])
    p = np.maximum(own_probability(alone, Y3), 0.1)
    np.testing.assert_array_equal(truth.outputs[0, 0], np.log(p))


def test_every_retraining_learns_from_all_rows():
    """Boosting that held rows out for early stopping does not while it is trained again."""
    hist = HistGradientBoostingClassifier(max_iter=5, early_stopping=True, n_iter_no_change=1)
    plain = HistGradientBoostingClassifier(max_iter=5, early_stopping=False)
    np.testing.assert_array_equal(retrain(hist).outputs, retrain(plain).outputs)
    stopped = GradientBoostingClassifier(n_estimators=5, n_iter_no_change=1)
    plain = GradientBoostingClassifier(n_estimators=5)
    np.testing.assert_array_equal(retrain(stopped).outputs, retrain(plain).outputs)


class Counted(ClassifierMixin, BaseEstimator):
    """A classifier without gradients that must not be fitted."""

    early_stopping_rounds = None

    def __init__(self, early_stopping_rounds=None):
        self.early_stopping_rounds = early_stopping_rounds

    def fit(self, X, y):
        raise AssertionError("fitted")

    def predict_proba(self, X):
        raise AssertionError("asked")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "prediction"}, "is a classifier, for which accepted are"),
        ({"output": "margn"}, "Did you mean 'margin'"),
        ({"output": lambda outputs, targets: outputs[:, 0]}, "output=lambda model, X, y"),
        ({"y": np.r_[Y[TRAIN], Y[QUERY] + 5]}, r"y_query: holds \[5, 6\]"),
        ({"model": Counted(early_stopping_rounds=3)}, "early_stopping_rounds=None, n_estimators"),
    ],
    ids=["prediction", "misspelt", "two arguments", "new label", "early stopping"],
)
def test_what_cannot_be_done_is_refused_before_training(options, message):
    with pytest.raises(ValueError, match=message):
        retrain(**{"model": Counted()} | options)


def test_queries_are_looked_at_before_training():
    with pytest.raises(ValueError, match="X_query: its rows"):
        retrain_on_subsets(Counted(), X, Y, X[:5, :2], Y[:5])
    with pytest.raises(ValueError, match="y_query: has 4 rows"):
        retrain_on_subsets(Counted(), X, Y, X[:5], Y[:4])
    with pytest.raises(ValueError, match="for one label for each example"):
        retrain_on_subsets(Counted(), X, np.stack([Y, 1 - Y], 1), X[:5], np.zeros((5, 2), int))


def test_an_output_of_another_kind_of_model_is_refused():
    with pytest.raises(ValueError, match="is a regressor, for which"):
        retrain(RandomForestRegressor(), VALUES, output="margin")
    with pytest.raises(ValueError, match="y_query: got None"):
        retrain_on_subsets(RandomForestRegressor(), X, VALUES, X[:5])
    with pytest.raises(ValueError, match="neither a classifier nor a regressor"):
        retrain_on_subsets(IsolationForest(), X, None, X[:5])
    with pytest.raises(ValueError, match="has gradients, and a function"):
        retrain(LogisticRegression(), output=lambda model, X, y: y)
    with pytest.raises(ValueError, match="one number for each example"):
        retrain(GaussianNB(), output=lambda model, X, y: model.predict_proba(X))


def test_a_subset_that_an_estimator_cannot_learn_from_is_named():
    with pytest.raises(ValueError, match=r"masks: a subset has no row of the classes \[0\]"):
        retrain(GradientBoostingClassifier(), masks=(Y[TRAIN] == 1)[None])


def test_a_training_of_ones_own_may_return_any_estimator():
    def train(rows, labels, seed):
        return RandomForestClassifier(4, random_state=seed).fit(rows, labels)

    own = retrain(None, retrain=train)
    np.testing.assert_array_equal(own.outputs, retrain(RandomForestClassifier(4)).outputs)


def test_kept_results_are_found_again(tmp_path):
    first = retrain(RandomForestClassifier(3), cache_dir=tmp_path)
    second = retrain(RandomForestClassifier(3), cache_dir=tmp_path)
    np.testing.assert_array_equal(first.outputs, second.outputs)
    assert len(list(tmp_path.rglob("*.npz"))) == 2


def test_a_bare_module_from_retrain_is_told_what_it_lacks():
    with pytest.raises(TypeError, match="loss: missing"):
        retrain_on_subsets(
            None, X, Y, X[:3], Y[:3], n_subsets=2, retrain=lambda X, y, seed: torch.nn.Linear(4, 2)
        )
