"""Does a group size that is chosen on some of the rows hold on all of them?

``choose_group_size`` of the group form of Fisher and TRAK: correlation of the scores of groups with
exact sums of point scores, on 700 rows and on all 2,000, and the size chosen for 0.8.
"""

from benchmarks import problems
from benchmarks.harness import Size, Study, Table
from benchmarks.harness.measure import cost_of
from benchmarks.harness.tables import short
from influencekit import TRAK, InfluenceFunction
from influencekit.groups import GroupAttributor, KMeansGrouper, RandomGrouper, choose_group_size

GROUPERS = {"k-means, gradients": KMeansGrouper, "random": RandomGrouper}
METHODS = {"Fisher": lambda **options: InfluenceFunction("fisher", **options), "TRAK": TRAK}


def row(data, method, grouper, seed, n_train, n_rows, n_test, sizes, dim, fidelity):
    problem = problems.load(f"labels/{data}", seed, n_train)
    inside = METHODS[method](projection_dim=dim, random_state=seed)
    by = GROUPERS[grouper](group_size=1, random_state=seed)
    grouped = GroupAttributor(inside, by, curvature="groups")
    data = problem.fit(), *problem.train, problem.X_test[:n_test], problem.y_test[:n_test]
    rows = []
    for name, n in (("some", n_rows), ("all", None)):
        cost, found = cost_of(lambda n=n: choose_group_size(
            grouped, *data, n_rows=n, group_sizes=sizes, fidelity=fidelity, random_state=seed
        ))  # fmt: skip
        by_size = dict(zip(map(str, sizes), found.fidelity.tolist(), strict=True))
        rows.append({"rows": name, "chosen": found.group_size, "seconds": cost["seconds"],
                     "fidelity": by_size})  # fmt: skip
    return rows


def tables(rows):
    sizes, lines = list(rows[0]["fidelity"]), []
    for r in rows:
        values = [short(r["fidelity"][size]) for size in sizes]
        key = [r["data"], r["method"], r["grouper"], r["rows"]]
        lines.append([*key, *values, str(r["chosen"]), short(r["seconds"])])
    head = ["data", "method", "grouper", "rows", *sizes, "chosen", "seconds"]
    return {"fidelity by size": Table(head, lines, 4)}


STUDY = Study(
    __doc__, row,
    {"data": ["mnist", "sst2-linear"], "method": list(METHODS), "grouper": list(GROUPERS),
     "seed": [0]},
    {"n_train": 2000, "n_rows": 700, "n_test": 50, "sizes": [4, 16, 64], "dim": 512,
     "fidelity": 0.8},
    quick=Size({"data": ["wine-linear"], "method": ["Fisher"], "grouper": ["random"], "seed": [0]},
               {"n_train": 60, "n_rows": 40, "n_test": 5, "sizes": [2, 4]}),
    tables=tables, needs=("mnist", "sst2"),
)  # fmt: skip
