"""What each command of the command line does."""

from __future__ import annotations

import argparse
from typing import Any

from influencekit.base import BaseAttributor
from influencekit.cli._files import Rows, check_folder, check_written, read_rows, write_table
from influencekit.cli._models import attributor_of, load_model
from influencekit.metrics._lds import linear_datamodeling_score
from influencekit.report._report import AttributionReport
from influencekit.training.subsets._retrain import retrain_on_subsets
from influencekit.utils._optional import import_optional

__all__ = ["lds", "query", "report"]


class Job:
    """The model, the data and the unfitted attributor that the options name.

    Parameters
    ----------
    options : argparse.Namespace
    """

    def __init__(self, options: argparse.Namespace):
        self.attributor = attributor_of(options.method, options.set, options.verbose)
        self.model = load_model(options.model, options.trust)
        self.train = self._rows(options.train, options.target, "--train")
        self.queries = self._rows(options.queries, options.target, "--queries")
        if self.train.y is None:
            raise ValueError("--target: name the column with the targets of the training rows.")

    def _rows(self, path: str, target: str | None, argument: str) -> Rows:
        rows = read_rows(path, target, argument)
        if hasattr(self.model, "feature_names_in_") or not hasattr(rows.X, "to_numpy"):
            return rows
        return rows._replace(X=rows.X.to_numpy())  # the model was fitted without names

    def fitted(self) -> BaseAttributor:
        """The attributor, fitted."""
        return self.attributor.fit(self.model, *self.train)


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
    sides = {"proponent": False, "opponent": True}
    tables = [
        attributor.top_k(*job.queries, k=options.k, opponents=opponents, as_frame=True).assign(
            side=side
        )
        for side, opponents in sides.items()
    ]
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
    page = AttributionReport.from_attributor(
        job.fitted(),
        *job.queries,
        X_train=job.train.X,
        y_train=job.train.y,
        n_shown=options.n_shown,
        k=options.k,
    )
    print(page.save(options.to))


def lds(options: argparse.Namespace) -> None:
    """Print the linear datamodeling score of the method.

    Parameters
    ----------
    options : argparse.Namespace
    """
    job = Job(options)
    attributor = job.fitted()  # refusals come before the trainings
    scores = attributor.score(*job.queries)
    truth = retrain_on_subsets(
        job.model,
        *job.train,
        *job.queries,
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
