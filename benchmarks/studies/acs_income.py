"""What does the whole job take on 20,000 rows of census data, and how good is each choice of λ?

A pipeline with a net of two hidden layers on ACSIncome (California): seconds and peak memory of
every stage, and the LDS of each choice of λ against models retrained on random halves.
"""

import numpy as np

from benchmarks.harness import Size, Study, Table, cost_of
from benchmarks.harness.tables import number, short
from benchmarks.problems.census import census
from influencekit import InfluenceFunction, SurrogateLambdaSearchCV, retrain_on_subsets
from influencekit.metrics import PreparedOutputs


def row(curvature, n_train, n_test, n_queries, epochs, n_subsets, n_repeats, projection_dim):
    train, test, make = census(n_train, n_test, epochs)
    stages = {}

    def stage(name, job):
        stages[name], result = cost_of(job)
        return result

    model = stage("train", lambda: make().fit(*train))
    queries = tuple(part[:n_queries] for part in test)
    how = {"n_subsets": n_subsets, "n_repeats": n_repeats, "random_state": 0}
    truth = stage("retrain", lambda: retrain_on_subsets(model, *train, *queries, **how))
    new = InfluenceFunction(curvature, projection_dim=projection_dim, random_state=0)
    fitted = stage("fit", lambda: InfluenceFunction(**new.get_params()).fit(model, *train))
    searches = {
        f"ξ = {xi}": stage(
            "search", lambda xi=xi: SurrogateLambdaSearchCV(
                new, criterion="xi", threshold=xi, random_state=0).fit(model, *train))
        for xi in (0.5, 0.37)
    }  # fmt: skip
    stage("score", lambda: fitted.score(*test))
    stage("top_k", lambda: fitted.top_k(*test, k=10))
    path = stage("gradients of the queries", lambda: fitted.damping_path(*queries))
    prepared = PreparedOutputs(truth.outputs)
    grid = searches["ξ = 0.5"].cv_results_["param_damping"]
    sums = path.subset_sums(truth.masks)
    lds = stage(f"LDS at {len(grid)} λ", lambda: prepared.correlations(sums.at(grid)))
    picks = {"default": float(fitted.damping_)}
    picks |= {name: search.best_params_["damping"] for name, search in searches.items()}
    picks["best of the grid"] = float(grid[np.nanmean(lds, axis=1).argmax()])
    right = float(np.mean(model.predict(test[0]) == test[1]))
    common = {"accuracy": right, "p": fitted.task_.n_parameters, "ceiling": prepared.noise_ceiling}
    rows = [{"stage": name, **cost, **common} for name, cost in stages.items()]
    for pick, damping in picks.items():
        found = {"pick": pick, "damping": damping, "xi": float(path.xi(damping).mean())}
        lds = prepared.score(sums.at(damping))
        rows.append({**found, "lds": lds.mean, "standard_error": lds.standard_error})
    return rows


def tables(rows):
    names = list(dict.fromkeys(r["curvature"] for r in rows))

    def lines(key, cells):
        values = dict.fromkeys(r[key] for r in rows if key in r)
        return [[v, *(t for n in names for r in rows if r.get(key) == v and r["curvature"] == n
                      for t in cells(r))] for v in values]  # fmt: skip

    stages = lines("stage", lambda r: [number(r["seconds"])])
    picks = lines("pick", lambda r: [f"{r['damping']:.1e}", short(r["lds"], 3)])
    heads = ["λ chosen by", *(h for n in names for h in (f"{n}: λ", "LDS"))]
    heads_of_stages = ["stage", *(f"seconds, {n}" for n in names)]
    return {"stages": Table(heads_of_stages, stages), "picks": Table(heads, picks)}


STUDY = Study(
    __doc__, row, {"curvature": ["ggn", "fisher"]},
    {"n_train": 20_000, "n_test": 1_000, "n_queries": 200, "epochs": 10, "n_subsets": 20,
     "n_repeats": 2, "projection_dim": 1024},
    quick=Size({"curvature": ["fisher"]},
               {"n_train": 120, "n_test": 20, "n_queries": 10, "epochs": 1, "n_subsets": 4,
                "projection_dim": 16}),
    tables=tables, needs=("acs_income_2018",), fresh=True,
)  # fmt: skip
