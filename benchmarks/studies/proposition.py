"""What of an unfinished training belongs into an influence function, and does the Hessian help?

Concrete's net is far from a stationary point. The gradient that training still has enters nowhere,
in the training examples' gradients (the proposition of arXiv 2412.03906), in those of the output as
well ("predicted"), or through one real run ("endpoint"). λ is 1 / (learning rate · steps). LiSSA
runs on the Gauss-Newton matrix and on the Hessian, at the largest λ of the paper's notebooks.
"""

from functools import partial

from benchmarks import problems
from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.measures import further
from influencekit import InfluenceFunction
from influencekit.curvature import LiSSA

NAMES = {
    "model": "at the fitted model", "corrected": "training gradients corrected, as written",
    "predicted": "training and output gradients", "endpoint": "at the end of a run",
}  # fmt: skip


def row(data, n_repeats, n_left_out, n_test, horizons, epochs, depth):
    problem = problems.load(f"further/{data}", 0, None, n_test)
    if epochs:
        problem.model.set_params(max_epochs=epochs)
    more, net = problem.spec.more, problem.fit()
    options = {"lr": more["rates"]["sgd"], "left_out": n_left_out or more["n_left_out"]}
    gold = further.gold("sgd", horizons=horizons, n_repeats=n_repeats, random_state=0, **options)
    measured = gold.fit(net, *problem.train).measure(*problem.test)

    def matched(epochs, at):
        run = further.gold("sgd", horizons=(epochs,), n_repeats=1, random_state=99, **options)
        return InfluenceFunction("ggn", "matched", at=at, further_training=run, **more["curvature"])

    makers = {at: partial(matched, at=at) for at in NAMES}
    published = further.published_damping(problem, net)
    for matrix in ("ggn", "hessian"):
        series = LiSSA(matrix, depth=depth, random_state=0)
        makers[f"LiSSA {matrix}, published λ"] = lambda h, s=series: InfluenceFunction(s, published)
    return [{"method": name, **further.judged(make, measured, net, problem)[0]}
            for name, make in makers.items()]  # fmt: skip


def tables(rows):
    horizons = next(r["horizons"] for r in rows if "horizons" in r)
    lines = []
    for r in rows:
        name = NAMES.get(r["method"], r["method"])
        cosines = r.get("cosine") or [None] * len(horizons)
        lines.append([r["data"], name, *(short(c) for c in cosines)])
    whole = next(r for r in rows if "ceiling" in r)
    lines.append(["", "noise ceiling", *(further.allowed(c) for c in whole["ceiling"])])
    return {"cosine": Table(["data", "", *(f"{h} epochs" for h in horizons)], lines, 2)}


STUDY = Study(
    __doc__, row, {"data": ["concrete"]},
    {"n_repeats": 4, "n_left_out": None, "n_test": 30, "horizons": [1, 5], "epochs": None,
     "depth": 300},
    quick=Size({"data": ["diabetes"]},
               {"n_repeats": 2, "n_left_out": 3, "n_test": 5, "horizons": [1], "epochs": 2,
                "depth": 5}),
    tables=tables, needs=("uci_concrete",),
)  # fmt: skip
