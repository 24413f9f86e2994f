"""Flip bits in every kind of file, and count what becomes of it.

``python -m tests.flips`` flips 1,000 bits in the files of each kind; ``--flips N``, another number.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

import torch

from tests.flips._experiment import GOOD, flips
from tests.flips._stores import STORES


def main() -> int:
    """Print the table, and return 1 if a flip had no good end."""
    parser = argparse.ArgumentParser(prog="python -m tests.flips", description=__doc__)
    parser.add_argument("--flips", type=int, default=1000, metavar="N")
    n = parser.parse_args().flips
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| files | flips | refused | healed | harmless | wrong |\n| --- |" + " ---: |" * 5)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, store in STORES.items():
            found = flips(store, Path(folder) / name, n)
            bad = {end: count for end, count in found.items() if end not in GOOD}
            counts = [found.total(), *(found[end] for end in GOOD), sum(bad.values())]
            print(f"| {name} | " + " | ".join(f"{count:,}" for count in counts) + " |", flush=True)
            for end in bad:
                print(f"{name}: {end}", file=sys.stderr)
            wrong += len(bad)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
