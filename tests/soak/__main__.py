"""Random cases for SOAK_SECONDS from SOAK_SEED on; one line of JSON for each failure.

SOAK_CASES is the number of cases, and SOAK_LOG a file of what is done, from which a later
run goes on. ``python -m tests.soak --seed N`` repeats one case.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time

import torch

from tests.soak._case import failures_of
from tests.soak._count import Count


def main() -> int:
    """Run, and return 1 if a law did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, help="only the case of this seed")
    asked, given = parser.parse_args(), os.environ
    torch.set_num_threads(1)
    if asked.seed is not None:
        return soak(range(asked.seed, asked.seed + 1), float("inf"), Count(None))
    start, cases = int(given.get("SOAK_SEED", "0")), given.get("SOAK_CASES")
    seconds = given.get("SOAK_SECONDS", "600" if cases is None else "inf")
    seeds = range(start, sys.maxsize if cases is None else start + int(cases))
    return soak(seeds, float(seconds), Count(given.get("SOAK_LOG")))


def soak(seeds, seconds, count) -> int:
    """Run the cases that are not done yet; 1 if a law did not hold in any."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        before, tempfile.tempdir = tempfile.tempdir, folder  # so that what a fit leaves is seen
        for seed in seeds:
            if time.monotonic() - began > seconds:
                break
            if seed not in count.failures:
                count.add(seed, failures_of(seed))
        tempfile.tempdir = before
    count.say()
    return int(len(count.broken) > 0)


if __name__ == "__main__":
    sys.exit(main())
