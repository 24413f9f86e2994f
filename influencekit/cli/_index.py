"""The command that builds an index, whole or one slice of it."""

from __future__ import annotations

import argparse
import re

from influencekit.cli._jobs import Training
from influencekit.index._attribution_index import AttributionIndex

__all__ = ["index"]


def index(options: argparse.Namespace) -> None:
    """Build an index, or a slice of it beside processes that build the others.

    Parameters
    ----------
    options : argparse.Namespace
    """
    part = None if options.slice is None else _part(options.slice)
    job = Training(options)
    built = AttributionIndex(
        job.attributor,
        options.to,
        dtype=options.dtype,
        shard_rows=options.shard_rows,
        curvature_rows=options.curvature_rows,
        projection_dim=options.projection_dim,
        max_memory=options.max_memory,
        random_state=options.seed,
        n_jobs=options.n_jobs,
        verbose=options.verbose,
    )
    if part is not None:
        missing = built.fit_slice(job.model, *job.train, number=part[0], n_slices=part[1])
        print(
            f"{options.to}: slice {options.slice} is done; {missing:,} shards of others are missing"
        )
        return
    built.fit(job.model, *job.train)
    print(
        f"{options.to}: {built.n_train_:,} rows of {built.dim_} numbers, "
        f"{built.bytes_per_row_:,.0f} bytes a row; Spearman correlation of stored scores with those "
        f"before rounding {built.rounding_['spearman']:.5f}"
    )


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found:
        raise ValueError(f"--slice: got {text!r}; accepted is i/n, such as 1/8 for the first of 8.")
    return int(found[1]), int(found[2])
