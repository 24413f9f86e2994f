"""How studies are described, run, measured, kept and shown."""

from benchmarks.harness.measure import cost_of, ready, side_by_side, timed
from benchmarks.harness.study import FULL, QUICK, SMALL, Size, Study, load, names
from benchmarks.harness.tables import Table, mean_error, number, plain_loop

__all__ = [
    "FULL",
    "QUICK",
    "SMALL",
    "Size",
    "Study",
    "Table",
    "cost_of",
    "load",
    "mean_error",
    "names",
    "number",
    "plain_loop",
    "ready",
    "side_by_side",
    "timed",
]
