"""How fast are products of curvature matrices with k vectors: ours and curvlinops'?

"two products" is the time of the two matrix products of the first layer alone, below which nobody
gets.  curvlinops is given the batches of our choice and one batch of everything; the better time
counts.  Both sides take turns in one process, in the environment "tools".
"""

import torch
from torch import nn

from benchmarks.harness import Size, Study, Table, number, side_by_side
from benchmarks.measures.private import CurvatureOperator
from benchmarks.measures.products import near_a_minimum, theirs
from influencekit import as_task
from influencekit.curvature import CurvatureProblem
from influencekit.data import make_examples
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent


def row(matrix, k, n, sizes, epochs, n_runs):
    module, X, y = near_a_minimum(n, sizes, epochs)
    task = as_task(module, loss=nn.CrossEntropyLoss())
    examples = Gradients(GradientEngine(task), make_examples(task, X, y), loss_cotangent(task))
    weights = torch.full((n,), 1 / n, dtype=torch.float64)
    penalty = torch.zeros(task.n_parameters, dtype=torch.float64)
    operator = CurvatureOperator(CurvatureProblem(examples, weights, penalty), matrix)
    vectors = torch.randn(k, task.n_parameters, dtype=X.dtype)
    tangents = vectors[:, : module[0].weight.numel()].reshape(-1, X.shape[1])
    jobs = {"ours": lambda: operator.data(vectors), "least": lambda: (X @ tangents.T).T @ X}
    columns, found = vectors.T.contiguous(), {}
    try:
        for batch in sorted({operator.sizes(n, k)[0], n}):
            data = list(zip(X.split(batch), y.split(batch), strict=True))
            peer = theirs(module, data, matrix)
            jobs[f"curvlinops, batches of {batch}"] = lambda peer=peer: peer @ columns
    except ImportError as error:
        found["reason"] = f"{type(error).__name__}: {error}"
    for job in jobs.values():
        job()  # what is loaded at first use
    costs, results = side_by_side(jobs, n_runs)
    found |= {"ours": costs["ours"]["seconds"], "two products": costs["least"]["seconds"]}
    others = {name: cost["seconds"] for name, cost in costs.items() if name.startswith("curv")}
    if others:
        name = min(others, key=others.get)
        expected = results[name]
        difference = (results["ours"].T - expected).norm() / expected.norm()
        found |= {"curvlinops": others[name], "difference": float(difference)}
    return found


def tables(rows):
    keys = ("two products", "ours", "curvlinops", "difference")
    lines = [[r["matrix"], str(r["k"]), *(number(r.get(key)) for key in keys)] for r in rows]
    return {"seconds": Table(["matrix", "k", *keys], lines, 2)}


STUDY = Study(
    __doc__, row, {"matrix": ["hessian", "ggn"], "k": [1, 10, 100]},
    {"n": 5000, "sizes": [784, 64, 10], "epochs": 20, "n_runs": 3},
    quick=Size({"matrix": ["ggn"], "k": [2]},
               {"n": 50, "sizes": [10, 5, 3], "epochs": 1, "n_runs": 1}),
    tables=tables, environment="tools",
)  # fmt: skip
