"""Do sparse columns stay sparse: seconds beside scipy's own products, and peak memory?

"wide": 2,000 rows of 100,000 columns, all sides in turns; "gram solve" is the sparse Gram matrix,
a Cholesky decomposition and the scores.  "tall": ACSIncome.  Peaks are above data and model.
"""

import numpy as np
from scipy import linalg, sparse
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from benchmarks.harness import Size, Study, Table, cost_of, number, side_by_side
from influencekit import GradDot, InfluenceFunction
from influencekit.datasets import fetch_acs_income


def wide(n, p, n_query, n_runs):
    rng = np.random.default_rng(0)
    X = sparse.random(n, p, 1e-3, format="csr", random_state=0)
    y = (X @ (rng.normal(size=p) * (rng.random(p) < 0.02)) + 0.1 * rng.normal(size=n) > 0) * 1
    model = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-8, max_iter=2000).fit(X, y)
    queries, damping, prob = (X[:n_query], y[:n_query]), 1e-3, model.predict_proba(X)[:, 1]
    errors, roots = prob - y, np.sqrt(prob * (1 - prob))
    gram = (X @ X.T).toarray() * roots[:, None] * roots

    def products():
        return errors[:n_query, None] * (queries[0] @ X.T).toarray() * errors

    def gram_solve():
        K, shift = (X @ X.T).toarray(), 1 / n + damping
        factor = linalg.cho_factor(roots[:, None] * K * roots / n + shift * np.eye(n))
        moved = linalg.cho_solve(factor, (K[:n_query] * roots).T).T
        inner = (K[:n_query] - (moved * roots) @ K / n) / shift
        return errors[:n_query, None] * inner * errors / n

    def ours(attributor):
        return lambda: attributor.fit(model, X, y).score(*queries)

    jobs = {
        "scipy: products": products, "scipy: gram solve": gram_solve,
        "scipy: eigh": lambda: linalg.eigh(gram),
        "scipy: Cholesky": lambda: linalg.cho_factor(gram + np.eye(n)),
        "GradDot": ours(GradDot()), "λ given": ours(InfluenceFunction(damping=damping)),
        "λ not given": ours(InfluenceFunction()),
    }  # fmt: skip
    first, _ = cost_of(ours(InfluenceFunction()))  # later runs find its memory
    costs, results = side_by_side(jobs, n_runs)
    difference = abs(results["λ given"] - results["scipy: gram solve"]).max()
    found = {"difference": float(difference / abs(results["λ given"]).max())}
    rows = [{"step": k, **cost, **found, "peak_mb": None} for k, cost in costs.items()]
    return [*rows, {"step": "λ not given, first run", **first}]


def tall(n, n_query):
    X, y = fetch_acs_income(return_X_y=True, as_frame=False)
    X, y = OneHotEncoder(min_frequency=20).fit_transform(X[:n]), y[:n]
    model = LogisticRegression(max_iter=1000).fit(X, y)
    fit, fitted = cost_of(lambda: InfluenceFunction().fit(model, X, y))
    score, _ = cost_of(lambda: fitted.score(X[:n_query], y[:n_query]))
    shape = {"rows": len(y), "columns": X.shape[1]}
    return [{"step": "fit", **shape, **fit}, {"step": "score", **shape, **score}]


def row(table, n, p, n_acs, n_query, n_runs):
    return wide(n, p, n_query, n_runs) if table == "wide" else tall(n_acs, n_query)


def tables(rows):
    keys = ("seconds", "peak_mb")
    lines = [[r["table"], r["step"], *("" if r[k] is None else number(r[k]) for k in keys)]
             for r in rows]  # fmt: skip
    return {"sparse": Table(["table", "step", "seconds", "peak, MB"], lines)}


STUDY = Study(
    __doc__, row, {"table": ["wide", "tall"]},
    {"n": 2000, "p": 100_000, "n_acs": 665_800, "n_query": 50, "n_runs": 3},
    quick=Size({"table": ["wide"]}, {"n": 40, "p": 1100, "n_query": 4, "n_runs": 1}),
    tables=tables, needs=("acs_income_2018",), fresh=True, limit=600,
)  # fmt: skip
