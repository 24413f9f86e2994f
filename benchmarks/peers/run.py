"""One method of one library on one problem, fitted and scored once, in this process.

``python benchmarks/peers/run.py LIBRARY METHOD SIZE --output FOLDER`` prints seconds and peak of
memory as one line of JSON and saves the scores to FOLDER/scores, from where ``compare.py`` takes
them.  ``run.py --list`` prints which methods each library has, or why it cannot be imported.
``benchmarks/run_all.py`` runs all of them.

Seconds are those of fitting and scoring, without imports, reading and model training; memory is
the peak of the process above what it held before fitting.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import resource
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

from _measure import emit, timed

LIBRARIES = ("influencekit", "dattri", "traker", "kronfluence", "pydvl", "captum")


def parse(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", metavar="LIBRARY METHOD SIZE")
    parser.add_argument("--list", action="store_true", help="print the libraries' methods")
    add_problem(parser)
    parser.add_argument("--memory", type=float, default=16, help="GB of address space, 0: any")
    args = parser.parse_args(argv)
    if not args.list and len(args.what) != 3:
        parser.error("expected LIBRARY METHOD SIZE, or --list")
    return args


def add_problem(parser: argparse.ArgumentParser) -> None:
    """Options that say what is scored."""
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--n", type=int, help="training rows, in place of the size's own")
    parser.add_argument("--m", type=int, help="test rows")
    parser.add_argument("--width", type=int, help="width of the first hidden layer")
    parser.add_argument("--damping", type=float, default=0.1)
    parser.add_argument("--data-home", help="folder with mnist/mnist.npz")
    default = Path(tempfile.gettempdir()) / "influencekit-peers"
    parser.add_argument("--output", type=Path, default=default)


def problem_of(args, size: str):
    from _work import Settings, load_problem

    return load_problem(
        size,
        args.output / "models",
        n=args.n,
        m=args.m,
        width=args.width,
        dtype=args.dtype,
        data_home=args.data_home,
        settings=Settings(damping=args.damping),
    )


def measure(args, library: str, method: str, size: str) -> dict:
    """Fit and score once."""
    import torch

    scores_file(args, library, method, size).unlink(missing_ok=True)
    torch.set_num_threads(args.threads)
    peer = importlib.import_module(f"{library}_peer")
    problem = problem_of(args, size)
    if method in peer.ONLY_TINY and problem.p > 6000:
        return {"status": f"not run: p x p matrix of p = {problem.p}"}
    if args.memory:
        limit = int(args.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warm_up()
    facts, (scores, options) = timed(lambda: peer.METHODS[method](problem))
    save_scores(scores_file(args, library, method, size), scores)
    about = {"options": options, "version": version(peer.PACKAGE), "threads": args.threads}
    return {"status": "ok", **facts, **problem.describe(), **about}


def warm_up() -> None:
    """What torch loads at first use counts for no library."""
    import torch
    from _dense import gradients
    from _work import make_mlp

    X, y = torch.randn(8, 4), torch.arange(8) % 3
    g = gradients(make_mlp([4, 5, 3]), X, y)
    torch.linalg.eigh(g.T @ g)


def scores_file(args, library: str, method: str, size: str) -> Path:
    return args.output / "scores" / f"{size}-{args.dtype}-{method}-{library}.npy"


def save_scores(path: Path, scores) -> None:
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(scores))


def installed() -> dict[str, dict]:
    """Methods and version of each library, or why there are none."""
    found = {}
    for library in LIBRARIES:
        try:
            peer = importlib.import_module(f"{library}_peer")
            found[library] = {"methods": list(peer.METHODS), "version": version(peer.PACKAGE)}
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            found[library] = {"methods": [], "reason": reason[:200]}
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    arguments = parse()
    emit(installed() if arguments.list else measure(arguments, *arguments.what))
