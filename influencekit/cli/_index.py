"""The commands that build an index, whole or one slice of it, and say what it will cost."""

from __future__ import annotations

import argparse
import re

from influencekit.cli._jobs import Training, naming
from influencekit.index._attribution_index import AttributionIndex

__all__ = ["estimate", "index"]


def index(options: argparse.Namespace) -> None:
    """Build an index, or a slice of it beside processes that build the others.

    Parameters
    ----------
    options : argparse.Namespace
    """
    part = None if options.slice is None else _part(options.slice)
    job = Training(options)
    built = _index_of(job, options, options.to).set_params(n_jobs=options.n_jobs)
    if part is not None:
        with naming("--train"):
            missing = built.fit_slice(job.model, *job.train, number=part[0], n_slices=part[1])
        text = "slice {} is done; missing are {:,} shards of others"
        print(f"{options.to}: {text.format(options.slice, missing)}")
        return
    with naming("--train"):
        built.fit(job.model, *job.train)
    print(
        f"{options.to}: {built.n_train_:,} rows of {built.dim_} numbers, "
        f"{built.bytes_per_row_:,.0f} bytes a row; stored scores have a Spearman "
        f"correlation of {built.rounding_['spearman']:.5f} with those before rounding"
    )


def estimate(options: argparse.Namespace) -> None:
    """Print what a fit, or an index, and some queries will cost.

    Parameters
    ----------
    options : argparse.Namespace
    """
    job = Training(options)
    whole = _index_of(job, options, "index") if options.as_index else job.attributor
    with naming("--train"):
        print(whole.estimate(job.model, *job.train, n_queries=options.n_queries))


def _index_of(job: Training, options: argparse.Namespace, folder: str) -> AttributionIndex:
    return AttributionIndex(
        job.attributor,
        folder,
        dtype=options.dtype,
        shard_rows=options.shard_rows,
        curvature_rows=options.curvature_rows,
        projection_dim=options.projection_dim,
        max_memory=options.max_memory,
        random_state=options.seed,
        verbose=options.verbose,
    )


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    number, n_slices = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= n_slices:
        raise ValueError(
            f"--slice: got {text!r}; accepted is i/n with i from 1 to n, such as 1/8 for the "
            f"first of 8 and 8/8 for the last."
        )
    return number, n_slices
