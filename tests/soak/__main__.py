"""Random cases for SOAK_SECONDS from SOAK_SEED on; one line of JSON for each failure.

``python -m tests.soak --seed N`` repeats one case.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time

import torch

from tests.soak._case import failures_of


def main() -> int:
    """Run, and return 1 if a law did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, help="only the case of this seed")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.seed is not None:
        return _report(range(asked.seed, asked.seed + 1), float("inf"))
    start = int(os.environ.get("SOAK_SEED", "0"))
    return _report(range(start, sys.maxsize), float(os.environ.get("SOAK_SECONDS", "600")))


def _report(seeds, seconds) -> int:
    began, n_cases, n_broken = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder  # so that what a fit leaves there is seen
        for seed in seeds:
            if time.monotonic() - began > seconds:
                break
            found = failures_of(seed)
            for failure in found:
                print(json.dumps(failure, ensure_ascii=False), flush=True)
            n_cases, n_broken = n_cases + 1, n_broken + bool(found)
        tempfile.tempdir = None
    print(f"{n_cases:,} cases, {n_broken:,} with a failure", file=sys.stderr)
    return int(n_broken > 0)


if __name__ == "__main__":
    sys.exit(main())
