"""How much do attributors depend on their hyperparameters?

Models are retrained on random halves of the training data once; every cell of every grid of an
attributor is measured against them: damping, projection dimension, LiSSA's scale and depth, rank,
training epoch, number of models.  "llama" is LoGra on a tiny language model that goes on training.
"""

import json

import numpy as np

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.measures import grids
from benchmarks.measures.truths import retrained
from influencekit import SensitivityStudy

#: problem: n_train, n_test, n_subsets, n_repeats, models
SIZES = {"mnist": (2000, 100, 60, 2, 4), "digits": (1000, 100, 100, 2, 5),
         "cifar2": (1000, 100, 40, 1, 2), "llama": (256, 40, 40, 1, 1)}  # fmt: skip
#: Attributors that would take hours on the convolutional net.
HOURS = ("IF cg", "IF lissa")
EPOCHS = {"mnist": 20, "digits": 30, "cifar2": 15, "llama": 3}


def row(problem, attributor, epochs, sizes):
    n_train, n_test, n_subsets, n_repeats, n_models = sizes or SIZES[problem]
    epochs = epochs or EPOCHS[problem]
    truth, made, models = retrained(
        f"epochs/{problem}", n_train, n_test, n_subsets, n_repeats, n_models, epochs
    )
    grid = grids.grids(problem, epochs, n_models).get(attributor)
    if grid is None:
        return []
    ages = {"training_epochs": grids.ages(epochs)} if "checkpoint" in repr(grid) else {}
    study = SensitivityStudy({attributor: grid}, random_state=0, **ages)
    study.fit(models if len(models) > 1 else models[0], *made.data, subset_outputs=truth)
    cells = json.loads(study.results_.to_json(orient="records", default_handler=str))
    wide = json.loads(study.sensitivity_.to_json(orient="records"))
    return {"cells": cells, "sensitivity": wide, "ceiling": study.noise_ceiling_,
            "n_failed": sum(bool(cell["error"]) for cell in cells)}  # fmt: skip


def tables(rows):
    wide, tuned = [], []
    for r in rows:
        lds = [cell["lds"] for cell in r["cells"] if cell["lds"] is not None]
        for line in r["sensitivity"]:
            numbers = [line.get(key) for key in ("range", "range_tuned", "relative_range")]
            wide.append([r["problem"], r["attributor"], line.get("axis", line.get("parameter", "")),
                         *(short(v) for v in numbers), short(max(lds))])  # fmt: skip
        for axis in ("projection_dim", "checkpoint", "n_models", "curvature__rank"):
            values = dict.fromkeys(str(c[axis]) for c in r["cells"] if c.get(axis) is not None)
            own = {v: [c["lds"] for c in r["cells"] if str(c.get(axis)) == v and c["lds"]]
                   for v in values}  # fmt: skip
            text = ", ".join(f"{v}: {np.max(x):.2f}" for v, x in own.items() if x)
            if len(own) > 1:
                tuned.append([r["problem"], r["attributor"], axis, text])
    head = ["problem", "attributor", "axis", "range", "range tuned", "relative range", "best LDS"]
    again = Table(["problem", "attributor", "axis", "best LDS"], tuned, 4)
    return {"ranges": Table(head, wide, 3), "tuned again": again}


STUDY = Study(
    __doc__, row,
    [{"problem": ["mnist"], "attributor": grids.NAMES},
     {"problem": ["cifar2"], "attributor": [n for n in grids.NAMES if n not in HOURS]},
     {"problem": ["llama"], "attributor": ["GradDot", "IF fisher", "LoGra"]}],
    {"epochs": None, "sizes": None},
    quick=Size({"problem": ["digits"], "attributor": ["GradDot", "IF cg"]},
               {"epochs": 2, "sizes": [60, 10, 6, 1, 1]}),
    tables=tables, needs=("mnist", "cifar2", "lm_stories260k", "tiny_shakespeare"),
)  # fmt: skip
