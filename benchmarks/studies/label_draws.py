"""Do drawn labels cost K-FAC and EK-FAC accuracy, beside the exact expectation over labels?

LDS on halves of the Attribution Atlas at the default damping, minus that with ``fisher="true"``,
and the standard error of the difference, by a bootstrap over subsets. The nets learned from 400
rows; with more rows, draws differ less.
"""

from benchmarks.harness import Size, Study, Table, number
from benchmarks.measures.paired import bootstrapped
from influencekit import InfluenceFunction
from influencekit.curvature import EKFAC, KFAC
from influencekit.datasets import load_ground_truth

CURVATURES = {"EKFAC": EKFAC, "KFAC": KFAC}


def row(truth, curvature, fisher, n_samples, n_draws, n_bootstraps):
    truth = load_ground_truth(truth)
    masks, outputs = truth.halves.masks, truth.halves.outputs.mean(1).T

    def sums(fisher, n_samples, draw):
        made = CURVATURES[curvature](fisher, n_samples=n_samples, random_state=draw)
        influence = InfluenceFunction(made, output=truth.output)
        influence.fit(truth.model, truth.X, truth.y)
        return influence.score(truth.X_query, truth.y_query) @ masks.T

    exact = sums("true", 1, 0)
    draws = [sums(fisher, n_samples, draw) for draw in range(n_draws)]
    lds = bootstrapped([exact, *draws], outputs, n_bootstraps)
    differences = lds[1:] - lds[0]
    return {"exact": lds[0, 0], "lds": lds[1:, 0].mean(), "difference": differences[:, 0].mean(),
            "error": differences[:, 1:].mean(0).std(), "lowest": differences[:, 0].min(),
            "highest": differences[:, 0].max(), "subsets": len(masks),
            "rows": len(truth.X)}  # fmt: skip


def tables(rows):
    head = ["ground truth", "curvature", "labels", "LDS", "with \"true\"", "difference",
            "standard error", "of single draws"]  # fmt: skip
    lines = [
        [r["truth"], r["curvature"], f"{r['fisher']}, {r['n_samples']}", number(r["lds"]),
         number(r["exact"]), number(r["difference"]), number(r["error"]),
         f"{number(r['lowest'])} to {number(r['highest'])}"]
        for r in rows
    ]  # fmt: skip
    return {"label draws": Table(head, lines)}


STUDY = Study(
    __doc__, row,
    {"truth": ["digits-cnn", "mnist-cnn"], "curvature": list(CURVATURES),
     "fisher": ["signs", "sampled"], "n_samples": [1, 2]},
    {"n_draws": 8, "n_bootstraps": 200},
    quick=Size({"truth": ["digits-cnn"], "curvature": ["KFAC"], "fisher": ["signs"],
                "n_samples": [1]}, {"n_draws": 1, "n_bootstraps": 10}),
    tables=tables, needs=("mnist",),
)  # fmt: skip
