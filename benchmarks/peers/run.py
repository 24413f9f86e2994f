"""influencekit side by side with other libraries: same model, same rows, same settings.

``python benchmarks/peers/run.py --sizes tiny small --limit 600 --output FOLDER``

Each (library, method, size) runs in a process of its own, one after another, with the same
number of threads.  Seconds are those of fitting and scoring, without imports, reading and model
training; memory is the peak of the process above what it held before fitting.  A run over the
limit is stopped and counts as "> limit".  Results go to FOLDER/results.json and FOLDER/results.md,
scores to FOLDER/scores, from where ``compare.py`` takes them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("influencekit", "dattri", "traker", "kronfluence", "pydvl", "captum")
METHODS = (
    "graddot", "tracin", "explicit", "ggn", "fisher", "cg", "cg_preconditioned", "lissa",
    "arnoldi", "nystroem", "nystroem_fisher", "nystroem_hessian", "datainf", "datainf_full",
    "kfac", "ekfac", "kfac_true", "ekfac_true", "kfac_empirical", "ekfac_empirical",
    "trak", "trak_factored", "trak_two_sided", "trak_exact",
)  # fmt: skip
SETUP_LIMIT = 600
READY = "ready to fit"


def parse(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small", "large"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES))
    parser.add_argument("--limit", type=float, default=600, help="seconds to fit and score")
    parser.add_argument("--memory", type=float, default=16, help="GB of address space, 0: any")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1, help="processes; the best time counts")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--n", type=int, help="training rows, in place of the size's own")
    parser.add_argument("--m", type=int, help="test rows")
    parser.add_argument("--width", type=int, help="width of the first hidden layer")
    parser.add_argument("--damping", type=float, default=0.1)
    parser.add_argument("--data-home", help="folder with mnist/mnist.npz")
    default = Path(tempfile.gettempdir()) / "influencekit-peers"
    parser.add_argument("--output", type=Path, default=default)
    parser.add_argument("--child", nargs=3, metavar=("LIBRARY", "METHOD", "SIZE"))
    return parser.parse_args(argv)


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


# ---- one run, in a process of its own ---------------------------------------------------


def child(args) -> None:
    """Fit and score once; the last line of the output is the result."""
    library, method, size = args.child
    import torch

    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    peer = importlib.import_module(f"{library}_peer")
    problem = problem_of(args, size)
    if method in peer.ONLY_TINY and problem.p > 6000:
        return emit({"status": f"not run: p x p matrix of p = {problem.p}"})
    if args.memory:
        limit = int(args.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warm_up()
    print(READY, flush=True)
    reset_peak()
    before, start = resident(), time.perf_counter()
    scores, options = peer.METHODS[method](problem)
    seconds = time.perf_counter() - start
    result = {"status": "ok", "seconds": seconds, "peak_mb": (peak() - before) / 2**20}
    result.update(problem.describe(), options=options, version=version(peer.PACKAGE))
    result["threads"] = torch.get_num_threads()
    save_scores(scores_file(args, library, method, size), scores)
    emit(result)


def warm_up() -> None:
    """What torch loads at first use counts for no library."""
    import torch
    from _dense import gradients
    from _work import make_mlp

    X, y = torch.randn(8, 4), torch.arange(8) % 3
    g = gradients(make_mlp([4, 5, 3]), X, y)
    torch.linalg.eigh(g.T @ g)


def emit(result: dict) -> None:
    print(json.dumps(result, default=str), flush=True)


def scores_file(args, library: str, method: str, size: str) -> Path:
    return args.output / "scores" / f"{size}-{method}-{library}.npy"


def save_scores(path: Path, scores) -> None:
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(scores))


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def resident() -> int:
    """Bytes in memory now."""
    return _status("VmRSS")


def reset_peak() -> None:
    """Let the kernel forget the peak so far (imports, reading)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Most bytes in memory since the last reset."""
    return _status("VmHWM")


# ---- all runs ---------------------------------------------------------------------------


def one(args, library: str, method: str, size: str) -> dict:
    """Start a run, wait for it as long as allowed, and read its result."""
    scores_file(args, library, method, size).unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]]
    threads = str(args.threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, "TQDM_DISABLE": "1", **dict.fromkeys(names, threads)}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*command, "--child", library, method, size],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            bufsize=0,
        )
        lines, started = [], False
        deadline = time.monotonic() + SETUP_LIMIT
        while True:
            ready, _, _ = select.select(
                [process.stdout], [], [], max(0, deadline - time.monotonic())
            )
            if not ready:
                process.kill()
                process.wait()
                return {"status": f"> {args.limit:g} s" if started else "setup took too long"}
            line = process.stdout.readline().decode(errors="replace").strip()
            if not line:
                break
            lines.append(line)
            if line.startswith("{"):  # what the process does after its result does not count
                break
            if line == READY:
                started, deadline = True, time.monotonic() + args.limit
        code = _ended(process)
        errors.seek(0)
        tail = [text for text in errors.read().splitlines() if text.strip()]
    if code == 0 and lines and lines[-1].startswith("{"):
        return json.loads(lines[-1])
    reason = tail[-1][:200] if tail else f"exit code {code}"
    return {"status": f"not run: {reason}" if code >= 0 else f"killed by signal {-code}"}


def _ended(process: subprocess.Popen) -> int:
    """Exit code; a process that does not end after its result is stopped and counts as done."""
    try:
        return process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return 0


def available(library: str) -> tuple[set[str], str]:
    """Methods of a library, or why there are none."""
    try:
        peer = importlib.import_module(f"{library}_peer")
    except Exception as error:
        return set(), f"not run: {type(error).__name__}: {error}"
    return set(peer.METHODS), ""


def best(results: list[dict]) -> dict:
    done = [r for r in results if r["status"] == "ok"]
    return min(done, key=lambda r: r["seconds"]) if done else results[0]


def run(args) -> list[dict]:
    methods = {library: available(library) for library in args.libraries}
    rows = []
    for library, (_, reason) in methods.items():
        if reason:
            rows.append({"library": library, "method": "all", "size": "all", "status": reason})
    for size in args.sizes:
        problem_of(args, size)
        for method in args.methods:
            for library, (known, _) in methods.items():
                if method not in known:
                    continue
                results = []
                while len(results) < args.repeats:
                    results.append(one(args, library, method, size))
                    if results[-1]["status"] != "ok":
                        break
                row = {"library": library, "method": method, "size": size, **best(results)}
                row["load"] = os.getloadavg()[0]
                rows.append(row)
                print(line_of(row), flush=True)
                write(args, rows)
    return rows


def line_of(row: dict) -> str:
    what = f"| {row['size']} | {row['method']} | {row['library']} |"
    if row["status"] != "ok":
        return f"{what} {row['status']} | | |"
    return f"{what} {row['seconds']:.2f} | {row['peak_mb']:.0f} | {row['version']} |"


def write(args, rows: list[dict]) -> None:
    args.output.mkdir(parents=True, exist_ok=True)
    facts = {
        "threads": args.threads,
        "limit": args.limit,
        "cpu": os.cpu_count(),
        "dtype": args.dtype,
        "torch": version("torch"),
        "numpy": version("numpy"),
    }
    text = json.dumps({"facts": facts, "rows": rows}, indent=1, default=str)
    (args.output / "results.json").write_text(text)
    head = (
        "| size | method | library | seconds | peak MB | version |\n|---|---|---|---:|---:|---|\n"
    )
    table = head + "\n".join(line_of(row) for row in rows) + "\n"
    (args.output / "results.md").write_text(table)


if __name__ == "__main__":
    arguments = parse()
    if arguments.child:
        child(arguments)
    else:
        warnings.simplefilter("ignore")
        run(arguments)
        print(f"results in {arguments.output}")
