"""What becomes of the accuracy when the rows are removed that an attribution calls most helpful?

For each seed (data, model and retrainings all drawn anew) the scores of the training rows are
summed over the test rows, the highest shares are removed, and the model is trained again on the
rest.  Lower accuracy is a better attribution.  "λ -> 0" is 1e-8 of the largest eigenvalue, what a
library whose default adds nothing computes; "λ -> inf" is GradDot.
"""

import numpy as np

from benchmarks import problems
from benchmarks.harness import Size, Study, Table, mean_error
from benchmarks.measures.helpful import is_right, total_scores
from influencekit import retrain_on_subsets

N_RANDOM = 3


def row(data, seed, n_train, n_test, epochs, n_repeats, projection_dim, shares):
    problem = problems.load(f"epochs/{data}", seed, n_train, n_test)
    problem.model.set_params(max_epochs=epochs)
    net = problem.fit(1000 * seed)
    totals = total_scores(net, problem, projection_dim, seed)
    rng, n = np.random.RandomState(seed), len(problem.X)
    totals |= {f"random {i}": rng.rand(n) for i in range(N_RANDOM)}
    keys, masks = [("nothing removed", 0.0)], [np.ones(n, dtype=bool)]
    for name, total in totals.items():
        order = np.argsort(-total, kind="stable")
        for share in shares:
            keys.append((name.partition(" ")[0] if name.startswith("random") else name, share))
            masks.append(~np.isin(np.arange(n), order[: round(share * n)]))
    found = retrain_on_subsets(
        net, *problem.data, masks=np.array(masks), n_repeats=n_repeats, output=is_right,
        random_state=seed,
    ).outputs.mean(axis=(1, 2))  # fmt: skip
    accuracies: dict = {}
    for key, accuracy in zip(keys, found, strict=True):
        accuracies.setdefault(key, []).append(accuracy)
    return [
        {"method": name, "share": share, "accuracy": float(np.mean(values))}
        for (name, share), values in accuracies.items()
    ]


def tables(rows):
    shares = list(dict.fromkeys(r["share"] for r in rows if r["share"]))
    names = dict.fromkeys(r["method"] for r in rows)

    def cell(name, share):
        share = 0.0 if name == "nothing removed" else share
        own = [r["accuracy"] for r in rows if (r["method"], r["share"]) == (name, share)]
        return mean_error(own, 2, 100)

    lines = [[name, *(cell(name, share) for share in shares)] for name in names]
    return {"accuracy": Table(["removed by", *(f"{100 * s:.0f} %" for s in shares)], lines)}


STUDY = Study(
    __doc__, row, {"data": ["mnist"], "seed": [0, 1, 2, 3, 4]},
    {"n_train": 2000, "n_test": 500, "epochs": 30, "n_repeats": 2, "projection_dim": 1024,
     "shares": [0.1, 0.3, 0.5]},
    quick=Size({"data": ["digits"], "seed": [0]},
               {"n_train": 80, "n_test": 20, "epochs": 2, "n_repeats": 1, "projection_dim": 16,
                "shares": [0.3]}),
    tables=tables, needs=("mnist",),
)  # fmt: skip
