"""Targets that a loss does not take: what is given, and what the refusal says."""

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.linear_model import GammaRegressor, PoissonRegressor, TweedieRegressor
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from influencekit import GradDot, as_task
from tests.bad_inputs._world import (
    N_QUERY,
    TARGET,
    X_QUERY,
    Y_QUERY,
    Linear,
    N,
    X,
    Y,
    changed,
    classifier,
    fit,
    fitted,
    masked,
    net,
    regressor,
    retrain,
    skorch_net,
    task,
)

BCE = nn.BCEWithLogitsLoss
FLOAT = Y.astype(np.float32)


def bce(y, n_out=1):
    return lambda: fit(task(BCE, n_out), X, y)


def probabilities(y):
    model = as_task(nn.Sequential(nn.Linear(3, 1), nn.Sigmoid()), nn.BCELoss())
    return lambda: fit(model, X, y)


def poisson(y, **given):
    return lambda: fit(as_task(net(1), nn.PoissonNLLLoss(**given)), X, y)


def criterion(loss, n_out=1):
    return as_task(net(n_out), loss)


def shares(y):
    return lambda: fit(task(), X, np.asarray(y))


def glm(model, y):
    return lambda: fit(model.fit(X, np.abs(TARGET) + 1), X, y)


def regression(y):
    return lambda: fit(regressor(), X, y)


def labels(y):
    return lambda: fit(y=y)


def of_net(y):
    return lambda: fit(skorch_net(), X, y)


def net_with(criterion, kind=NeuralNetRegressor):
    return kind(
        Linear, module__n_out=1, criterion=criterion, max_epochs=1, train_split=None, verbose=0
    )


HALF = np.full((N, 2), 0.5)
COUNTS = np.arange(N) % 3 * 1.0

LOSSES = [
    ("bce_above_one", bce(changed(FLOAT, 1.5)), "y; 1.5; 0 to 1"),
    ("bce_below_zero", bce(changed(FLOAT, -0.1)), "y; -0.1; 0 to 1"),
    ("bce_signs", bce(2 * FLOAT - 1), "y; -1; 0 to 1"),
    ("bce_pixels", bce(255 * FLOAT), "y; 255; 0 to 1"),
    ("bce_labels_from_one", bce(FLOAT + 1), "y; 2; 0 to 1"),
    ("bce_several_labels", bce(changed(np.zeros((N, 3), np.float32), 2.0), 3), "y; 2; 0 to 1"),
    ("bce_integers", bce(Y * 7), "y; 7; 0 to 1"),
    ("bce_queries", lambda: fit(task(BCE, 1), X, FLOAT).score(X_QUERY, 3 * Y_QUERY),
     "y; 3; 0 to 1"),
    ("bce_columns", bce(np.zeros((N, 2), np.float32)), "y; (24, 2); ('n', 1)"),
    ("bce_of_probabilities_above_one", probabilities(changed(FLOAT, 1.5)), "y; 1.5; 0 to 1"),
    ("bce_of_probabilities_signs", probabilities(2 * FLOAT - 1), "y; -1; 0 to 1"),
    ("bce_net_signs",
     lambda: fit(net_with(BCE).fit(X, FLOAT[:, None]), X, 2 * FLOAT[:, None] - 1),
     "y; -1; 0 to 1"),
    ("multilabel_margin_signs", lambda: fit(criterion(nn.MultiLabelSoftMarginLoss(), 2), X, -HALF),
     "y; -0.5; from 0 to 1"),
    ("soft_margin_zeros", lambda: fit(criterion(nn.SoftMarginLoss()), X, FLOAT[:, None]),
     "y; got 0; -1 and 1"),
    ("hinge_embedding_zeros", lambda: fit(criterion(nn.HingeEmbeddingLoss()), X, FLOAT[:, None]),
     "y; got 0; -1 and 1"),
    ("poisson_negative", poisson(changed(COUNTS, -1.0)), "y; -1; 0 or more"),
    ("poisson_negative_without_log", poisson(changed(COUNTS, -1.0), log_input=False),
     "y; -1; 0 or more"),
    ("poisson_negative_queries",
     lambda: fit(as_task(net(1), nn.PoissonNLLLoss()), X, COUNTS).score(X_QUERY, -Y_QUERY),
     "y; -1; 0 or more"),
    ("poisson_regressor_negative", glm(PoissonRegressor(), changed(COUNTS, -2.0)),
     "y; -2; 0 or more"),
    ("gamma_zero", glm(GammaRegressor(), changed(COUNTS + 1, 0.0)), "y; 0; above 0"),
    ("gamma_negative", glm(GammaRegressor(), changed(COUNTS + 1, -1.0)), "y; -1; above 0"),
    ("tweedie_negative", glm(TweedieRegressor(power=1.5), changed(COUNTS, -1.0)),
     "y; -1; 0 or more"),
    ("tweedie_cubic_zero", glm(TweedieRegressor(power=3), changed(COUNTS + 1, 0.0)),
     "y; 0; above 0"),
    ("shares_negative", shares(np.tile([1.5, -0.5], (N, 1))), "y; -0.5; sum to 1"),
    ("shares_short", shares(0.5 * HALF), "y; 0.5; sum to 1"),
    ("shares_zero", shares(0 * HALF), "y; 0; sum to 1"),
    ("shares_of_one_row", shares(changed(HALF, 0.1)), "y; row 3; sum to 1"),
    ("shares_percent", shares(100 * HALF), "y; 100; sum to 1"),
    ("shares_logits", shares(np.tile([2.0, -1.0], (N, 1))), "y; -1; sum to 1"),
    ("shares_of_queries", lambda: fit(task()).score(X_QUERY, HALF[:N_QUERY] * 3),
     "y; 3; sum to 1"),
    ("shares_too_many", shares(np.full((N, 3), 1 / 3)), "y; (24, 3); ('n', 2)"),
    ("class_positions_as_floats", shares(FLOAT), "y; float32; astype(int)"),
    ("class_positions_bool", shares(Y > 0), "y; bool; astype(int)"),
    ("class_positions_negative", shares(-Y), "y; -1; 0 to 1"),
    ("class_positions_in_a_column", shares(Y[:, None]), "y; (24, 1); (n_examples,)"),
    ("class_positions_one_hot", shares(np.eye(2, dtype=int)[Y]), "y; (24, 2); (n_examples,)"),
]  # fmt: skip

KINDS = [
    ("y_masked", labels(masked(Y)), "y; masked; filled"),
    ("y_masked_values", regression(masked(TARGET)), "y; masked; filled"),
    ("y_masked_of_a_net", of_net(masked(Y)), "y; masked; filled"),
    ("y_masked_queries", lambda: fitted().score(X_QUERY, masked(Y_QUERY)), "y; masked; filled"),
    ("y_masked_to_retrain", lambda: retrain(y=masked(Y)), "y; masked; filled"),
    ("y_sparse", regression(sparse.csr_matrix(TARGET[:, None])), "y; sparse; toarray"),
    ("y_sparse_labels", labels(sparse.csr_matrix(Y[:, None])), "y; sparse; toarray"),
    ("y_scalar", labels(3), "y; 3; one target"),
    ("y_text", labels("labels"), "y; 'labels'; one target"),
    ("y_set", labels({0, 1}), "y; set; one target"),
    ("y_dict", labels({"a": 1}), "y; dict; one target"),
    ("y_generator", labels(iter(Y)), "y; iterator; one target"),
    ("y_function", labels(len), "y; builtin; one target"),
    ("y_two_columns", labels(np.column_stack([Y, Y])), "y; (24, 2); one label"),
    ("y_frame_of_two", labels(pd.DataFrame({"a": Y, "b": Y})), "y; (24, 2); one label"),
    ("y_three_axes", labels(np.zeros((N, 1, 1), int)), "y; (24, 1, 1); one label"),
    ("y_short", labels(Y[:5]), "X has 24; y has 5"),
    ("y_empty", labels(Y[:0]), "X has 24; y has 0"),
    ("y_nan", regression(changed(TARGET, np.nan)), "y; NaN"),
    ("y_infinite", regression(changed(TARGET, np.inf)), "y; infinity"),
    ("y_numbers_as_text", regression(TARGET.astype(str)), "y; text; numbers"),
    ("y_numbers_as_objects", regression(changed(TARGET, "high")), "y; not numbers; 'high'"),
    ("y_dates", regression(np.full(N, "2020-01-01", "datetime64[D]")), "y; datetime64"),
    ("y_complex", regression(TARGET + 1j), "y; complex"),
    ("y_of_a_regressor_in_columns", regression(np.zeros((N, 3))), "y; (24, 3); ('n', 1)"),
    ("y_probabilities", labels(np.linspace(0, 1, N)), "y; label; accepted are 0, 1"),
    ("y_other_case", lambda: fit(y=np.array(["No", "Yes"])[Y]), "y; 'No'; accepted are 0, 1"),
    ("y_none_label", labels(changed(Y, None)), "y; row 3; missing"),
    ("y_missing_integer", labels(pd.Series(Y, dtype="Int64").mask(Y > 0)), "y; NaN"),
    ("y_tuple_of_arrays", lambda: fit(task(), X, (Y, Y)), "y; tuple of 2; one"),
    ("y_dict_of_arrays", lambda: fit(task(), X, {"a": Y}), "y; dict of 1; one"),
    ("y_list_of_lists", labels([[0, 1]] * (N - 1) + [[1]]), "y; shapes"),
    ("net_labels_as_text", of_net(np.array(["a", "b"])[Y]), "y; text; LabelEncoder"),
    ("net_labels_too_high", of_net(Y + 1), "y; 2; 0 to 1"),
    ("net_values_for_labels", lambda: fit(task(), X, TARGET), "y; float32; class positions"),
    ("net_regression_short", lambda: fit(task(nn.MSELoss, 1), X, TARGET[:9]), "X has 24; y has 9"),
    ("net_regression_columns", lambda: fit(task(nn.MSELoss, 1), X, np.zeros((N, 2), np.float32)),
     "y; (24, 2); ('n', 1)"),
    ("net_regression_integers_beyond", lambda: fit(task(nn.MSELoss, 1), X,
     np.full(N, 1e300)), "y; float32"),
    ("query_label_unseen", lambda: fitted().score(X_QUERY, Y_QUERY + 5), "y; 5; 0, 1"),
    ("query_labels_short", lambda: fitted().score(X_QUERY, Y_QUERY[:2]), "X has 4; y has 2"),
    ("query_labels_as_text", lambda: fitted().score(X_QUERY, ["a"] * 4), "y; 'a'; 0, 1"),
    ("y_integers_beyond_int64", lambda: fit(regressor(), X, np.full(N, 2**63 + 5, np.uint64)),
     "y; uint64"),
    ("binary_net_of_one_output",
     lambda: fit(net_with(nn.CrossEntropyLoss, NeuralNetClassifier).initialize(), X, Y),
     "1 output"),
    ("retrain_y_as_values", lambda: retrain(y=TARGET), "y_query; [0, 1]"),
    ("retrain_y_nan", lambda: retrain(model=regressor(), y=changed(TARGET, np.nan)), "y; NaN"),
    ("retrain_query_labels_unseen", lambda: retrain(y_query=Y_QUERY + 4),
     "y_query; [4, 5]; [0, 1]"),
    ("classes_of_another_model", lambda: GradDot().fit(classifier(), X, Y + 10), "y; 10; 0, 1"),
]  # fmt: skip

ROWS = LOSSES + KINDS
