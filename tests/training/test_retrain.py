"""One function, two engines: agreement, seeds, masks, refusals."""

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping, LRScheduler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from influencekit.exceptions import UnsupportedModelError
from influencekit.training import SubsetOutputs, retrain_on_subsets
from tests.training._training_nets import (
    Dropped,
    Logits,
    log_probabilities_of_label,
    make_data,
    make_net,
    outputs_alone,
    train_alone,
)

X, Y = make_data()
X_QUERY, Y_QUERY = make_data(7)


def retrain(model, **options):
    settings = {"random_state": 0} if "masks" in options else {"n_subsets": 3, "random_state": 0}
    return retrain_on_subsets(model, X, Y, X_QUERY, Y_QUERY, **settings | options)


def assert_same(a, b, atol=1e-12):
    np.testing.assert_array_equal(a.masks, b.masks)
    np.testing.assert_array_equal(a.seeds, b.seeds)
    np.testing.assert_allclose(a.outputs, b.outputs, rtol=0, atol=atol)


def test_engines_agree_on_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), make_net(Dropped)).fit(X + 3, Y)
    both = [retrain(pipeline, engine=engine) for engine in ("stacked", "joblib")]
    assert_same(*both, atol=1e-10)
    scaled = [pipeline[:-1].transform(part) for part in (X, X_QUERY)]
    alone = outputs_alone(pipeline[-1], scaled[0], Y, scaled[1], Y_QUERY, both[0])
    np.testing.assert_allclose(both[0].outputs, alone, atol=1e-10)


@pytest.mark.parametrize("engine", ["stacked", "joblib"])
def test_data_is_cast_to_the_dtype_of_the_net(engine):
    """A net fitted on float32 arrays is retrained on the float64 array that they came from."""
    net = make_net().set_params(module__dtype=torch.float32).fit(np.float32(X), Y)
    double = retrain(net, engine=engine)
    options = {"n_subsets": 3, "random_state": 0, "engine": engine}
    single = retrain_on_subsets(net, np.float32(X), Y, np.float32(X_QUERY), Y_QUERY, **options)
    np.testing.assert_array_equal(double.outputs[:3], single.outputs)


def test_transformers_may_be_fitted_again():
    pipeline = make_pipeline(StandardScaler(), make_net())
    truth = retrain(pipeline, refit_transformers=True)  # needs no fitted Pipeline
    mask, seed = truth.masks[0], int(truth.seeds[0, 0])
    scaler = StandardScaler().fit(X[mask])
    net = train_alone(pipeline[-1], scaler.transform(X[mask]), Y[mask], seed)
    expected = log_probabilities_of_label(net, scaler.transform(X_QUERY), Y_QUERY)
    np.testing.assert_allclose(truth.outputs[0, 0], expected, atol=1e-10)


def test_what_wraps_a_net_is_unwrapped():
    net = make_net()
    expected = retrain(net)
    assert_same(retrain(FrozenEstimator(make_net().fit(X, Y))), expected)
    search = GridSearchCV(make_net(lr=7.0, train_split=None), {"lr": [0.1]}, cv=2).fit(X, Y)
    assert_same(retrain(search), expected)
    assert_same(retrain(make_pipeline(search)), expected)


@pytest.mark.parametrize("backend", [pytest.param("loky", marks=pytest.mark.slow), "threading"])
def test_joblib_backends(backend):
    net = make_net(Dropped, callbacks=[LRScheduler("StepLR", step_size=1)])
    one = retrain(net, n_subsets=4)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        assert_same(retrain(net, n_subsets=4), one)
    alone = outputs_alone(net, X, Y, X_QUERY, Y_QUERY, one)
    np.testing.assert_allclose(one.outputs, alone, atol=1e-10)


@pytest.mark.parametrize(
    ("model", "processes"), [(make_net(Dropped), False), (LogisticRegression(C=0.3), True)]
)
@pytest.mark.slow
def test_dask(model, processes):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    expected = retrain(model, engine="joblib")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=processes, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        assert_same(retrain(model, engine="joblib"), expected)


def test_sklearn_models():
    truth = retrain(LogisticRegression(C=0.3), n_repeats=2)
    for mask, outputs in zip(truth.masks, truth.outputs, strict=True):
        proba = LogisticRegression(C=0.3).fit(X[mask], Y[mask]).predict_proba(X_QUERY)
        expected = np.log(proba[np.arange(7), Y_QUERY])
        np.testing.assert_allclose(outputs, [expected, expected], atol=1e-10)


def test_a_net_inside_an_estimator_learns_from_all_rows():
    truth = retrain(CalibratedClassifierCV(make_net(), cv=2), n_subsets=2)
    alone = CalibratedClassifierCV(make_net(train_split=None), cv=2)
    for mask, seeds, outputs in zip(truth.masks, truth.seeds, truth.outputs, strict=True):
        torch.manual_seed(int(seeds[0]))
        p = clone(alone).fit(X[mask], Y[mask]).predict_proba(X_QUERY)[np.arange(7), Y_QUERY]
        np.testing.assert_allclose(outputs[0], np.log(p), atol=1e-12)


def test_seeds_reach_every_random_state():
    mlp = MLPClassifier((4,), max_iter=300, tol=0.1, early_stopping=True, warm_start=True)
    truth = retrain(make_pipeline(StandardScaler(), mlp), refit_transformers=True)
    mask, seed = truth.masks[1], int(truth.seeds[1, 0])
    alone = make_pipeline(
        StandardScaler(), MLPClassifier((4,), max_iter=300, tol=0.1, random_state=seed)
    ).fit(X[mask], Y[mask])
    expected = np.log(alone.predict_proba(X_QUERY)[np.arange(7), Y_QUERY])
    np.testing.assert_allclose(truth.outputs[1, 0], expected, atol=1e-7)


def test_threads_do_not_wait_where_seeds_are_parameters():
    mlp = MLPClassifier((4,), max_iter=300, tol=0.1)
    one = retrain(mlp, n_subsets=6)
    with joblib.parallel_config(backend="threading", n_jobs=3):
        assert_same(retrain(mlp, n_subsets=6), one)


def test_leave_one_out_of_ridge_from_masks():
    target = X @ np.arange(5.0) + np.sin(9 * X[:, 0])
    masks = np.vstack([np.ones((1, 45), bool), ~np.eye(45, dtype=bool)])
    truth = retrain_on_subsets(
        Ridge(alpha=0.5, fit_intercept=False),
        X,
        target,
        X,
        target,
        masks=masks,
        output="prediction",
        random_state=0,
    )
    hat = X @ np.linalg.solve(X.T @ X + 0.5 * np.eye(5), X.T)
    residual = target - hat @ target
    expected = (hat @ target)[None] - hat * (residual / (1 - np.diag(hat)))[:, None]
    np.testing.assert_allclose(truth.outputs[0, 0], hat @ target, atol=1e-10)
    np.testing.assert_allclose(truth.outputs[1:, 0], expected, atol=1e-10)


@pytest.mark.parametrize("with_model", [True, False])
def test_own_training_function(with_model):
    def train(X_subset, y_subset, seed):
        net = clone(make_net(Dropped)).set_params(train_split=None)
        return net.fit(X_subset, y_subset)

    model = make_net(Dropped) if with_model else None
    torch.manual_seed(1)
    before = torch.get_rng_state()
    truth = retrain(model, retrain=train)
    assert torch.equal(before, torch.get_rng_state())
    assert_same(truth, retrain(make_net(Dropped), engine="joblib"))


def test_subsets_are_reproducible_and_grow():
    few, many = retrain(LogisticRegression()), retrain(LogisticRegression(), n_subsets=5)
    np.testing.assert_array_equal(few.masks, many.masks[:3])
    np.testing.assert_array_equal(few.outputs, many.outputs[:3])
    assert (many.masks.sum(axis=1) == 22).all()
    assert not np.array_equal(few.masks, retrain(LogisticRegression(), random_state=1).masks)


def test_containers_and_labels():
    pd = pytest.importorskip("pandas")
    sparse = pytest.importorskip("scipy.sparse")
    names = np.array(["low", "mid", "top"])
    expected = retrain(LogisticRegression())
    frame = pd.DataFrame(X, columns=list("abcde"), index=np.arange(45)[::-1])
    truth = retrain_on_subsets(
        LogisticRegression(),
        frame,
        pd.Series(names[Y], index=frame.index),
        frame[:7],
        names[Y[:7]],
        n_subsets=3,
        random_state=0,
    )
    plain = retrain_on_subsets(
        LogisticRegression(),
        sparse.csr_matrix(X),
        names[Y],
        X[:7],
        names[Y[:7]],
        n_subsets=3,
        random_state=0,
    )
    np.testing.assert_allclose(plain.outputs, truth.outputs, atol=1e-5)
    np.testing.assert_array_equal(truth.masks, expected.masks)


def test_a_net_keeps_classes_that_its_subset_misses():
    order = np.argsort(Y, kind="stable")
    masks = np.zeros((2, 45), dtype=bool)
    masks[:, order[(Y == 0).sum() :]] = True  # no row of class 0
    both = [retrain(make_net(), masks=masks, engine=e) for e in ("stacked", "joblib")]
    assert_same(*both, atol=1e-10)
    alone = outputs_alone(make_net(), X, Y, X_QUERY, Y_QUERY, both[0])
    np.testing.assert_allclose(both[0].outputs, alone, atol=1e-10)
    with pytest.raises(ValueError, match=r"subset 0 \(2 in all\) does not have rows of class .*0"):
        retrain(LogisticRegression(), masks=masks)


def test_labels_of_queries_default_to_the_models_predictions():
    model = LogisticRegression().fit(X, Y)
    with_labels = retrain_on_subsets(
        model, X, Y, X_QUERY, model.predict(X_QUERY), n_subsets=2, random_state=0
    )
    without = retrain_on_subsets(model, X, Y, X_QUERY, n_subsets=2, random_state=0)
    assert_same(with_labels, without)


@pytest.mark.parametrize("output", ["margin", "logit", lambda outputs, targets: outputs[:, 1]])
def test_other_outputs(output):
    both = [retrain(make_net(), engine=e, output=output) for e in ("stacked", "joblib")]
    assert_same(*both, atol=1e-10)
    mask, seed = both[0].masks[0], int(both[0].seeds[0, 0])
    net = train_alone(make_net(), X[mask], Y[mask], seed)
    logits = net.forward(X_QUERY).double().numpy()
    own = logits[np.arange(7), Y_QUERY]
    others = logits.copy()
    others[np.arange(7), Y_QUERY] = -np.inf
    expected = {"margin": own - np.log(np.exp(others).sum(1)), "logit": own}
    expected = logits[:, 1] if callable(output) else expected[output]
    np.testing.assert_allclose(both[0].outputs[0, 0], expected, atol=1e-10)


class Interrupted(Logits):
    """Stands for Ctrl-C in the second fit, which skorch swallows."""

    steps = 0

    def forward(self, X):
        if self.training:
            Interrupted.steps += 1
            if Interrupted.steps == 8:
                raise KeyboardInterrupt
        return super().forward(X)


def test_an_interrupted_net_is_no_result():
    with pytest.raises(KeyboardInterrupt):
        retrain(make_net(Interrupted), engine="joblib")


def test_early_stopping_on_the_training_loss_is_carried():
    net = make_net(callbacks=[EarlyStopping("train_loss", patience=1, threshold=10.0)])
    truth = retrain(net, n_subsets=2)
    alone = outputs_alone(net, X, Y, X_QUERY, Y_QUERY, truth)
    np.testing.assert_allclose(truth.outputs, alone, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "fast"}, "engine: got 'fast'"),
        ({"n_subsets": 0}, "n_subsets: got 0"),
        ({"n_repeats": 1.5}, "n_repeats: got 1.5"),
        ({"subset_fraction": 1.0}, "subset_fraction: got 1.0 of 45 rows"),
        ({"masks": np.ones((2, 44), bool)}, "masks: got 44 columns for 45"),
        ({"masks": np.ones((2, 45), int)}, "masks: got dtype int64"),
        ({"masks": np.zeros((2, 45), bool)}, "masks: subset 0 is empty"),
        ({"retrain": "mine"}, "retrain: got 'mine'"),
        ({"engine": "stacked"}, "LogisticRegression is not a skorch net"),
        ({"engine": "stacked", "retrain": print}, "your own training function"),
        ({"engine": "stacked", "refit_transformers": True}, "keeps the Pipeline's fitted"),
        ({"output": "best"}, "output: got 'best'"),
        ({"cache_dir": "x", "random_state": None}, "cache_dir: with random_state=None"),
    ],
)
def test_refused_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        retrain(LogisticRegression(), **options)


def test_refused_models():
    with pytest.raises(UnsupportedModelError, match=r"torch|Linear, which cannot be retrained"):
        retrain(nn.Linear(5, 3))
    with pytest.raises(NotFittedError, match="step StandardScaler of the Pipeline is not"):
        retrain(make_pipeline(StandardScaler(), make_net()))
    with pytest.raises(NotFittedError, match="not have a best_estimator_"):
        retrain(GridSearchCV(make_net(), {"lr": [0.1]}))
    net = make_net(callbacks=[("stop", EarlyStopping())]).fit(X, Y)
    with pytest.raises(ValueError, match=r"'stop' monitors 'valid_loss'.*max_epochs=3"):
        retrain(net)
    piped = make_pipeline(StandardScaler(), net).fit(X, Y)
    with pytest.raises(ValueError, match="neuralnetclassifier__callbacks=None"):
        retrain(piped)  # set_params of the Pipeline takes this name
    with pytest.raises(ValueError, match="estimator__callbacks=None"):
        retrain(CalibratedClassifierCV(net, cv=2))
    fitted = make_net(Logits()).fit(X, Y)
    with pytest.raises(UnsupportedModelError, match="given to the net as an instance"):
        retrain(fitted)


def test_subset_outputs_are_checked_and_saved(tmp_path):
    truth = retrain(LogisticRegression(), n_repeats=2)
    path = tmp_path / "truth.npz"
    truth.save(path)
    again = SubsetOutputs.load(path)
    assert_same(truth, again, atol=0)
    assert again.output == "neg_loss" and repr(again) == repr(truth)
    np.testing.assert_allclose(again.mean_outputs(), truth.outputs.mean(axis=1))
    assert not list(tmp_path.glob("*unfinished*"))
    with pytest.raises(ValueError, match="outputs: got shape"):
        SubsetOutputs(truth.masks, truth.outputs[:, 0], truth.seeds)
    with pytest.raises(ValueError, match="seeds: got shape"):
        SubsetOutputs(truth.masks, truth.outputs, truth.seeds[:, 0])
    with pytest.raises(ValueError, match="two repeats"):
        retrain(LogisticRegression()).noise_variance()
    np.savez(tmp_path / "other.npz", a=1)
    with pytest.raises(ValueError, match=r"lacks \['masks'"):
        SubsetOutputs.load(tmp_path / "other.npz")


def test_a_progress_bar_is_shown_on_request(capsys):
    retrain(LogisticRegression(), verbose=1)
    assert "retraining: 3 of 3" in capsys.readouterr().err
    retrain(LogisticRegression())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("engine", ["stacked", "joblib"])
def test_datasets_and_loaders_stand_for_their_arrays(engine):
    net = make_net().fit(X, Y)
    pairs = TensorDataset(torch.as_tensor(X), torch.as_tensor(Y))
    queries = DataLoader(
        TensorDataset(torch.as_tensor(X_QUERY), torch.as_tensor(Y_QUERY)),
        batch_size=3,
        shuffle=True,
    )
    options = {"n_subsets": 3, "random_state": 0, "engine": engine}
    found = retrain_on_subsets(net, pairs, None, queries, **options)
    assert_same(found, retrain(net, engine=engine), atol=1e-10)
