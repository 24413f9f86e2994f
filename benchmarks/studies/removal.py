"""What becomes of the accuracy when the rows are removed that an attribution calls most helpful?

For each seed (data, model and retrainings all drawn anew) the scores of the training rows are
summed over the test rows, the highest shares are removed, and the model is trained again on the
rest.  Lower accuracy is a better attribution.  "λ -> 0" is 1e-8 of the largest eigenvalue, what a
library whose default adds nothing computes; "λ -> inf" is GradDot.  The net is trained with and
without weight decay: decay stands beside λ in the curvature and hides what λ -> 0 does.
"""

import numpy as np

from benchmarks import problems
from benchmarks.harness import Size, Study, Table, mean_error
from benchmarks.measures.helpful import is_right, total_scores
from influencekit import retrain_on_subsets

N_RANDOM = 3


def row(data, decay, seed, n_train, n_test, epochs, n_repeats, projection_dim, shares):
    problem = problems.load(f"epochs/{data}", seed, n_train, n_test)
    problem.model.set_params(max_epochs=epochs, optimizer__weight_decay=decay)
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
    found = {}
    for data in dict.fromkeys(r["data"] for r in rows):
        own = [r for r in rows if r["data"] == data]
        settings = list(dict.fromkeys((r["decay"], r["share"]) for r in own if r["share"]))
        lines = [[name, *(_cell(own, name, *setting) for setting in settings)]
                 for name in dict.fromkeys(r["method"] for r in own)]  # fmt: skip
        head = [f"{100 * share:.0f} %, decay {decay:g}" for decay, share in settings]
        found[data] = Table(["removed by", *head], lines)
    return found


def _cell(rows, name, decay, share):
    key = (name, decay, 0.0 if name == "nothing removed" else share)
    own = [r["accuracy"] for r in rows if (r["method"], r["decay"], r["share"]) == key]
    return mean_error(own, 1, 100)


STUDY = Study(
    __doc__, row,
    [{"data": ["digits"], "decay": [5e-3, 0.0], "seed": [0, 1, 2, 3, 4]},
     {"data": ["mnist"], "decay": [5e-3], "seed": [0, 1, 2, 3, 4]}],
    {"n_train": 2000, "n_test": 500, "epochs": 30, "n_repeats": 2, "projection_dim": 1024,
     "shares": [0.1, 0.3, 0.5]},
    quick=Size({"data": ["digits"], "decay": [0.0], "seed": [0]},
               {"n_train": 80, "n_test": 20, "epochs": 2, "n_repeats": 1, "projection_dim": 16,
                "shares": [0.3]}),
    tables=tables, needs=("mnist",),
)  # fmt: skip
