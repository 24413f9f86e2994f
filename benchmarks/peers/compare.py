"""Scores that ``run.py`` saved, against the dense formulas of ``_dense.py``.

``python benchmarks/peers/run.py LIBRARY METHOD tiny --dtype float64 --output FOLDER`` for some
libraries and methods, then ``python benchmarks/peers/compare.py tiny --dtype float64 --output
FOLDER`` with the same options.

For each method and library: Pearson's correlation over all scores; the median and smallest
correlation of a test row; the median over rows of the ratio of median absolute scores.
"""

from __future__ import annotations

import argparse

import numpy as np
from _measure import emit
from run import add_problem, problem_of

# TRAK's kernel is scaled arbitrarily by traker: only its correlation means something.
SCALE_UNKNOWN = {"traker"}


def agreement(reference: np.ndarray, scores: np.ndarray) -> dict:
    """How near scores (m, n) are to a reference; "undefined" counts entries that are."""
    reference, scores = reference.astype(float), scores.astype(float)
    undefined = int((~np.isfinite(scores)).sum())
    if undefined:
        return {"undefined": undefined}
    rows = [np.corrcoef(a, b)[0, 1] for a, b in zip(reference, scores, strict=True)]
    ratio = np.median(np.abs(scores), 1) / np.median(np.abs(reference), 1)
    return {
        "pearson": float(np.corrcoef(reference.ravel(), scores.ravel())[0, 1]),
        "row_median": float(np.median(rows)),
        "row_smallest": float(np.min(rows)),
        "ratio": float(np.median(ratio)),
    }


def compare(args) -> list[dict]:
    import _dense
    import torch

    torch.set_num_threads(args.threads)
    problem = problem_of(args, args.size).to(torch.float64)
    found, references = [], {}
    for path in sorted((args.output / "scores").glob(f"{args.size}-{args.dtype}-*.npy")):
        method, library = path.stem.removeprefix(f"{args.size}-{args.dtype}-").rsplit("-", 1)
        if method not in _dense.METHODS:
            continue
        if method not in references:
            references[method] = _dense.score(method, problem)[0]
        row = {"method": method, "library": library, "scale_known": library not in SCALE_UNKNOWN}
        found.append({**row, **agreement(references[method], np.load(path))})
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size")
    add_problem(parser)
    arguments = parser.parse_args()
    problem = problem_of(arguments, arguments.size)
    facts = {name: getattr(problem, name) for name in ("n", "m", "p")}
    emit({"status": "ok", **facts, "damping": arguments.damping, "rows": compare(arguments)})
