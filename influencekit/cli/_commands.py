"""What each command of the command line does."""

from __future__ import annotations

import argparse
from typing import Any

from influencekit._top_k import top_frame
from influencekit.cli._files import check_folder, check_written, write_table
from influencekit.cli._index import estimate, index
from influencekit.cli._jobs import Job, naming
from influencekit.data.slices._row_slices import RowSlices
from influencekit.metrics._lds import linear_datamodeling_score
from influencekit.report._report import AttributionReport
from influencekit.training.subsets._retrain import retrain_on_subsets
from influencekit.utils._optional import import_optional

__all__ = ["estimate", "index", "lds", "query", "report"]


def query(options: argparse.Namespace) -> None:
    """Write the strongest training rows of each query.

    Parameters
    ----------
    options : argparse.Namespace
    """
    pd = import_optional("pandas", "the command query")
    check_written(options.to)
    job = Job(options)
    attributor = job.fitted()
    names = getattr(job.queries.X, "index", None)
    sides, tables = {"proponent": False, "opponent": True}, []
    for side, opponents in sides.items():
        with naming("--queries"):
            rows, scores = attributor.top_k(*job.queries, k=options.k, opponents=opponents)
        table = top_frame(rows, scores, names, attributor.train_index_, *job.shown)
        tables.append(table.assign(side=side))
    found = pd.concat(tables).sort_values("query", kind="stable")
    first = ["query", "side", "rank", "row", "score"]
    write_table(found[[*first, *(c for c in found.columns if c not in first)]], options.to)


def report(options: argparse.Namespace) -> None:
    """Write the report page.

    Parameters
    ----------
    options : argparse.Namespace
    """
    check_folder(options.to)
    job = Job(options)
    fitted, (X, y) = job.fitted(), job.shown
    with naming("--queries"):
        page = AttributionReport.from_attributor(
            fitted, *job.queries, X_train=X, y_train=y, n_shown=options.n_shown, k=options.k
        )
    print(page.save(options.to))


def lds(options: argparse.Namespace) -> None:
    """Print the linear datamodeling score of the method.

    Parameters
    ----------
    options : argparse.Namespace
    """
    job = Job(options)
    X, y = job.train
    if isinstance(X, RowSlices):
        raise ValueError("--train: got a folder, but lds trains on rows in memory; name a file.")
    attributor = job.fitted()  # refusals come before the trainings
    with naming("--queries"):
        scores = attributor.score(*job.queries)
    truth = retrain_on_subsets(
        job.model,
        X,
        y,
        job.queries.X,
        job.queries.y,
        n_subsets=options.n_subsets,
        n_repeats=options.n_repeats,
        cache_dir=options.cache,
        n_jobs=options.n_jobs,
        random_state=options.seed,
        verbose=options.verbose,
    )
    print(_in_words(linear_datamodeling_score(truth.outputs, truth.masks, scores)))


def _in_words(found: Any) -> str:
    text = f"LDS {found.mean:.3f} ± {found.standard_error:.3f}"
    ceiling = found.noise_ceiling
    return text if ceiling is None else f"{text}, attainable {ceiling:.3f}"
