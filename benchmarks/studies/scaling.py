"""What does each method cost as rows, queries, parameters and the number of λ grow?

influencekit alone, fit and scores of an MLP 784-WIDTH-10, one of the sizes changed at a time;
"peak" is how fast this machine multiplies matrices.  Flops are 2abc for every product of an (a, b)
with a (b, c) matrix that torch runs, counted in a second pass that is not timed.
"""

from benchmarks.harness import Size, Study
from benchmarks.measures import costs_by_size as costs

BASE = {"n": [2000], "m": [200], "width": [64], "dampings": [1]}
SERIES = {"n": [1000, 2000, 4000, 8000, 16000], "m": [50, 200, 800, 3200],
          "width": [16, 64, 256, 1024]}  # fmt: skip
METHODS = ["graddot", "ekfac", "ggn", "trak", "trak_two_sided"]


def row(method, n, m, width, dampings, peak_size):
    if method == "peak":
        return costs.peak_rate(peak_size)
    return costs.measure(method, n, m, width, dampings)


def grid(methods, base, series, dampings):
    """The peak, each method along each axis, and the jobs along the number of λ."""
    found = [{"method": ["peak"], **base}]
    found += [{"method": [name], **base, axis: values}
              for name in methods for axis, values in series.items()]  # fmt: skip
    return [*found, {"method": list(costs.DAMPING_JOBS), **base, "dampings": dampings}]


def key(cell):
    if cell["method"] == "peak":
        return "peak"
    sizes = "-".join(f"{axis}{cell[axis]}" for axis in BASE)
    return f"scaling/{cell['method']}/{sizes}"


def tables(rows):
    return {"cost": costs.table(rows), "peak": costs.peak_table(rows)}


STUDY = Study(
    __doc__, row, grid(METHODS, BASE, SERIES, [1, 4, 16, 64, 256]), {"peak_size": 4096},
    quick=Size(grid(["graddot"], {**BASE, "n": [40], "m": [5], "width": [4]}, {}, [1])[-1:],
               {"peak_size": 64}),
    small=Size(grid(["graddot", "ekfac", "trak_two_sided"], {**BASE, "n": [1000], "m": [100]},
                    {"n": [500, 1000, 2000, 4000], "m": [25, 100, 400], "width": [16, 64, 256]},
                    [1, 8, 64])),
    tables=tables, key=key, fresh=True, limit=300,
)  # fmt: skip
