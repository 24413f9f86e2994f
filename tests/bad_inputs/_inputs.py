"""X that is no data, or data that change: what is given, and what the refusal says."""

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, default_collate

from influencekit import GradDot, TreeInfluence
from influencekit.values import KNNShapley
from tests.bad_inputs._world import (
    GROUPS,
    N_QUERY,
    X_QUERY,
    Items,
    N,
    X,
    Y,
    changed,
    classifier,
    fit,
    fitted,
    grouped,
    masked,
    regressor,
    retrain,
    skorch_net,
    task,
)

T = torch.tensor
NOISE = torch.Generator().manual_seed(0)


def noisy(i, _reads):
    return T(X[i]) + 0.1 * torch.randn(3, generator=NOISE), int(Y[i])


def of(make, n=N):
    return lambda: fit(task(), Items(make, n), None)


def loader(**given):
    return lambda: fit(task(), DataLoader(Items(), **given), None)


def collated(function):
    return loader(batch_size=8, collate_fn=function)


def noisy_batch(items):
    inputs, labels = default_collate(items)
    return inputs + 0.1 * torch.randn(inputs.shape, generator=NOISE), labels


def score(X_, y=None):
    return lambda: fitted().score(X_, y)


def fails(i, _reads):
    raise KeyError(f"no item {i}")


def without_rows(items):
    inputs, labels = default_collate(items)
    return inputs[1:], labels[1:]


def object_column():
    frame = pd.DataFrame(X)
    frame[0] = frame[0].astype(object)
    frame.loc[3, 0] = "n/a"
    return frame


DATASETS = [
    ("dataset_random_inputs", of(noisy), "X; item 0 of the Dataset Items; differ"),
    ("dataset_random_flip", of(lambda i, reads: (T(X[i]) * (-1) ** reads, int(Y[i]))),
     "X; item 0 of the Dataset Items; differ"),
    ("dataset_counts_its_reads", of(lambda i, reads: (T(X[i]) + reads, int(Y[i]))),
     "X; item 0 of the Dataset Items; differ"),
    ("dataset_random_targets", of(lambda i, reads: (T(X[i]), reads % 2)),
     "X; item 0 of the Dataset Items; differ"),
    ("dataset_random_dict", of(lambda i, reads: {"X": T(X[i]) * reads, "labels": int(Y[i])}),
     "X; item 0 of the Dataset Items; differ"),
    ("dataset_random_queries",
     lambda: fit(task()).score(Items(lambda i, reads: T(X[i]) * reads)),
     "X; item 0 of the Dataset Items; differ"),
    ("dataset_random_later_item",
     of(lambda i, reads: (T(X[i]) * (reads if i == N - 1 else 1), int(Y[i]))),
     "X; item 23 of the Dataset Items; differ"),
    ("dataset_random_middle_item",
     of(lambda i, reads: (T(X[i]) * (reads if 0 < i < N - 1 else 1), int(Y[i]))),
     "X; of the Dataset Items; differ"),
    ("dataset_three_values", of(lambda i, _: (T(X[i]), 1.0, int(Y[i]))), "X; 3 values; (x, y)"),
    ("dataset_none", of(lambda i, _: None), "X; Dataset; NoneType"),
    ("dataset_text", of(lambda i, _: ("a text", int(Y[i]))), "X; str"),
    ("dataset_objects", of(lambda i, _: (object(), int(Y[i]))), "X; Dataset; object"),
    ("dataset_ragged", of(lambda i, _: (torch.zeros(3 + i % 2), int(Y[i]))),
     "X; Dataset; one shape"),
    ("dataset_dict_with_missing_key",
     of(lambda i, _: {"X": T(X[i]), "labels": 0} if i else {"Z": T(X[i]), "labels": 0}),
     "X; Dataset; batch"),
    ("dataset_raises", of(fails), "X; Items; KeyError; 'no item 0'"),
    ("dataset_shorter_than_its_length", of(lambda i, _: (T(X[[0, 1][i]]), 0)),
     "X; Items; IndexError"),
    ("dataset_empty", of(None, 0), "X; empty Items; one row"),
    ("dataset_without_labels", of(lambda i, _: T(X[i])), "y; None; Give y"),
    ("dataset_nan", lambda: fit(task(), Items(lambda i, _: (T(X[i]) / 0, 0)), None), "X; NaN"),
    ("dataset_bad_label", of(lambda i, _: (T(X[i]), 7)), "y; 7; 0 to 1"),
    ("dataset_length_float", of(lambda i, _: (T(X[i]), 0), 24.0), "X; Items; float"),
    ("dataset_length_none", of(lambda i, _: (T(X[i]), 0), None), "X; Items; NoneType"),
    ("dataset_length_negative", of(lambda i, _: (T(X[i]), 0), -3), "X; Items; __len__"),
    ("dataset_class", lambda: fit(task(), Items, None), "X; got type"),
    ("dataset_for_linear_pipeline",
     lambda: fit(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y), Items(), None),
     "X; Items; Pipeline"),
    ("dataset_for_trees", lambda: TreeInfluence().fit(classifier(), Items(), None),
     "model; LogisticRegression; tree"),
    ("loader_batch_sampler_skips",
     loader(batch_sampler=[[0, 1], [2, 3]]), "X; batch_sampler; every example"),
    ("loader_batch_sampler_repeats",
     loader(batch_sampler=[list(range(N)), [0, 1]]), "X; batch_sampler; every example"),
    ("loader_batch_sampler_out_of_range",
     loader(batch_sampler=[list(range(N - 1)), [99]]), "X; batch_sampler; every example"),
    ("loader_batch_sampler_of_one_epoch",
     lambda: loader(batch_sampler=(batch for batch in [range(N)]))(),
     "X; batch_sampler; generator"),
    ("loader_sampler_repeats", loader(sampler=[0] * N), "X; sampler; every example"),
    ("loader_sampler_short", loader(sampler=[0, 1, 2]), "X; sampler; every example"),
    ("loader_drop_last", loader(batch_size=7, drop_last=True), "X; drop_last; 3"),
    ("loader_batch_size_none", loader(batch_size=None), "X; batch_size=None; Give batch_size"),
    ("loader_random_collate", collated(noisy_batch), "X; collate_fn; noisy_batch; seeded"),
    ("loader_collate_drops_rows", collated(without_rows), "X; collate_fn; rows"),
    ("loader_collate_text", collated(lambda items: ("a batch", [0] * len(items))), "X; str"),
    ("loader_collate_none", collated(lambda items: (None, [0] * len(items))), "X; NoneType"),
    ("loader_collate_raises", collated(lambda items: items["X"]), "X; collate_fn; TypeError"),
    ("loader_collate_unequal", collated(lambda items: (torch.zeros(len(items), 3),
                                                        torch.zeros(2, dtype=torch.long))),
     "collate_fn; rows"),
]  # fmt: skip

ARRAYS = [
    ("masked_X", lambda: fit(X_=masked(X)), "X; masked; filled"),
    ("masked_queries", score(masked(X_QUERY)), "X; masked; filled"),
    ("masked_in_a_tuple", lambda: fit(task(), (masked(X),)), "X; masked; filled"),
    ("masked_in_a_dict", lambda: fit(task(), {"input": masked(X)}), "X; masked; filled"),
    ("masked_X_of_a_net", lambda: fit(skorch_net(), masked(X)), "X; masked; filled"),
    ("masked_X_to_retrain", lambda: retrain(X=masked(X)), "X; masked; filled"),
    ("masked_X_query_to_retrain", lambda: retrain(X_query=masked(X_QUERY)),
     "X_query; masked; filled"),
    ("missing_integers", lambda: fit(X_=pd.DataFrame(X).round().astype("Int64").mask(X > 1)),
     "X; NaN or infinity"),
    ("missing_in_object_column", lambda: fit(X_=object_column()), "X; columns [0]; floats"),
    ("text_column_with_a_word", lambda: fit(X_=pd.DataFrame(X).astype(str).replace(str(X[3, 0]),
     "a")),
     "X; columns"),
    ("dates", lambda: fit(X_=np.full((N, 3), "2020-01-01", "datetime64[D]")), "X; datetime64"),
    ("structured", lambda: fit(X_=np.zeros(N, dtype=[("a", float), ("b", float)])),
     "X; one-dimensional"),
    ("complex_X", lambda: fit(X_=X + 1j), "X; complex"),
    ("bytes_X", lambda: fit(X_=X.astype(bytes)), "X; dtype"),
    ("ragged_list", lambda: fit(X_=[[1.0, 2.0, 3.0]] * (N - 1) + [[1.0]]), "X; shapes"),
    ("three_axes", lambda: fit(X_=np.zeros((N, 3, 2), np.float32)), "X; (1, 3, 2)"),
    ("no_axis", lambda: fit(X_=np.float32(3)), "X; float32"),
    ("text_X", lambda: fit(X_="data.csv"), "X; str"),
    ("path_X", lambda: fit(X_=__import__("pathlib").Path("data.csv")), "X; Path"),
    ("set_X", lambda: fit(X_={1, 2, 3}), "X; set"),
    ("generator_X", lambda: fit(X_=(row for row in X)), "X; generator"),
    ("function_X", lambda: fit(X_=lambda: X), "X; function"),
    ("map_X", lambda: fit(X_=map(float, range(3))), "X; map"),
    ("dict_of_numbers", lambda: fit(task(), {"input": 3.0}), "X['input']; float"),
    ("empty_dict", lambda: fit(task(), {}), "X; empty dict"),
    ("empty_tuple", lambda: fit(task(), ()), "X; empty tuple"),
    ("dict_of_unequal_lengths", lambda: fit(task(), {"input": X, "other": X[:3]}),
     "X['input'] has 24; X['other'] has 3"),
    ("dict_with_unknown_keyword", lambda: fit(task(), {"pixels": X}), "X; pixels; Sequential"),
    ("too_many_inputs", lambda: fit(task(), (X, X)), "X; Sequential"),
    ("sparse_tensor", lambda: fit(task(), T(X).to_sparse()), "X; sparse; to_dense"),
    ("meta_tensor", lambda: fit(task(), T(X).to("meta")), "X; meta"),
    ("nested_tensor",
     lambda: fit(task(), torch.nested.nested_tensor([torch.zeros(3), torch.zeros(2)],
                                                    layout=torch.jagged)), "X; nested"),
    ("integers_beyond_int64", lambda: fit(X_=np.full((N, 3), 2**63 + 5, np.uint64)), "X; uint64"),
    ("too_large_for_float32", lambda: fit(skorch_net(), X.astype(float) * 1e300), "X; float32"),
    ("integers_for_a_float_net", lambda: fit(task(), np.zeros((N, 3), np.int64)), "X; int64"),
    ("width_of_queries", score(X_QUERY[:, :2]), "X; 2 features; 3"),
    ("query_row_without_axis", score(X_QUERY[0]), "X; one-dimensional"),
    ("no_queries", score(X_QUERY[:0]), "X; no rows"),
    ("queries_none", score(None), "X; NoneType"),
    ("queries_nan", score(changed(X_QUERY, np.nan)), "X; NaN"),
    ("top_k_text_k", lambda: fitted().top_k(X_QUERY, k="3"), "k; '3'; integers"),
    ("top_k_nan_k", lambda: fitted().top_k(X_QUERY, k=float("nan")), "k; nan; integers"),
    ("group_queries_wide", lambda: grouped().score(np.zeros((N_QUERY, 5))), "X; 5 features; 3"),
    ("weights_negative", lambda: fit(sample_weight=np.r_[-1.0, np.ones(N - 1)]),
     "sample_weight; negative"),
    ("weights_zero", lambda: fit(sample_weight=np.zeros(N)), "sample_weight; zero"),
    ("weights_nan", lambda: fit(sample_weight=np.full(N, np.nan)), "sample_weight; finite"),
    ("weights_text", lambda: fit(sample_weight=["a"] * N), "sample_weight; accepted"),
    ("weights_short", lambda: fit(sample_weight=np.ones(3)), "sample_weight; (3,); 24"),
    ("weights_two_axes", lambda: fit(sample_weight=np.ones((N, 2))), "sample_weight; (24, 2)"),
    ("weights_masked", lambda: fit(sample_weight=masked(np.ones(N))), "sample_weight; masked"),
    ("weights_scalar", lambda: fit(sample_weight=2.0), "sample_weight; 24"),
    ("weights_balanced", lambda: fit(sample_weight="balanced"), "sample_weight; str"),
    ("X_fit_without_pipeline", lambda: fit(X_fit=X), "X_fit; not a Pipeline; Leave X_fit out"),
    ("metric_unknown", lambda: KNNShapley(metric="nearest").fit(classifier(), X, Y).score(X, Y),
     "metric; nearest"),
    ("regressor_features", lambda: GradDot().fit(regressor(), X[:, :1], Y), "X; 1 features; 3"),
    ("groups_for_rows", lambda: GradDot().fit(classifier(), X, Y, GROUPS), "positional"),
]  # fmt: skip

ROWS = DATASETS + ARRAYS
