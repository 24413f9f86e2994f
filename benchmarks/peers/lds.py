"""Linear datamodeling score of every library's scores on the tiny problem.

``python benchmarks/peers/lds.py --dampings 0.001 0.01 0.1 --cache-dir FOLDER``

The digits net is retrained on halves of its rows with the optimiser that trained it; every method
of every library scores the same model at the same dampings.  Standard errors are over test rows,
which share the subsets.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from _work import Settings, digits_net, digits_rows, load_problem
from run import LIBRARIES, METHODS

from influencekit import retrain_on_subsets
from influencekit.metrics import PreparedOutputs

os.environ["TQDM_DISABLE"] = "1"  # read when a peer is imported
DEFAULT = (
    "graddot",
    "explicit",
    "fisher",
    "ggn",
    "lissa",
    "arnoldi",
    "nystroem",
    "nystroem_fisher",
    "nystroem_hessian",
    "datainf",
    "kfac",
    "ekfac",
    "ekfac_true",
    "ekfac_empirical",
    "trak",
    "trak_factored",
    "trak_two_sided",
)
WITHOUT_DAMPING = {"graddot", "tracin"}


def ground_truth(args):
    """Masks of the subsets and prepared outputs of the nets trained on them."""
    rows = digits_rows(args.n, args.m, args.seed)
    net = digits_net(args.seed).fit(rows[0], rows[1])
    outputs = retrain_on_subsets(
        net,
        *rows,
        n_subsets=args.subsets,
        n_repeats=args.repeats,
        random_state=args.seed,
        cache_dir=args.cache_dir,
    )
    return outputs.masks, PreparedOutputs(outputs.outputs)


def evaluate(args, problem, masks, truth) -> list[dict]:
    rows = []
    for method in args.methods:
        for library in args.libraries:
            try:
                peer = importlib.import_module(f"{library}_peer")
            except ImportError as error:
                print(f"{library}: not run: {error}")
                continue
            if method not in peer.METHODS:
                continue
            dampings = [None] if method in WITHOUT_DAMPING else args.dampings
            for damping in dampings:
                settings = problem.settings
                if damping is not None:
                    settings = replace(settings, damping=damping)
                row = {"method": method, "library": library, "damping": damping}
                row.update(_score(peer, method, replace(problem, settings=settings), masks, truth))
                rows.append(row)
                print(line_of(row), flush=True)
    return rows


def _score(peer, method, problem, masks, truth) -> dict:
    try:
        scores = np.asarray(peer.METHODS[method](problem)[0], dtype=float)
    except Exception as error:
        return {"status": f"{type(error).__name__}: {str(error)[:80]}"}
    if not np.isfinite(scores).all():
        return {"status": f"{int((~np.isfinite(scores)).sum())} undefined scores"}
    result = truth.score(scores @ masks.T.astype(float))
    return {"status": "ok", "lds": result.mean, "standard_error": result.standard_error}


def line_of(row: dict) -> str:
    damping = "-" if row["damping"] is None else f"{row['damping']:g}"
    what = f"| {row['method']} | {row['library']} | {damping} |"
    if row["status"] != "ok":
        return f"{what} {row['status']} | |"
    return f"{what} {row['lds']:.3f} | {row['standard_error']:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES))
    parser.add_argument("--methods", nargs="+", default=list(DEFAULT), choices=METHODS)
    parser.add_argument("--dampings", nargs="+", type=float, default=[1e-3, 1e-2, 1e-1])
    parser.add_argument("--subsets", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--m", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache-dir", type=Path)
    parser.add_argument("--models", type=Path, required=True, help="folder for the trained net")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    settings = Settings(seed=args.seed)
    problem = load_problem("tiny", args.models, n=args.n, m=args.m, settings=settings)
    masks, truth = ground_truth(args)
    if truth.noise_ceiling is not None:
        print(f"attainable correlation {truth.noise_ceiling:.3f}")
    print("| method | library | damping | LDS | standard error |\n|---|---|---:|---:|---:|")
    rows = evaluate(args, problem, masks, truth)
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
