"""Indexes, two stages, saved attributors and estimates: what is given, what is said."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from influencekit import AttributionIndex, GradDot, GroupAttributor, InfluenceFunction
from influencekit.index import TwoStage, load, save
from tests.bad_inputs._world import (
    NAN,
    X_QUERY,
    Y_QUERY,
    N,
    X,
    Y,
    classifier,
    fitted,
    grouped,
    masked,
    regressor,
)

FRAME = pd.DataFrame(X.astype(float), columns=list("abc"))
HALVES = np.arange(N) % 2 == 0


def index(then=lambda made: None, attributor=None, X_=X, **given):
    """Something done with an index of all rows."""

    def use():
        with tempfile.TemporaryDirectory() as folder:
            made = AttributionIndex(attributor or GradDot(), **{"folder": f"{folder}/i", **given})
            return then(made.fit(classifier(), X_, Y))

    return use


def ask(*queries, **given):
    queries = queries or (X_QUERY, Y_QUERY)
    return index(lambda made: made.top_k(*queries, **given))


def stages(then=lambda made: made.top_k(X_QUERY, Y_QUERY, 2), recall=None, rescore=None, **given):
    def use():
        made = TwoStage(recall or GradDot(), rescore or InfluenceFunction(), **given)
        return then(made.fit(classifier(), X, Y))

    return use


def opened(change=None, model=classifier, **given):
    """An index opened again, after a change of its folder."""

    def use():
        with tempfile.TemporaryDirectory() as folder:
            AttributionIndex(GradDot(), f"{folder}/i").fit(classifier(), X, Y)
            if change is not None:
                change(Path(folder) / "i")
            return AttributionIndex.open(f"{folder}/i", model(), **given)

    return use


def kept(change=None, model=classifier):
    def use():
        with tempfile.TemporaryDirectory() as folder:
            save(fitted(), f"{folder}/s")
            if change is not None:
                change(Path(folder) / "s")
            return load(f"{folder}/s", model())

    return use


def add(*rows, **given):
    return index(lambda made: made.add_rows(*rows, **given))


def remove(rows):
    return index(lambda made: made.remove_rows(rows))


def estimate(X_=X, y=Y, **given):
    return lambda: GradDot().estimate(classifier(), X_, y, **given)


INDEXES = [
    ("index_folder_number", index(folder=3), "folder; 3"),
    ("index_folder_empty_text", index(folder=""), "folder"),
    ("index_folder_in_a_file", index(folder=f"{__file__}/i"), "folder; i"),
    ("index_dtype_float128", index(dtype="float128"), "dtype; 'float128'"),
    ("index_shard_rows_share", index(shard_rows=0.5), "shard_rows; 0.5"),
    ("index_of_groups", index(attributor=grouped()), "attributor"),
    ("index_of_text", index(attributor="dot"), "attributor; 'dot'"),
    ("index_projection_without_dim", index(projection="gaussian"), "projection"),
    ("index_projection_dim_true", index(projection_dim=True), "projection_dim; True"),
    ("index_seed_text", index(random_state="one"), "random_state; 'one'"),
    ("index_jobs_zero", index(n_jobs=0), "n_jobs; 0"),
    ("index_add_no_rows", add(X[:0], Y[:0]), "X; no rows"),
    ("index_add_wide_rows", add(np.ones((2, 5)), Y[:2]), "X; 5"),
    ("index_add_nan", add(np.full((2, 3), NAN), Y[:2]), "X; NaN"),
    ("index_add_without_labels", add(X[:2]), "y"),
    ("index_add_short_labels", add(X[:2], Y[:1]), "y; 1"),
    ("index_add_unseen_label", add(X[:2], [0, 7]), "y; 7"),
    ("index_add_masked", add(masked(X[:4]), Y[:4]), "X; mask"),
    ("index_add_weights_negative", add(X[:2], Y[:2], sample_weight=[1, -1]),
     "sample_weight; not negative"),
    ("index_add_weights_to_none", add(X[:2], Y[:2], sample_weight=[1.0, 2.0, 3.0]),
     "sample_weight; 3"),
    ("index_add_other_columns",
     index(lambda made: made.add_rows(FRAME[["c", "a", "b"]], Y), X_=FRAME), "X; 'c', 'a', 'b'"),
    ("index_ask_other_columns",
     index(lambda made: made.top_k(FRAME[["c", "a", "b"]], Y), X_=FRAME), "X; 'c', 'a', 'b'"),
    ("index_add_text", add("rows.csv", Y[:2]), "X; str"),
    ("index_remove_out_of_range", remove([N]), "rows; 24"),
    ("index_remove_negative", remove([-1]), "rows; from 0 to 23"),
    ("index_remove_share", remove([0.5]), "rows; float64"),
    ("index_remove_nan", remove([NAN]), "rows; float64"),
    ("index_remove_text", remove(["a"]), "rows; <U1"),
    ("index_remove_none", remove(None), "rows; object"),
    ("index_remove_short_mask", remove(np.array([True, False])), "rows; 2"),
    ("index_remove_all", remove(np.arange(N)), "rows; all rows"),
    ("index_remove_two_axes", remove([[1, 2]]), "rows"),
    ("index_ask_k_zero", ask(k=0), "k; 0"),
    ("index_ask_k_share", ask(k=2.5), "k; 2.5"),
    ("index_ask_k_beyond", ask(k=N + 1), "k; 25"),
    ("index_ask_among_positions", ask(among=[0, 1, 2]), "among"),
    ("index_ask_among_short", ask(among=HALVES[:-1]), "among; 23"),
    ("index_ask_among_nobody", ask(among=np.zeros(N, bool)), "among; 0"),
    ("index_ask_among_fewer_than_k", ask(k=5, among=np.arange(N) < 2), "k; 5; 2"),
    ("index_ask_interval", ask(interval=0.9), "interval; 0.9"),
    ("index_ask_nan", ask(np.full((1, 3), NAN), [0]), "X; NaN"),
    ("index_refresh_other_kind", index(lambda made: made.refresh(regressor())), "model"),
    ("index_refresh_cosine_two", index(lambda made: made.refresh(classifier(), least_cosine=2.0)),
     "least_cosine; 2.0"),
    ("index_refresh_other_rows", index(lambda made: made.refresh(classifier(), X[:9], Y[:9])),
     "X; 9"),
    ("index_damping_negative",
     index(lambda made: made.set_damping(-0.1), attributor=InfluenceFunction()), "damping; -0.1"),
    ("index_score_by_token", index(lambda made: made.score(X_QUERY, Y_QUERY, by="token")), "by"),
    ("open_without_folder", lambda: AttributionIndex.open("/no/such/i", classifier()),
     "folder; /no/such/i"),
    ("open_number", lambda: AttributionIndex.open(3, classifier()), "folder; 3"),
    ("open_another_model", opened(model=regressor), "model"),
    ("open_model_none", opened(model=lambda: None), "model; None"),
    ("open_without_its_list", opened(lambda at: next(at.glob("*.json")).unlink()), "folder"),
    ("open_verify_text", opened(verify="no"), "verify; 'no'"),
    ("load_number", lambda: load(3, classifier()), "folder; 3"),
    ("load_without_folder", lambda: load("/no/such/s", classifier()), "folder; /no/such/s"),
    ("load_another_model", kept(model=regressor), "model"),
    ("load_emptied", kept(lambda at: [path.unlink() for path in at.iterdir()]), "folder"),
    ("save_text", lambda: save("dot", "never"), "attributor; str"),
    ("save_to_number", lambda: save(fitted(), 3), "folder; 3"),
    ("save_into_a_file", lambda: save(fitted(), f"{__file__}/s"), "folder"),
    ("stages_recall_text", stages(recall="dot"), "recall; 'dot'"),
    ("stages_recall_class", stages(recall=GradDot), "recall; GradDot"),
    ("stages_rescore_groups", stages(rescore=GroupAttributor(GradDot())), "rescore; groups"),
    ("stages_candidates_zero", stages(n_candidates=0), "n_candidates; 0"),
    ("stages_candidates_below_k", stages(n_candidates=1), "k; 2; 1"),
    ("stages_candidates_share", stages(n_candidates=0.5), "n_candidates; 0.5"),
    ("stages_recall_of_other_rows",
     stages(recall=GradDot().fit(classifier(), X[:9], Y[:9])), "recall; 9; 24"),
    ("stages_k_text", stages(lambda made: made.top_k(X_QUERY, Y_QUERY, "all")), "k; 'all'"),
    ("stages_recall_at_zero", stages(lambda made: made.recall_at_k(X_QUERY, Y_QUERY, 0)), "k; 0"),
    ("stages_recall_at_beyond",
     stages(lambda made: made.recall_at_k(X_QUERY, Y_QUERY, N + 1)), "k; 25"),
    ("estimate_queries_zero", estimate(n_queries=0), "n_queries; 0"),
    ("estimate_queries_share", estimate(n_queries=1.5), "n_queries; 1.5"),
    ("estimate_nan", estimate(np.where(np.arange(N)[:, None] == 0, NAN, X)), "X; NaN"),
    ("estimate_short", estimate(y=Y[:-1]), "y; 23"),
]  # fmt: skip

ROWS = INDEXES
