"""Linear datamodeling score of a method of a library, on digits, at several dampings.

``python benchmarks/peers/lds.py --truth --output FOLDER`` retrains the digits net on halves of its
rows with the optimizer that trained it; ``lds.py LIBRARY METHOD --output FOLDER`` then scores that
net at the library's own default damping and at those of ``--dampings``, and prints one line of
JSON.  ``benchmarks/run_all.py`` runs all of them.  Standard errors are over test rows, which share
the subsets.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from _measure import emit, timed
from _work import Settings, digits_net, digits_rows, load_problem

from influencekit import retrain_on_subsets
from influencekit.metrics._lds import PreparedOutputs

WITHOUT_DAMPING = ("graddot", "tracin")


def truth_file(args) -> Path:
    name = f"truth-n{args.n}-m{args.m}-seed{args.seed}-{args.subsets}x{args.repeats}.npz"
    return args.output / "models" / name


def retrain(args) -> dict:
    """Save the subsets' masks and the outputs of nets trained on them."""
    rows = digits_rows(args.n, args.m, args.seed)
    net = digits_net(args.seed).fit(rows[0], rows[1])
    facts, outputs = timed(
        lambda: retrain_on_subsets(
            net,
            *rows,
            n_subsets=args.subsets,
            n_repeats=args.repeats,
            random_state=args.seed,
        )
    )
    problem_of(args)  # the net that every library scores is trained and saved once
    path = truth_file(args)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, masks=outputs.masks, outputs=outputs.outputs)
    ceiling = PreparedOutputs(outputs.outputs).noise_ceiling
    return {"status": "ok", **facts, "ceiling": ceiling, **about(args)}


def about(args) -> dict:
    return {name: getattr(args, name) for name in ("n", "m", "seed", "subsets", "repeats")}


def problem_of(args):
    settings = Settings(seed=args.seed)
    return load_problem("tiny", args.output / "models", n=args.n, m=args.m, settings=settings)


def evaluate(args, library: str, method: str) -> dict:
    """LDS at each damping; the first row is the default's."""
    peer = importlib.import_module(f"{library}_peer")
    problem = problem_of(args)
    with np.load(truth_file(args)) as saved:
        masks, truth = saved["masks"], PreparedOutputs(saved["outputs"])
    rows = []
    default = None if method in WITHOUT_DAMPING else peer.default_damping(method, problem.n)
    dampings = [] if method in WITHOUT_DAMPING else args.dampings

    def all_rows():
        for k, damping in enumerate([default, *dampings]):
            row = {"damping": damping, "default": k == 0}
            if damping is None and method not in WITHOUT_DAMPING:
                rows.append({**row, "status": "no default"})
                continue
            settings = problem.settings
            if damping is not None:
                settings = replace(settings, damping=damping)
            found = _score(peer, method, replace(problem, settings=settings), masks, truth)
            rows.append({**row, **found})

    facts, _ = timed(all_rows)
    return {"status": "ok", **facts, "rows": rows, "p": problem.p, **about(args)}


def _score(peer, method, problem, masks, truth) -> dict:
    try:
        scores = np.asarray(peer.METHODS[method](problem)[0], dtype=float)
    except Exception as error:
        return {"status": f"{type(error).__name__}: {str(error)[:80]}"}
    undefined = int((~np.isfinite(scores)).sum())
    if undefined:
        return {"status": f"{undefined} undefined scores"}
    result = truth.score(scores @ masks.T.astype(float))
    return {"status": "ok", "lds": result.mean, "standard_error": result.standard_error}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", metavar="LIBRARY METHOD")
    parser.add_argument("--truth", action="store_true", help="retrain on the subsets, and save")
    parser.add_argument("--dampings", nargs="+", type=float, default=[1e-3, 1e-2, 1e-1])
    parser.add_argument("--subsets", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--m", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True, help="folder of models and truth")
    args = parser.parse_args()
    if not args.truth and len(args.what) != 2:
        parser.error("expected LIBRARY METHOD, or --truth")
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    emit(retrain(args) if args.truth else evaluate(args, *args.what))


if __name__ == "__main__":
    main()
