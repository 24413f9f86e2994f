"""Wrong uses that people make: each is refused in words that say what to do."""

import copy
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy import sparse
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.fixes import parse_version
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from influencekit import (
    GradCos,
    GradDot,
    InfluenceFunction,
    LDSSearch,
    SubsetOutputs,
    SurrogateLambdaSearchCV,
    as_task,
    lds_scorer,
    retrain_on_subsets,
)
from influencekit.exceptions import ResourceError, UnsupportedModelError
from influencekit.metrics import leave_one_out_correlation, linear_datamodeling_score, noise_ceiling
from influencekit.metrics._lds import lds_from_subset_sums
from tests._shared.nets import OneLayer

IRIS_X, IRIS_Y = load_iris(return_X_y=True)
X, y = IRIS_X[::3], IRIS_Y[::3]
X_TEST, Y_TEST = IRIS_X[1::15], IRIS_Y[1::15]
NAMES = ["sepal length", "sepal width", "petal length", "petal width"]
FRAME = pd.DataFrame(X, columns=NAMES)
TARGET_X, TARGET_Y = (a[:50] for a in load_diabetes(return_X_y=True))
RNG = np.random.default_rng(0)

#: What torch, numpy and Python say of themselves, and no user should have to read.
INTERNAL = (
    "mat1 and mat2",
    "size mismatch",
    "Expected all tensors",
    "expected scalar type",
    "index out of range",
    "index 3 is out of bounds",
    "out of bounds",
    "shapes cannot be multiplied",
    "must match the size",
    "could not be broadcast",
    "object has no attribute",
    "unexpected keyword",
    "NoneType",
    "could not convert string",
    "can't convert np.ndarray",
    "element 0 of tensors",
    "Dimension out of range",
)

#: Types that say only that something broke.
BARE = (RuntimeError, AssertionError, KeyError, AttributeError, IndexError, Exception)


@cache
def classifier():
    return LogisticRegression().fit(X, y)


@cache
def frame_classifier():
    return LogisticRegression().fit(FRAME, y)


@cache
def regressor():
    return Ridge().fit(TARGET_X, TARGET_Y)


@cache
def two_targets():
    return Ridge().fit(TARGET_X, np.column_stack([TARGET_Y, TARGET_Y**2]))


@cache
def net():
    model = NeuralNetClassifier(
        OneLayer, criterion=nn.CrossEntropyLoss, max_epochs=2, train_split=None, verbose=0
    )
    return model.fit(X.astype(np.float32), y)


def diverged_net():
    model = copy.deepcopy(net())
    nn.init.constant_(model.module_.layer.bias, np.nan)
    return model


def module_task(n_outputs=3):
    return as_task(OneLayer(n_out=n_outputs), nn.CrossEntropyLoss())


def fit(model=None, X_=X, y_=y, attributor=None):
    return (attributor or GradDot()).fit(model or classifier(), X_, y_)


def influence(**settings):
    return InfluenceFunction(**settings).fit(classifier(), X, y)


def score(X_=X_TEST, y_=Y_TEST, output="auto", attributor=GradDot):
    return attributor(output=output).fit(classifier(), X, y).score(X_, y_)


def score_regressor(y_=TARGET_Y[:5], output="auto", model=regressor, target=TARGET_Y):
    return GradDot(output=output).fit(model(), TARGET_X, target).score(TARGET_X[:5], y_)


def surrogate(*, attributor=None, X_query=None, y_query=None, **settings):
    search = SurrogateLambdaSearchCV(attributor or InfluenceFunction("fisher"), **settings)
    return search.fit(classifier(), X, y, X_query=X_query, y_query=y_query)


def lds_search(*, model=None, space=None, attributor=None, X_=X, outputs=None, **settings):
    query = {"X_query": X_TEST, "y_query": Y_TEST, "subset_outputs": outputs}
    query |= {name: settings.pop(name) for name in ("X_query", "y_query") if name in settings}
    attributor = attributor or InfluenceFunction("fisher")
    search = LDSSearch(attributor, space, n_subsets=3, n_trials=1, random_state=0, **settings)
    return search.fit(model or classifier(), X_, y, **query)


def retrain(model=None, X_=X, y_=y, X_query=X_TEST, y_query=Y_TEST, **settings):
    settings = {"n_subsets": 3, "random_state": 0, **settings}
    return retrain_on_subsets(model or classifier(), X_, y_, X_query, y_query, **settings)


def subset_outputs(n_train, n_query):
    return SubsetOutputs(
        np.tile(np.arange(n_train) % 2 == 0, (4, 1)), np.zeros((4, 1, n_query)), np.zeros((4, 1))
    )


def lds(n_train=6, n_query=2, n_subsets=4, scores=None, **settings):
    masks = RNG.random((4, 6)) < 0.5
    table = np.ones((n_query, n_train)) if scores is None else scores
    return linear_datamodeling_score(RNG.random((n_subsets, 2)), masks, table, **settings)


def with_value(array, value, dtype=float):
    changed = np.array(array, dtype=dtype)
    changed[(3,) * changed.ndim] = value
    return changed


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(4), 0)])


def pairs():
    return TensorDataset(torch.tensor(X), torch.tensor(y))


#: scikit-learn 1.8 says with l1_ratio alone what penalty said before.
NEW = parse_version(sklearn.__version__) >= parse_version("1.8")
L1 = {"l1_ratio": 1.0} if NEW else {"penalty": "l1"}

MODELS = [
    ("no_model", lambda: as_task("model.pkl"), UnsupportedModelError, "model: got str; Accepted"),
    ("class_for_model", lambda: as_task(Ridge), UnsupportedModelError, "class Ridge; fitted"),
    ("unknown_estimator", lambda: as_task(SVC().fit(X, y)), UnsupportedModelError,
     "got SVC; Accepted; as_task.register"),
    ("unfitted_model", lambda: fit(LogisticRegression()), NotFittedError,
     "LogisticRegression; not fitted; 'fit'"),
    ("unfitted_pipeline", lambda: fit(make_pipeline(StandardScaler(), Ridge())), NotFittedError,
     "StandardScaler; not fitted; 'fit'"),
    ("unfitted_net", lambda: fit(NeuralNetClassifier(OneLayer)), NotFittedError,
     "NeuralNetClassifier; fit"),
    ("unfitted_search", lambda: fit(GridSearchCV(Ridge(), {"alpha": [1, 2]})), NotFittedError,
     "GridSearchCV; not fitted; 'fit'"),
    ("search_without_refit",
     lambda: fit(GridSearchCV(Ridge(), {"alpha": [1, 2]}, refit=False).fit(X, y)),
     UnsupportedModelError, "refit=False; refit=True"),
    ("module_without_loss", lambda: as_task(OneLayer()), TypeError,
     "loss: missing; as_task(model, loss=nn.CrossEntropyLoss())"),
    ("module_in_fit", lambda: fit(OneLayer()), TypeError, "loss: missing; as_task(model, loss="),
    ("loss_for_task", lambda: as_task(module_task(), nn.MSELoss()), TypeError,
     "loss: ; already a Task; leave it out"),
    ("loss_for_estimator", lambda: as_task(classifier(), nn.MSELoss()), TypeError,
     "loss: LogisticRegression; leave it out"),
    ("loss_that_is_text", lambda: as_task(OneLayer(), "mse"), TypeError, "loss: got str; accepted"),
    ("l1_penalty",
     lambda: fit(LogisticRegression(solver="saga", max_iter=5, **L1).fit(X, y)),
     UnsupportedModelError, "l1; penalty"),
    ("l1_penalty_sgd",
     lambda: fit(SGDClassifier(loss="log_loss", penalty="l1").fit(X, y)),
     UnsupportedModelError, "l1; penalty"),
    ("hinge_loss", lambda: fit(SGDClassifier(loss="hinge").fit(X, y)), UnsupportedModelError,
     "loss; hinge; log_loss"),
    ("epsilon_insensitive", lambda: fit(SGDRegressor(loss="epsilon_insensitive").fit(X, y)),
     UnsupportedModelError, "loss; epsilon_insensitive; squared_error"),
    ("positive_coefficients", lambda: fit(LinearRegression(positive=True).fit(X, y)),
     UnsupportedModelError, "positive=True; positive=False"),
    ("diverged", lambda: fit(diverged_net(), np.float32(X)), UnsupportedModelError,
     "model: the parameter 'layer.bias'; NaN; training diverged"),
    ("nothing_trainable",
     lambda: as_task(OneLayer().requires_grad_(False), nn.CrossEntropyLoss()),
     UnsupportedModelError, "requires_grad"),
]  # fmt: skip

ARGUMENTS = [
    ("X_for_model", lambda: GradDot().fit(X, y), UnsupportedModelError,
     "model: got ndarray; fit(model, X_train, y_train)"),
    ("list_for_model", lambda: GradDot().fit(X.tolist(), y), UnsupportedModelError,
     "model: got list; fit(model, X_train, y_train)"),
    ("frame_for_model", lambda: GradDot().fit(FRAME, y), UnsupportedModelError,
     "model: got DataFrame; fit(model, X_train, y_train)"),
    ("attributor_in_pipeline",
     lambda: make_pipeline(StandardScaler(), InfluenceFunction()).fit(X, y),
     UnsupportedModelError, "model: ; Pipeline: fit the pipeline and give it as the model"),
    ("attributor_in_grid_search",
     lambda: GridSearchCV(InfluenceFunction(), {"damping": [0.1]}, error_score="raise").fit(X, y),
     TypeError, "SurrogateLambdaSearchCV; LDSSearch"),
    ("attributor_for_model", lambda: GradDot().fit(GradDot(), X, y), UnsupportedModelError,
     "model: got GradDot; Accepted"),
    ("X_None", lambda: GradDot().fit(classifier(), None, y), TypeError,
     "fit(model, X_train, y_train)"),
    ("y_None", lambda: fit(y_=None), ValueError, "y: got None; Give y"),
    ("y_twice", lambda: fit(module_task(), pairs(), y), ValueError, "given twice; Leave y out"),
    ("stream", lambda: fit(module_task(), Stream(), None), TypeError,
     "X: got an IterableDataset; map-style; list(dataset)"),
    ("stream_in_loader", lambda: fit(module_task(), DataLoader(Stream()), None), TypeError,
     "X: got an IterableDataset; map-style"),
    ("pipeline_and_dataset",
     lambda: fit(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y), pairs(), None),
     TypeError, "X: got TensorDataset; Pipeline; Accepted"),
    ("y_shorter", lambda: fit(y_=y[:-1]), ValueError, "X has 50, y has 49; same number of rows"),
    ("features_missing", lambda: fit(X_=X[:, :3]), ValueError,
     "X: got 3 features; fitted with 4; same columns"),
    ("one_test_row_without_brackets", lambda: score(X_TEST[0], Y_TEST[:1]), ValueError,
     "X: got a one-dimensional array; np.reshape(X, (1, -1)); X.iloc[[i]]"),
    ("label_unseen", lambda: score(y_=Y_TEST + 1), ValueError, "y: got the label 3; accepted"),
    ("labels_as_text", lambda: fit(y_=np.array(["a", "b", "c"])[y]), ValueError,
     "y: got the label 'a'; accepted are 0, 1, 2"),
    ("labels_one_hot", lambda: fit(y_=np.eye(3)[y]), ValueError, "y: got shape (50, 3); argmax"),
    ("labels_as_text_of_a_net", lambda: fit(net(), np.float32(X), np.array(["a", "b", "c"])[y]),
     TypeError, "y: got text; LabelEncoder"),
    ("X_empty", lambda: score(X[:0], y[:0]), ValueError, "X: got no rows; at least one"),
    ("NaN_in_X", lambda: fit(X_=with_value(X, np.nan)), ValueError, "X: got NaN; Impute"),
    ("infinity_in_X", lambda: fit(X_=with_value(X, np.inf)), ValueError, "X: got NaN or infinity"),
    ("NaN_in_sparse_X", lambda: fit(X_=sparse.csr_matrix(with_value(X, np.nan))), ValueError,
     "X: got NaN"),
    ("NaN_in_test_X", lambda: score(with_value(X_TEST, np.nan)), ValueError, "X: got NaN"),
    ("NaN_in_y", lambda: fit(regressor(), TARGET_X, with_value(TARGET_Y, np.nan)), ValueError,
     "y: got NaN"),
    ("NaN_in_labels", lambda: fit(y_=with_value(y, np.nan)), ValueError, "y: got NaN"),
    ("None_in_labels", lambda: fit(y_=with_value(y, None, object)), ValueError,
     "y: ; row 3; missing; drop the row"),
    ("object_dtype", lambda: fit(X_=with_value(X, "a", object)), TypeError,
     "X: got dtype object; floats"),
    ("text_into_net", lambda: fit(net(), X.astype(str)), TypeError,
     "X: got dtype <U; accepted are floats"),
    ("list_of_texts_into_net", lambda: GradDot().fit(net(), ["good", "bad"], [0, 1]), TypeError,
     "X: got dtype; accepted are floats; TfidfVectorizer"),
    ("text_column", lambda: fit(frame_classifier(), FRAME.assign(**{NAMES[0]: "a"})), TypeError,
     "X: the columns ['sepal length']; accepted are floats"),
    ("columns_missing", lambda: fit(frame_classifier(), FRAME[NAMES[:3]]), ValueError,
     "X: got columns; missing 'petal width'; model.feature_names_in_"),
    ("columns_reordered", lambda: fit(frame_classifier(), FRAME[NAMES[::-1]]), ValueError,
     "X: got columns; another order; model.feature_names_in_"),
    ("target_with_wrong_shape",
     lambda: fit(regressor(), TARGET_X, np.column_stack([TARGET_Y] * 2)), ValueError,
     "y: got shape (50, 2); outputs of shape ('n', 1); one target for each output"),
    ("target_of_one_output", lambda: fit(two_targets(), TARGET_X, TARGET_Y), ValueError,
     "y: got shape (50,) or (50, 1); outputs of shape ('n', 2); one target for each output"),
    ("net_with_fewer_classes", lambda: fit(module_task(2), X.astype(np.float32), y), ValueError,
     "y: got the label 2; 2 outputs; 0 to 1"),
    ("model_of_fewer_classes", lambda: fit(LogisticRegression().fit(X[y < 2], y[y < 2])),
     ValueError, "y: got the label 2; accepted are 0, 1"),
    ("module_of_other_width", lambda: fit(module_task(), X[:, :3].astype(np.float32)), ValueError,
     "X: ; shape; (1, 3); OneLayer"),
    ("images_into_flat_net", lambda: fit(net(), np.zeros((50, 2, 5), np.float32)), ValueError,
     "X: ; shape; (1, 2, 5); NeuralNetClassifier"),
]  # fmt: skip

PARAMETERS = [
    ("damping_negative", lambda: influence(damping=-1.0), ValueError,
     "'damping'; Got -1.0; [0.0, inf)"),
    ("damping_text", lambda: influence(damping="large"), ValueError, "'damping'; 'large'; 'auto'"),
    ("damping_NaN", lambda: influence(damping=float("nan")), ValueError, "'damping'; nan; inf)"),
    ("damping_infinite", lambda: influence(damping=float("inf")), ValueError,
     "'damping'; [0.0, inf); Got inf"),
    ("damping_changed_to_NaN", lambda: influence().set_damping(float("nan")), ValueError,
     "'damping'; nan"),
    ("projection_dim_0", lambda: influence(projection_dim=0), ValueError,
     "'projection_dim'; Got 0; [1, inf)"),
    ("projection_unknown", lambda: influence(projection="pca"), ValueError,
     "'projection'; 'pca'; 'rademacher'"),
    ("curvature_unknown", lambda: influence(curvature="hesian"), ValueError,
     "'curvature'; 'hessian'; 'ggn'"),
    ("batch_size_0", lambda: fit(attributor=GradCos(batch_size=0)), ValueError,
     "'batch_size'; Got 0; [1, inf)"),
    ("max_memory_text", lambda: fit(attributor=GradDot(max_memory="lots")), ValueError,
     "max_memory: got 'lots'; accepted; '2GB'"),
    ("max_memory_too_small", lambda: influence(curvature="fisher", max_memory=100), ResourceError,
     "max_memory; 100 B; raise"),
    ("max_memory_too_small_to_score",
     lambda: fit(attributor=GradDot(max_memory=100)).score(X_TEST, Y_TEST), ResourceError,
     "need ; max_memory is 100 B; raise max_memory"),
    ("output_unknown", lambda: score(output="accuracy"), ValueError,
     "'output'; 'accuracy'; 'neg_loss'"),
    ("prediction_of_classifier", lambda: score(output="prediction"), ValueError,
     "output='prediction'; regressors; 'neg_loss'"),
    ("margin_of_regressor", lambda: score_regressor(output="margin"), ValueError,
     "output='margin'; classifiers; 'prediction'"),
    ("neg_loss_without_y", lambda: score_regressor(None, output="neg_loss"), ValueError,
     "output='neg_loss' needs y; Pass y"),
    ("prediction_of_two", lambda: score_regressor(None, model=two_targets,
     target=np.column_stack([TARGET_Y] * 2)), ValueError,
     "output='prediction'; 2 outputs; output=lambda"),
    ("output_of_wrong_shape", lambda: score(output=lambda o, t: o), ValueError,
     "output; returned shape (; one number for each example"),
    ("output_that_sums", lambda: score(output=lambda o, t: o.sum()), ValueError,
     "output; returned shape (); one number for each example"),
    ("output_no_tensor", lambda: score(output=lambda o, t: 1.0), ValueError,
     "output; returned; float; Tensor"),
    ("output_NaN", lambda: score(output=lambda o, t: (-o[:, 0].abs() - 1).log()), ValueError,
     "output; NaN"),
    ("set_output_unknown",
     lambda: fit().set_output(transform="excel").transform(X_TEST, Y_TEST), ValueError,
     "output config; excel; 'pandas'"),
    ("output_with_infinite_gradient",
     lambda: score(output=lambda o, t: (o[:, 0] - o[:, 0].detach()).abs().sqrt()), ValueError,
     "scores are NaN; output="),
    ("k_0", lambda: fit().top_k(X_TEST, Y_TEST, k=0), ValueError, "k: got 0; 1 to n_train=50"),
    ("k_too_large", lambda: fit().top_k(X_TEST, Y_TEST, k=51), ValueError,
     "k: got 51; 1 to n_train=50"),
    ("k_share", lambda: fit().top_k(X_TEST, Y_TEST, k=0.1), ValueError, "k: got 0.1; integers"),
    ("k_True", lambda: fit().top_k(X_TEST, Y_TEST, k=True), ValueError, "k: got True; integers"),
    ("score_before_fit", lambda: GradDot().score(X_TEST, Y_TEST), NotFittedError,
     "GradDot; not fitted; 'fit'"),
    ("top_k_before_fit", lambda: GradDot().top_k(X_TEST, Y_TEST), NotFittedError, "not fitted"),
    ("self_influence_before_fit", lambda: GradDot().self_influence(), NotFittedError,
     "not fitted"),
    ("set_damping_before_fit", lambda: InfluenceFunction().set_damping(0.1), NotFittedError,
     "InfluenceFunction; not fitted"),
    ("names_before_fit", lambda: GradDot().get_feature_names_out(), NotFittedError, "not fitted"),
]  # fmt: skip

SEARCHES = [
    ("dampings_empty", lambda: surrogate(dampings=[]), ValueError, "dampings: got []; from 0 on"),
    ("dampings_negative", lambda: surrogate(dampings=[0.1, -0.1]), ValueError,
     "dampings: got [0.1, -0.1]; from 0 on"),
    ("dampings_NaN", lambda: surrogate(dampings=[0.1, np.nan]), ValueError,
     "dampings: got [0.1, nan]; finite numbers"),
    ("dampings_text", lambda: surrogate(dampings=["a", "b"]), ValueError,
     "dampings: got ['a', 'b']; from 0 on"),
    ("threshold_1", lambda: surrogate(threshold=1.0), ValueError, "'threshold'; Got 1.0; (0.0,"),
    ("no_damping_to_search", lambda: surrogate(attributor=GradDot()), ValueError,
     "attributor: GradDot does not have a parameter 'damping'; Accepted"),
    ("class_to_search", lambda: surrogate(attributor=InfluenceFunction), ValueError,
     "'attributor'; BaseAttributor"),
    ("model_to_search", lambda: surrogate(attributor=Ridge()), ValueError,
     "'attributor'; BaseAttributor; Ridge"),
    ("query_with_fewer_features", lambda: surrogate(X_query=X_TEST[:, :2]), ValueError,
     "X_query: got 2 features; fitted with 4"),
    ("query_labels_without_queries", lambda: surrogate(y_query=Y_TEST), ValueError,
     "y_query; X_query"),
    ("cv_above_queries", lambda: surrogate(cv="all"), ValueError, "'cv'; 'all'"),
    ("X_query_missing", lambda: lds_search(X_query=None), ValueError,
     "X_query: got None; X_query=X_val"),
    ("y_query_missing", lambda: lds_search(y_query=None), ValueError,
     "y_query: got None; model.predict(X_query)"),
    ("parameter_unknown", lambda: lds_search(space={"lambda": [1.0]}), ValueError,
     "search_space: got ['lambda']; accepted are; 'damping'"),
    ("space_empty", lambda: lds_search(space={}), ValueError,
     "search_space: got an empty; accepted"),
    ("choices_empty", lambda: lds_search(space={"damping": []}), ValueError,
     "search_space: ; 'damping'; empty"),
    ("choice_not_a_list", lambda: lds_search(space={"damping": 0.1}), TypeError,
     "search_space: ; 'damping'; 0.1; list"),
    ("choice_not_accepted", lambda: lds_search(space={"damping": [-1.0]}), ValueError,
     "'damping'; -1.0; [0.0, inf)"),
    ("no_damping_in_space", lambda: lds_search(attributor=GradDot()), ValueError,
     "search_space: ; 'damping'; GradDot; Give a dict"),
    ("two_subsets", lambda: LDSSearch(GradDot(), n_subsets=2).fit(classifier(), X, y), ValueError,
     "'n_subsets'; Got 2; [3, inf)"),
    ("subset_fraction_2", lambda: lds_search(subset_fraction=2), ValueError,
     "'subset_fraction'; Got 2; (0.0, 1.0)"),
    ("outputs_of_other_training_data", lambda: lds_search(outputs=subset_outputs(30, 10)),
     ValueError, "subset_outputs: has 30; X has 50; same data"),
    ("outputs_of_other_queries", lambda: lds_search(outputs=subset_outputs(50, 3)), ValueError,
     "subset_outputs: ; 3 queries; X_query 10"),
    ("outputs_as_array", lambda: lds_search(outputs=np.zeros((4, 1, 10))), TypeError,
     "subset_outputs: got ndarray; SubsetOutputs"),
    ("module_cannot_be_retrained", lambda: lds_search(model=module_task(), X_=np.float32(X)),
     UnsupportedModelError, "model: got Task; retrain=function"),
    ("scorer_of_array", lambda: lds_scorer(np.zeros((4, 1, 10))), TypeError,
     "subset_outputs: got ndarray; SubsetOutputs"),
    ("scorer_of_other_queries",
     lambda: lds_scorer(retrain())(influence(), X_TEST[:3], Y_TEST[:3]), ValueError,
     "predicted; (3, 3); got"),
]  # fmt: skip

RETRAINING = [
    ("retrain_fraction_2", lambda: retrain(subset_fraction=2), ValueError,
     "subset_fraction: got 2; between 0 and 1"),
    ("retrain_no_subsets", lambda: retrain(n_subsets=0), ValueError, "n_subsets: got 0; at least "
        "1"),
    ("retrain_half_a_repeat", lambda: retrain(n_repeats=0.5), ValueError, "n_repeats: got 0.5"),
    ("retrain_engine_unknown", lambda: retrain(engine="ray"), ValueError,
     "engine: got 'ray'; 'stacked'"),
    ("retrain_output_unknown", lambda: retrain(output="accuracy"), ValueError,
     "output: got 'accuracy'; 'neg_loss'"),
    ("retrain_masks_of_other_data", lambda: retrain(masks=np.ones((3, 20), bool)), ValueError,
     "masks: got 20 columns; 50 training rows"),
    ("retrain_masks_as_positions", lambda: retrain(masks=[[0, 1, 2]]), ValueError,
     "masks: got dtype int64; bool"),
    ("retrain_module", lambda: retrain(OneLayer()), UnsupportedModelError,
     "model: got OneLayer; Accepted; retrain=function"),
    ("retrain_cache_without_seed", lambda: retrain(cache_dir="cache", random_state=None),
     ValueError, "cache_dir: ; random_state; int"),
    ("retrain_y_shorter", lambda: retrain(y_=y[:-1]), ValueError, "X ; 50; y ; 49"),
    ("retrain_query_labels_shorter", lambda: retrain(y_query=Y_TEST[:-1]), ValueError,
     "X_query; 10; y_query; 9"),
    ("retrain_missing_class", lambda: retrain(subset_fraction=0.04), ValueError,
     "masks: ; not have rows of class; subset_fraction"),
    ("retrain_net_instance",
     lambda: retrain(NeuralNetClassifier(OneLayer(), criterion=nn.CrossEntropyLoss, max_epochs=1,
                                         verbose=0).fit(np.float32(X), y)),
     UnsupportedModelError, "model: ; module; class"),
    ("retrain_early_stopping_net_labels", lambda: retrain(net(), np.float32(X), y + 1,
     np.float32(X_TEST), Y_TEST + 1), ValueError, "y: ; 3"),
]  # fmt: skip

METRICS = [
    ("scores_of_other_masks", lambda: lds(n_train=5), ValueError, "`scores`; (2, 6); (2, 5)"),
    ("scores_transposed", lambda: lds(scores=np.ones((6, 2))), ValueError, "`scores`; transposed"),
    ("scores_with_NaN", lambda: lds(scores=np.full((2, 6), np.nan)), ValueError, "`scores`; NaN"),
    ("masks_of_other_subsets", lambda: lds(n_subsets=5), ValueError,
     "`masks` has 4 subsets; outputs have 5"),
    ("masks_of_positions",
     lambda: linear_datamodeling_score(np.ones((3, 2)), np.full((3, 6), 7), np.ones((2, 6))),
     ValueError, "`masks`; zeros and ones; positions"),
    ("too_few_subsets", lambda: lds_from_subset_sums(np.ones((2, 4)), np.ones((4, 2))), ValueError,
     "`outputs` has 2 subsets; at least 3"),
    ("method_unknown", lambda: lds(correlation="kendall"), ValueError,
     "correlation; kendall; spearman"),
    ("ceiling_without_repeats", lambda: noise_ceiling(np.ones((5, 2))), ValueError,
     "outputs; repeats"),
    ("removed_out_of_range",
     lambda: leave_one_out_correlation(np.ones((2, 3)), np.ones((2, 5)), left_out=[0, 1, 9]),
     ValueError, "`left_out`; 0 to n_train - 1"),
]  # fmt: skip

ROWS = MODELS + ARGUMENTS + PARAMETERS + SEARCHES + RETRAINING + METRICS


@pytest.mark.parametrize(
    ("use", "kind", "said"), [pytest.param(*row, id=name) for name, *row in ROWS]
)
def test_is_refused_in_words(use, kind, said):
    error = refusal(use)
    message = str(error)
    assert isinstance(error, kind), f"{type(error).__name__}: {message}"
    assert type(error) not in BARE
    assert [word for word in said.split("; ") if word.strip() not in message] == [], message
    assert [phrase for phrase in INTERNAL if phrase in message] == []


def refusal(use):
    """The error that a use raises; a result is a failure, and NaN in it the worst one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = use()
        except Exception as error:
            return error
    if isinstance(result, np.ndarray) and result.dtype.kind == "f":
        assert np.isfinite(result).all(), "no error, and NaN scores"
    raise AssertionError(f"no error; the result is {result!r}")


def test_ids_are_unique_and_many():
    names = [row[0] for row in ROWS]
    assert len(set(names)) == len(names) >= 34


def test_the_right_uses_pass():
    """The helpers above, without anything wrong: the table tests what its rows change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model, X_, y_ in [
            (classifier(), X, y),
            (frame_classifier(), FRAME, y),
            (regressor(), TARGET_X, TARGET_Y),
            (two_targets(), TARGET_X, np.column_stack([TARGET_Y, TARGET_Y])),
            (net(), np.float32(X), y),
            (module_task(), np.float32(X), y),
            (module_task(), pairs(), None),
        ]:
            fit(model, X_, y_)
        results = [score(), score_regressor(), influence().score(X_TEST)]
        results += [retrain().outputs, lds_search().score(X_TEST), surrogate().score(X_TEST)]
        lds()
    assert all(np.isfinite(result).all() for result in results)
