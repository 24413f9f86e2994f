"""What do the adjustment and the way of leaving out make of one and the same gold standard?

The same runs are read without an adjustment, against the full-data run of the same seed ((17) of
arXiv 2412.03906) and centered over the left-out rows ((13)); rows are left out in pairs with the
full-data run, or dropped from the order.
"""

import tempfile

from benchmarks import problems
from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from influencekit import FurtherTraining, GradDot, InfluenceFunction, Training

ADJUST = {"none": None, "full": "full", "center": "center"}
NAMES = {"none": "None", "full": '"full", (17)', "center": '"center", (13)'}
#: problem: horizons
AMOUNTS = {"concrete": [1, 5], "cifar2": [1], "sst2": [1], "acs-ma": [1]}
#: The large net: two seeds are enough for pairs, and GradDot alone is compared.
LARGE, MATCHED = "acs-ma", "GGN, matched λ, predicted end"


def row(data, removal, n_repeats, n_left_out, n_test, horizons, epochs):
    problem = problems.load(f"further/{data}", 0, None, n_test)
    if epochs:
        problem.model.set_params(max_epochs=epochs)
    more, net = problem.spec.more, problem.fit()
    horizons = horizons or AMOUNTS[data]
    training = Training("sgd", more["rates"]["sgd"], horizons=horizons, batch_size=128)
    matched = InfluenceFunction("ggn", "matched", at="predicted", further_training=training,
                                random_state=0, **more["curvature"])  # fmt: skip
    methods = {"GradDot": GradDot(), MATCHED: matched}
    if data == LARGE:
        methods, n_repeats = {"GradDot": GradDot()}, min(n_repeats, 2)
    scores = {n: m.fit(net, *problem.train).score(*problem.test) for n, m in methods.items()}
    rows = []
    with tempfile.TemporaryDirectory() as folder:  # trained once, read three times
        for name, adjust in ADJUST.items():
            gold = FurtherTraining(
                training=training, left_out=n_left_out or more["n_left_out"], n_repeats=n_repeats,
                removal=removal, adjust=adjust, cache_dir=folder, random_state=0,
            ).fit(net, *problem.train)  # fmt: skip
            measured = gold.measure(*problem.test)
            for method, found in scores.items():
                result = measured.agreement(found)
                rows += [{"adjust": name, "method": method, "epochs": int(h), "cosine": c,
                          "cosine_se": se, "split_half": half, "offset_share": offset}
                         for h, c, se, half, offset in zip(
                             result.horizons, result.cosine, result.cosine_se, result.split_half,
                             result.offset_share, strict=True)]  # fmt: skip
    return rows


def tables(rows):
    found = {"GradDot": _table(rows, "GradDot", "cosine"),
             "matched": _table(rows, MATCHED, "cosine"),
             "halves": _table(rows, "GradDot", "split_half")}  # fmt: skip
    offsets = {(r["data"], r["epochs"], r["removal"]): r["offset_share"] for r in rows}
    lines = [[f"{data}, {epochs}", removal, f"{share:.1%}"]
             for (data, epochs, removal), share in offsets.items()]  # fmt: skip
    found["offset"] = Table(["data, epochs", "removal", "energy in a common offset"], lines, 2)
    return found


def _table(rows, method, key):
    cells = {(r["data"], r["epochs"], r["removal"], r["adjust"]): r[key] for r in rows
             if r["method"] == method}  # fmt: skip
    lines = dict.fromkeys(key[:3] for key in cells)
    body = [[f"{data}, {epochs}", removal, *(short(cells.get((data, epochs, removal, name)))
             for name in ADJUST)] for data, epochs, removal in lines]  # fmt: skip
    return Table(["data, epochs", "removal", *NAMES.values()], body, 2)


STUDY = Study(
    __doc__, row, {"data": list(AMOUNTS), "removal": ["paired", "drop"]},
    {"n_repeats": 4, "n_left_out": None, "n_test": 100, "horizons": None, "epochs": None},
    quick=Size({"data": ["diabetes"], "removal": ["drop"]},
               {"n_repeats": 2, "n_left_out": 3, "n_test": 5, "horizons": [1], "epochs": 2}),
    tables=tables, needs=("uci_concrete", "cifar2", "sst2", "acs_income_2018"),
)  # fmt: skip
