"""What do coordinate masks keep of the scores of a larger net, and what do they save?

A net 784-256-256-10 of 269,322 parameters on MNIST, one epoch of AdamW, float64.  Spearman over the
left-out rows, against reruns without them and against the scores of all coordinates; seconds and
memory of the scores of all rows.
"""

from benchmarks.harness import Size, Study, Table, side_by_side
from benchmarks.harness.tables import of, short
from benchmarks.measures import along_runs
from benchmarks.problems import runs
from influencekit import AdamWInfluence

ALL = {"hessian": {"curvature": "hessian"}, "fisher": {"curvature": "fisher"}}
MASKS = {"fisher, 10 masks of 512": (512, 10), "fisher, 1 mask of 512": (512, 1),
         "fisher, 10 masks of 64": (64, 10)}  # fmt: skip


def row(data, activation, lr, seed, n_train, n_test, n_left_out):
    run = runs.make_run(data, lr, seed, activation=activation, n_train=n_train, n_test=n_test,
                        n_left_out=n_left_out, epochs=1)  # fmt: skip
    truth = along_runs.reruns(run).scores
    options = dict(ALL)
    for name, (size, count) in MASKS.items():
        options[name] = {"curvature": "fisher", "mask_size": size, "n_masks": count,
                         "random_state": seed}  # fmt: skip

    def score(own):
        fitted = AdamWInfluence(run.trajectory, **own).fit(run.task, run.X, run.y)
        return fitted.score(run.X_test, run.y_test)[:, run.left_out]

    costs, scores = side_by_side({name: lambda o=own: score(o) for name, own in options.items()})
    return [
        {"method": name, "truth": along_runs.correlation(found, truth),
         "all hessian": along_runs.correlation(found, scores["hessian"]),
         "all fisher": along_runs.correlation(found, scores["fisher"]),
         "seconds": costs[name]["seconds"], "peak_mb": costs[name]["peak_mb"]}
        for name, found in scores.items()
    ]  # fmt: skip


def tables(rows):
    lines = []
    for cell in dict.fromkeys((r["activation"], r["lr"], r["method"]) for r in rows):
        own = [r for r in rows if (r["activation"], r["lr"], r["method"]) == cell]
        values = [of(own, key) for key in ("truth", "all hessian", "all fisher", "seconds")]
        means = [short(sum(v) / len(v), 3) for v in values[:3]]
        peak = [r["peak_mb"] for r in own if r["peak_mb"] is not None]
        cost = short(sum(values[3]) / len(own), 1), f"{sum(peak) / len(own):,.0f}"
        lines.append([cell[0], f"{cell[1]:g}", cell[2], *means, *cost])
    head = ["activation", "rate", "coordinates", "Spearman, reruns", "all, hessian", "all, fisher",
            "seconds", "MB"]  # fmt: skip
    return {"masks": Table(head, lines, 3)}


STUDY = Study(
    __doc__, row,
    {"data": ["mnist_wide"], "activation": ["gelu"], "lr": [1e-3], "seed": [0]},
    {"n_train": 960, "n_test": 30, "n_left_out": 30},
    quick=Size({"data": ["digits"], "activation": ["relu"], "lr": [1e-3], "seed": [0]},
               {"n_train": 64, "n_test": 3, "n_left_out": 4}),
    tables=tables, needs=("mnist",),
)  # fmt: skip
