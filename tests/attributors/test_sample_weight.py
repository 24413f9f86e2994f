"""sample_weight: the objective is that of the fit, for scores, retraining and every tool.

References: Newton steps in numpy, refits with weights by scikit-learn.
"""

import warnings
from inspect import signature

import numpy as np
import pytest
import sklearn
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.fixes import parse_version
from skorch import NeuralNetRegressor

from influencekit import (
    TRAK,
    FurtherTraining,
    GradDot,
    InfluenceFunction,
    LDSSearch,
    SensitivityStudy,
    SurrogateLambdaSearchCV,
    as_task,
    retrain_on_subsets,
)
from influencekit.applications import (
    DatasetPruner,
    NoisyLabelDetector,
    group_counterfactual,
    removal_curve,
)
from influencekit.exceptions import NotStationaryWarning
from influencekit.groups import GroupAttributor, leave_group_out

OLD = parse_version(sklearn.__version__) < parse_version("1.7")
RNG = np.random.default_rng(0)
N = 120
X = RNG.normal(size=(N, 4)) + [0, 1, 0, 5]
T = X @ [1, 2, 3, 0] + 2 * RNG.normal(size=N)
Y = (X[:, 0] + RNG.logistic(size=N) > 0).astype(int)
W = RNG.uniform(0.2, 5, N)
NEWTON = {"solver": "newton-cholesky", "tol": 1e-10, "max_iter": 500}

MODELS = {
    "least squares": (LinearRegression(), T),
    "ridge": (Ridge(3.0), T),
    "logistic": (LogisticRegression(C=0.5, **NEWTON), Y),
    "balanced": (LogisticRegression(class_weight="balanced", **NEWTON), Y),
    "class weights": (LogisticRegression(class_weight={0: 1, 1: 7}, **NEWTON), Y),
    "three classes": (LogisticRegression(**NEWTON), Y + (X[:, 1] > 1.5)),
    "liblinear": (LogisticRegression(solver="liblinear", tol=1e-10), Y),
}


def output(model, Q, u):
    if hasattr(model, "classes_"):
        return model.predict_log_proba(Q)[np.arange(len(u)), u]
    return model.predict(Q)


@pytest.mark.parametrize("case", MODELS)
def test_objective_and_scores_are_those_of_the_weighted_fit(case):
    """The weighted gradient vanishes, and scores predict refits without a row."""
    model, y = MODELS[case]
    model = sklearn.clone(model).fit(X, y, sample_weight=W)
    what = "prediction" if y is T else "auto"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = InfluenceFunction(output=what).fit(model, X, y, sample_weight=W)
    assert fitted.gradient_ratio_ < 1e-3
    rows = np.arange(0, N, 8)
    effects = [
        output(model, X, y)
        - output(
            sklearn.clone(model).fit(
                np.delete(X, j, 0), np.delete(y, j), sample_weight=np.delete(W, j)
            ),
            X,
            y,
        )
        for j in rows
    ]
    scores = fitted.score(X, y)[:, rows]
    pairs = zip(scores, np.transpose(effects), strict=True)
    least = 0.85 if case == "balanced" else 0.98  # a refit balances its rows anew
    assert np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]) > least


def test_weights_in_whole_numbers_are_repeated_rows():
    counts = RNG.integers(0, 4, N)
    repeated = np.repeat(np.arange(N), counts)
    counted = "sample_weight" in signature(compute_class_weight).parameters
    cases = ["ridge", "logistic"] + ["balanced"] * counted  # else classes are not those repeated
    for model, y in (MODELS[case] for case in cases):
        weighted = sklearn.clone(model).fit(X, y, sample_weight=counts)
        plain = sklearn.clone(model).fit(X[repeated], y[repeated])
        found = InfluenceFunction().fit(weighted, X, y, sample_weight=counts).score(X[:9], y[:9])
        each = InfluenceFunction().fit(plain, X[repeated], y[repeated]).score(X[:9], y[:9])
        sums = np.stack([each[:, repeated == j].sum(1) for j in range(N)], 1)
        np.testing.assert_allclose(found, sums, rtol=1e-5, atol=1e-7 * np.abs(sums).max())


ATTRIBUTORS = {
    "fisher": InfluenceFunction("fisher"),
    "cg": InfluenceFunction("cg", damping=1e-3),
    "ekfac": InfluenceFunction("ekfac", damping=1e-3),
    "grad dot": GradDot(),
    "trak": TRAK(damping=1e-2),
    "groups": GroupAttributor(GradDot()),
    "group fisher": GroupAttributor(InfluenceFunction("fisher", 0.1), curvature="groups"),
    "search": SurrogateLambdaSearchCV(InfluenceFunction("fisher"), random_state=0),
}


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.InfluenceKitWarning")
@pytest.mark.parametrize("name", ATTRIBUTORS)
def test_every_attributor_takes_weights(name):
    """Weights of 2 are rows given twice; a row of weight 0 has no score."""
    attributor = sklearn.clone(ATTRIBUTORS[name])
    counts = np.r_[0, 2, np.ones(N - 2)]
    rows = np.r_[1, np.arange(1, N)]
    model = LogisticRegression(**NEWTON).fit(X[rows], Y[rows])
    found = attributor.fit(model, X, Y, sample_weight=counts).score(X[:9], Y[:9])
    assert np.abs(found[:, 0]).max() == 0
    assert np.abs(found[:, 1:]).max() > 0
    if name in ("search", "group fisher"):
        return
    each = sklearn.clone(attributor).fit(model, X[rows], Y[rows]).score(X[:9], Y[:9])
    first = each[:, :2].sum(1, keepdims=True)
    expected = np.c_[np.zeros(9), first, each[:, 2:]]
    scale = (found[:, 1] / expected[:, 1])[0] if name in ("grad dot", "trak", "groups") else 1.0
    np.testing.assert_allclose(found, scale * expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("model", [SGDClassifier(loss="log_loss", alpha=0.1), SGDRegressor()])
def test_sgd_divides_by_the_number_of_rows(model):
    """Far on, SGD is where the gradient of (1/n) Σ w loss + α/2 |θ|² vanishes."""
    y = Y if hasattr(model, "classes_") or isinstance(model, SGDClassifier) else (T - T.mean()) / 5
    Z = StandardScaler().fit_transform(X)
    model.set_params(
        alpha=0.1, max_iter=3000, tol=None, learning_rate="invscaling", eta0=0.02, random_state=0
    )
    model.fit(Z, y, sample_weight=W)
    ratio = InfluenceFunction(damping=0).fit(model, Z, y, sample_weight=W).gradient_ratio_
    assert ratio < 0.02


@pytest.mark.skipif(OLD, reason="scikit-learn's MLPs take sample_weight from 1.7 on")
@pytest.mark.filterwarnings("ignore")
def test_mlp_with_lbfgs():
    net = MLPRegressor(
        activation="tanh",
        hidden_layer_sizes=(4,),
        solver="lbfgs",
        alpha=1.0,
        tol=1e-9,
        max_iter=5000,
        random_state=0,
    )
    Z, t = StandardScaler().fit_transform(X), T / 5
    net.fit(Z, t, sample_weight=W)
    assert InfluenceFunction().fit(net, Z, t, sample_weight=W).gradient_ratio_ < 1e-3
    assert InfluenceFunction().fit(net, Z, t).gradient_ratio_ > 1e-2


def test_a_torch_module_trained_with_weights():
    torch.manual_seed(0)
    A, t, w = (torch.as_tensor(a) for a in (X, T[:, None] / 5, W))
    net = torch.nn.Linear(4, 1).double()
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=500, tolerance_grad=1e-12)

    def loss():
        optimizer.zero_grad()
        value = (w * (net(A) - t)[:, 0] ** 2).sum() / w.sum()
        value.backward()
        return value

    optimizer.step(loss)
    task = as_task(net, loss=torch.nn.MSELoss())
    assert InfluenceFunction(damping=0).fit(task, A, t, sample_weight=w).gradient_ratio_ < 1e-4


CONTAINERS = {"list": list, "tensor": torch.as_tensor, "integers": lambda w: np.ceil(w).astype(int)}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_kinds_of_weights(kind):
    weights = CONTAINERS[kind](W)
    numbers = np.asarray(weights, dtype=float)
    model = Ridge().fit(X, T, sample_weight=numbers)
    a = GradDot().fit(model, X, T, sample_weight=weights).score(X[:3], T[:3])
    b = GradDot().fit(model, X, T, sample_weight=numbers).score(X[:3], T[:3])
    np.testing.assert_array_equal(a, b)


BAD = {
    "short": W[:-1],
    "column": W[:, None],
    "negative": -W,
    "nan": np.where(W > 4, np.nan, W),
    "zero": 0 * W,
    "text": ["a"] * N,
}


@pytest.mark.parametrize("kind", BAD)
def test_other_weights_are_refused(kind):
    with pytest.raises(
        ValueError, match=r"sample_weight: got .* one finite number for each, not negative"
    ):
        GradDot().fit(Ridge().fit(X, T), X, T, sample_weight=BAD[kind])
    with pytest.raises(ValueError, match="sample_weight: got"):
        retrain_on_subsets(Ridge(), X, T, X, T, n_subsets=2, sample_weight=BAD[kind])


@pytest.mark.parametrize("routed", [False, True])
@pytest.mark.parametrize("refit", [False, True])
def test_retraining_on_all_rows_gives_the_weighted_model(routed, refit):
    with sklearn.config_context(enable_metadata_routing=routed):
        last = LogisticRegression(**NEWTON)
        scaler = StandardScaler()
        if routed:
            last.set_fit_request(sample_weight=True)
            scaler.set_fit_request(sample_weight=False)
        name = "sample_weight" if routed else "logisticregression__sample_weight"
        model = make_pipeline(scaler, last).fit(X, Y, **{name: W})
        truth = retrain_on_subsets(
            model,
            X,
            Y,
            X,
            Y,
            masks=np.ones((1, N), bool),
            sample_weight=W,
            refit_transformers=refit,
            random_state=0,
        )
    np.testing.assert_allclose(truth.outputs[0, 0], output(model, X, Y), atol=1e-8)


def test_retraining_takes_the_weights_of_its_rows():
    masks = RNG.random((3, N)) < 0.5
    truth = retrain_on_subsets(
        Ridge(2.0), X, T, X, T, masks=masks, output="prediction", sample_weight=W, random_state=0
    )
    for mask, found in zip(masks, truth.outputs[:, 0], strict=True):
        expected = Ridge(2.0).fit(X[mask], T[mask], sample_weight=W[mask]).predict(X)
        np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_the_cache_knows_weights(tmp_path):
    def run(weights):
        return retrain_on_subsets(
            Ridge(), X, T, X, T, n_subsets=3, sample_weight=weights, cache_dir=tmp_path,
            random_state=0, output="prediction",
        ).outputs  # fmt: skip

    first, other = run(W), run(None)
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_array_equal(run(W), first)


def test_models_that_take_no_weights_are_refused():
    with pytest.raises(
        ValueError,
        match=r"sample_weight: KNeighborsClassifier.fit does not "
        r"accept it",
    ):
        NoisyLabelDetector(KNeighborsClassifier()).fit(X, Y, sample_weight=W)
    with pytest.raises(ValueError, match="training function, retrain="):
        retrain_on_subsets(
            None, X, T, X, T, n_subsets=2, sample_weight=W, retrain=lambda a, b, seed: None
        )


def test_lds_and_search_of_a_weighted_model():
    model = Ridge(1.0).fit(X[:100], T[:100], sample_weight=W[:100])
    search = LDSSearch(InfluenceFunction(output="prediction"), n_trials=4, n_subsets=20)
    search.set_params(random_state=0)
    search.fit(model, X[:100], T[:100], X_query=X[100:], y_query=T[100:], sample_weight=W[:100])
    assert search.best_score_ > 0.9
    mask = search.subset_outputs_.masks[0]
    refit = Ridge(1.0).fit(X[:100][mask], T[:100][mask], sample_weight=W[:100][mask])
    np.testing.assert_allclose(search.subset_outputs_.outputs[0, 0], refit.predict(X[100:]))


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
def test_a_study_of_a_weighted_model(tmp_path):
    """Each cell is the LDS of scores of a weighted fit; a cached one is of the same weights."""
    model = Ridge(1.0).fit(X[:100], T[:100], sample_weight=W[:100])
    data = X[:100], T[:100], X[100:], T[100:]
    truth = retrain_on_subsets(
        model, *data, n_subsets=12, output="prediction", sample_weight=W[:100], random_state=0
    )
    attributor = InfluenceFunction(output="prediction")
    grid = attributor, {"damping": [0, 1.0]}
    study = SensitivityStudy(grid, correlation="pearson", cache_dir=tmp_path, random_state=0)
    for weights in (W[:100], np.ones(100)):
        study.fit(model, *data, subset_outputs=truth, sample_weight=weights)
        for damping, found in zip([0, 1.0], study.per_query_, strict=True):
            own = InfluenceFunction(damping=damping, output="prediction")
            scores = own.fit(model, X[:100], T[:100], sample_weight=weights).score(X[100:])
            sums = scores @ truth.masks.T
            outputs = truth.outputs.mean(axis=1).T
            expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(sums, outputs, strict=True)]
            np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_groups_of_weighted_rows():
    groups = np.where(X[:, 1] > 1, "a", "b")
    model = Ridge(1.0).fit(X, T, sample_weight=W)
    of_rows = InfluenceFunction(output="prediction").fit(model, X, T, sample_weight=W).score(X)
    grouped = GroupAttributor(InfluenceFunction(output="prediction"))
    found = grouped.fit(model, X, T, groups, sample_weight=W).score(X)
    expected = np.stack([of_rows[:, groups == g].sum(1) for g in "ab"], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    truth = leave_group_out(
        model, X, T, X, T, groups, n_repeats=1, output="prediction", sample_weight=W
    )
    own = groups != "a"
    refit = Ridge(1.0).fit(X[own], T[own], sample_weight=W[own]).predict(X)
    np.testing.assert_allclose(truth.scores[:, 0], model.predict(X) - refit, rtol=1e-8)


def test_applications_hand_the_weights_on():
    model = LogisticRegression(**NEWTON).fit(X, Y, sample_weight=W)
    curve = removal_curve(
        model, X, Y, X, Y, np.arange(N) * 1.0, output="neg_loss", n_repeats=1, sample_weight=W
    )
    assert curve.nothing[0] == pytest.approx(output(model, X, Y).mean(), abs=1e-8)
    people = np.where(X[:, 1] > 1, "a", "b")
    found = group_counterfactual(
        model, X, Y, X, Y, people, sensitive=people, threshold=None, n_repeats=1, sample_weight=W
    )
    p = model.predict_proba(X)[:, 1]
    gap = abs(p[people == "a"].mean() - p[people == "b"].mean())
    assert found.full[0] == pytest.approx(gap, abs=1e-8)
    detector = NoisyLabelDetector(LogisticRegression(**NEWTON), method="loss")
    scores = detector.fit(X, Y, sample_weight=W).label_scores_
    np.testing.assert_allclose(scores, -output(model, X, Y), rtol=1e-6)
    pruner = DatasetPruner(LogisticRegression(**NEWTON), InfluenceFunction(), random_state=0)
    plain = pruner.fit(X, Y).values_
    assert np.abs(pruner.fit(X, Y, sample_weight=W).values_ - plain).max() > 1e-4
    np.testing.assert_allclose(pruner.fit(X, Y, sample_weight=np.ones(N)).values_, plain)


class TestWarnings:
    def test_weights_that_were_not_given(self):
        model = Ridge().fit(X, T, sample_weight=W)
        with pytest.warns(NotStationaryWarning, match="give fit the same sample_weight"):
            InfluenceFunction().fit(model, X, T)

    def test_other_rows(self):
        model = LogisticRegression(**NEWTON).fit(X, Y)
        with pytest.warns(NotStationaryWarning, match="rows other than those given"):
            InfluenceFunction().fit(model, X[:60], Y[:60])

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_a_solver_that_stopped_early(self):
        model = LogisticRegression(max_iter=3).fit(X, Y)
        with pytest.warns(NotStationaryWarning, match="stopped early, after max_iter=3"):
            InfluenceFunction().fit(model, X, Y)

    def test_a_converged_solver_is_not_warned_of(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            InfluenceFunction().fit(LogisticRegression().fit(X, Y), X, Y)
            InfluenceFunction().fit(LinearRegression().fit(X, T), X, T)

    @pytest.mark.parametrize("n", [300, 600])
    def test_a_default_fit_that_met_its_tolerance_is_not_warned_of(self, n):
        X, y = (values[:n] for values in load_digits(return_X_y=True))
        model = LogisticRegression().fit(X, y)
        assert model.n_iter_ < model.max_iter
        assert InfluenceFunction().fit(model, X, y).gradient_ratio_ > 5e-3

    def test_but_weights_are_on_the_same_table(self):
        X, y = (values[:300] for values in load_digits(return_X_y=True))
        weights = np.random.default_rng(0).uniform(0.7, 1.3, 300)
        model = LogisticRegression(max_iter=3000).fit(X, y, sample_weight=weights)
        with pytest.warns(NotStationaryWarning, match="fitted with weights"):
            assert InfluenceFunction().fit(model, X, y).gradient_ratio_ < 0.02

    def test_a_tolerance_that_is_far_too_loose(self):
        X, y = (values[:300] for values in load_digits(return_X_y=True))
        model = LogisticRegression(tol=1e-2).fit(X, y)
        with pytest.warns(NotStationaryWarning, match="tol=0.01, is met, but it is loose"):
            InfluenceFunction().fit(model, X, y)

    def test_rounding_of_a_fit_in_float32(self):
        X, y = load_diabetes(return_X_y=True)
        X = (X + 1000 * np.arange(10)).astype(np.float32)
        with pytest.warns(NotStationaryWarning, match="fitted in float32"):
            InfluenceFunction().fit(LinearRegression().fit(X, y), X, y)

    def test_never_of_sgd(self):
        model = SGDClassifier(loss="log_loss", random_state=0).fit(X, Y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = InfluenceFunction().fit(model, X, Y).gradient_ratio_
        assert 5e-3 < found < 0.2


def test_further_training_weighs_rows():
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 1).double()
    task = as_task(net, loss=torch.nn.MSELoss())
    data = torch.as_tensor(X), torch.as_tensor(T[:, None])
    further = FurtherTraining(optimizer="sgd", lr=1e-3, n_steps=5, random_state=0)
    plain = sklearn.clone(further).fit(task, *data).score(*data)
    weights = np.r_[0.0, np.ones(N - 1)]
    weighted = sklearn.clone(further).fit(task, *data, sample_weight=weights).score(*data)
    assert np.abs(weighted[:, 0]).max() < 1e-9 * np.abs(plain).max()
    assert np.abs(weighted[:, 1:]).max() > 0


class Weighted(NeuralNetRegressor):
    """A net whose loss reads weights from its dict of inputs."""

    def get_loss(self, y_pred, y_true, X=None, training=False):
        losses = super().get_loss(y_pred, y_true, X, training)
        return (losses[:, 0] * X["sample_weight"]).sum() / X["sample_weight"].sum()


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(4, 1).double()

    def forward(self, X, sample_weight):
        return self.line(X)


def test_a_net_with_weights_in_its_dict_of_inputs():
    Z, t = StandardScaler().fit_transform(X), (T - T.mean())[:, None] / 5
    inputs = {"X": Z, "sample_weight": W}
    net = Weighted(
        Line,
        criterion=torch.nn.MSELoss,
        criterion__reduction="none",
        optimizer=torch.optim.LBFGS,
        lr=1.0,
        max_epochs=60,
        batch_size=-1,
        train_split=None,
        verbose=0,
    ).fit(inputs, t)
    task = as_task(net, loss=torch.nn.MSELoss())
    attributor = InfluenceFunction(damping=0, output="prediction")
    found = attributor.fit(task, inputs, t, sample_weight=W).score(inputs, t)
    assert attributor.gradient_ratio_ < 1e-3
    model = LinearRegression().fit(Z, t[:, 0], sample_weight=W)
    expected = InfluenceFunction(output="prediction").fit(model, Z, t[:, 0], sample_weight=W)
    np.testing.assert_allclose(found, expected.score(Z), rtol=1e-2, atol=1e-3 * np.abs(found).max())
