"""How much nearer to retraining do scores come with 5, 20 and 100 trainings, and do they know it?

LDS (Spearman, mean over 50 queries) against nets retrained on 80 halves, three trainings each, for
the margin (a regressor's prediction).  "final" is ``InfluenceFunction()`` on the final model, "run
average" ``RunAverage()``, "five runs" the average of five runs on all rows; "20, prior" is
``SubsetPosterior(n_trainings=20)``, "20, sweep" that with ``scores="sweep"``, "datamodel" that with
``prior=None``.  "self-reported" is ``cross_validated_lds_`` beside the LDS against one training a
mask; seconds do not count the trainings on halves.
"""

import time

import numpy as np

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import of, short
from benchmarks.measures.posteriors import (
    one_training,
    posteriors,
    self_reported,
    without_trainings,
)
from benchmarks.problems.averages import SETTINGS, fitted
from influencekit import retrain_on_subsets
from influencekit.metrics import PreparedOutputs


def row(setting, seed, n_subsets, n_repeats, n_trainings):
    problem, net = fitted(setting, seed)
    value = "margin" if problem.spec.classifies else "prediction"
    plan = {"n_subsets": n_subsets, "n_repeats": n_repeats, "output": value}
    truth = retrain_on_subsets(net, *problem.data, **plan, random_state=seed)
    prepared, began = PreparedOutputs(truth.outputs), time.perf_counter()
    runs = retrain_on_subsets(
        net, *problem.data, n_subsets=n_trainings, record="trajectory", output=value,
        random_state=1000 + seed,
    )  # fmt: skip
    about = {"ceiling": prepared.noise_ceiling, "training": time.perf_counter() - began}
    found = []

    def measured(way, scores, seconds, **more):
        lds = prepared.score(scores @ truth.masks.T.astype(float)).mean
        share = lds / prepared.noise_ceiling
        found.append({**about, "way": way, "lds": lds, "share": share, "seconds": seconds, **more})

    for way, scores, seconds in without_trainings(net, problem, value, seed):
        measured(way, scores, seconds)
    for way, posterior, seconds in posteriors(net, problem, value, runs):
        scores = posterior.score(*problem.test)
        one, error = one_training(scores, truth)
        own = posterior.cross_validated_lds_, posterior.cross_validated_lds_std_error_
        more = {"one": one, "one_error": error, "reported": own[0], "reported_error": own[1]}
        measured(way, scores, seconds, **more)
    return found


def tables(rows):
    ways = list(dict.fromkeys(r["way"] for r in rows))
    settings = list(dict.fromkeys(r["setting"] for r in rows))
    at = {(s, w): [r for r in rows if (r["setting"], r["way"]) == (s, w)]
          for s in settings for w in ways}  # fmt: skip
    means = {key: np.mean(of(some, "share")) for key, some in at.items()}
    lines = [[s, *(short(means[s, w]) for w in ways)] for s in settings]
    for name, digits, key in (("mean", 3, "share"), ("mean LDS", 3, "lds"), ("s", 1, "seconds")):
        own = [np.mean([np.mean(of(at[s, w], key)) for s in settings]) for w in ways]
        lines.append([name, *(short(v, digits) for v in own)])
    return {"share of the ceiling": Table(["setting", *ways], lines),
            "self-reported": self_reported(rows)}  # fmt: skip


STUDY = Study(
    __doc__, row,
    [{"seed": [0, 1], "setting": SETTINGS[:6]}, {"seed": [0], "setting": SETTINGS[6:]}],
    {"n_subsets": 80, "n_repeats": 3, "n_trainings": 100},
    quick=Size({"setting": SETTINGS[:1], "seed": [0]},
               {"n_subsets": 3, "n_repeats": 2, "n_trainings": 20}),
    tables=tables, needs=("acs_income_2018", "uci_concrete", "cifar2"),
)  # fmt: skip
