"""Do scores averaged along the run predict retraining better than those of the final model?

LDS (Spearman, mean over 50 queries) against nets retrained on random halves, for the margin (a
regressor's prediction) and for the loss.  "final" is ``InfluenceFunction()`` on the final model,
"average" ``RunAverage()``, "end" ``RunAverage(slopes="end")``, "unit" the mean of unit-length
scores at the same eight checkpoints, by hand.  "methods" are other attributors, each beside its
average.  "few": 5% of the rows are left out, 60 subsets of six trainings.  "beside":
schedules, early stopping, BatchNorm and 670,000 parameters, 60 halves of two trainings.
"""

import numpy as np

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import mean_error, of, short
from benchmarks.measures import averages
from benchmarks.measures.averages import METHODS, WAYS, explaining
from benchmarks.problems.averages import BESIDE, FINETUNED, SETTINGS, TABLES, fitted
from influencekit import retrain_on_subsets
from influencekit.metrics import PreparedOutputs


def row(part, setting, seed, n_subsets, n_repeats, fraction):
    problem, net = fitted(setting, seed)
    sizes = {"few": (60, 6, 0.95), "beside": (60, 2, fraction)}
    n_subsets, n_repeats, fraction = sizes.get(part, (n_subsets, n_repeats, fraction))
    classifies = problem.spec.classifies
    value = "margin" if classifies else "prediction"
    plan = {"n_subsets": n_subsets, "n_repeats": n_repeats, "subset_fraction": fraction}
    made = retrain_on_subsets(net, *problem.data, **plan, output=value, random_state=seed)
    ways = METHODS if part == "methods" else WAYS
    attributors, costs = averages.fitted_with_costs(ways, net, problem.train)
    parts = averages.checkpoints(net, problem.train) if part != "methods" else []
    found = []
    for explained, output in (("value", value), ("loss", "neg_loss")):
        scores = {way: explaining(one, output, problem.test) for way, one in attributors.items()}
        if parts:
            scores["unit"] = averages.unit(parts, output, problem.test)
        outputs = made.outputs
        if explained == "loss":
            outputs = averages.as_loss(outputs, problem.y_test, classifies)
        truth = PreparedOutputs(outputs)
        lds = {way: truth.score(s @ made.masks.T.astype(float)).mean for way, s in scores.items()}
        found.append({"explained": explained, **lds, "ceiling": truth.noise_ceiling})
    return [{**each, **costs} for each in found]


def tables(rows):
    found = {}
    for part, what in dict.fromkeys((r["part"], r["explained"]) for r in rows):
        own = [r for r in rows if (r["part"], r["explained"]) == (part, what)]
        ways = [*(METHODS if part == "methods" else (*WAYS, "unit")), "ceiling"]
        means = {s: [np.mean(of([r for r in own if r["setting"] == s], way)) for way in ways]
                 for s in dict.fromkeys(r["setting"] for r in own)}  # fmt: skip
        lines = [[s, *(short(m, 3) for m in each)] for s, each in means.items()]
        all_of = np.array(list(means.values()))
        lines.append(["mean", *(short(m, 3) for m in all_of.mean(0))])
        found[f"{part}, {what}"] = Table([what, *ways], lines)
        pairs = [("average", "final"), ("average", "unit"), ("end", "final")]
        pairs += [(f"{w}, average", w) for w in METHODS if ", average" not in w]
        gains = []
        for a, b in [pair for pair in pairs if set(pair) <= set(ways)]:
            gain = all_of[:, ways.index(a)] - all_of[:, ways.index(b)]
            gains.append([f"{a} above {b}", mean_error(gain, 3), short(gain.min(), 3)])
        found[f"{part}, {what}, gains"] = Table(["of", "mean", "least"], gains)
    return {**found, "costs": averages.costs(rows)}


SCRATCH = {"part": ["scratch"], "setting": SETTINGS, "seed": [0, 1]}
OTHERS = ["wine, AdamW", "breast cancer, SGD", "diabetes, AdamW", "Concrete, SGD"]
STUDY = Study(
    __doc__, row,
    [SCRATCH, {"part": ["few"], "setting": TABLES, "seed": [0]},
     {"part": ["methods"], "setting": OTHERS, "seed": [0]},
     {"part": ["finetuned"], "setting": FINETUNED, "seed": [0]},
     {"part": ["beside"], "setting": BESIDE, "seed": [0]}],
    {"n_subsets": 80, "n_repeats": 3, "fraction": 0.5},
    quick=Size({"part": ["finetuned"], "setting": FINETUNED[:1], "seed": [0]},
               {"n_subsets": 3, "n_repeats": 2}),
    tables=tables, needs=("acs_income_2018", "uci_concrete", "cifar2"),
)  # fmt: skip
