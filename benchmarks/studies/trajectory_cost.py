"""What do scores along a trajectory cost, in units of the training run itself?

A ReLU net 784-W-W-10 with AdamW on random images, trained with a plain loop, then recorded, and
swept back for one query and for 100 at once.  The number of training examples grows with the batch
while the number of steps stays, so that a cost that depended on n for each example would show.
"""

import torch
from torch import nn

from benchmarks.harness import Size, Study, Table, cost_of
from benchmarks.harness.tables import short
from benchmarks.problems.nets import stack_of_layers
from influencekit import AdamWInfluence, as_task
from influencekit.training import record_trajectory


def net(width):
    torch.manual_seed(0)
    return stack_of_layers((784, width, width, 10))


def train(module, X, y, batches, every=None):
    """Seconds of the run's steps, and its trajectory if it is recorded."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)

    def loop(tell):
        for rows in batches:
            tell(rows)
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(X[rows]), y[rows]).backward()
            optimizer.step()

    if every is None:
        return cost_of(lambda: loop(lambda rows: None))[0]["seconds"], None
    with record_trajectory(module, optimizer, len(X), every=every) as recorder:
        seconds = cost_of(lambda: loop(recorder.rows))[0]["seconds"]
    return seconds, recorder.trajectory_


def best(job, runs):
    return min(cost_of(job)[0]["seconds"] for _ in range(runs))


def row(net_and_batch, n_steps, n_queries, n_runs):
    width, batch = net_and_batch
    n = n_steps * batch
    X, y = torch.randn(n, 784), torch.randint(10, (n,))
    queries, targets = torch.randn(n_queries, 784), torch.randint(10, (n_queries,))
    batches = list(torch.randperm(n).split(batch))
    train(net(width), X, y, batches)  # warm up
    plain = min(train(net(width), X, y, batches)[0] for _ in range(n_runs))
    found = {"n_train": n, "training": plain}
    for name, every in (("every step", 1), ("recomputed", 10)):
        module = net(width)
        seconds, trajectory = train(module, X, y, batches, every)
        task = as_task(module, loss=nn.CrossEntropyLoss())
        influence = AdamWInfluence(trajectory, "hessian").fit(task, X, y)
        found[f"recording, {name}"] = seconds / plain
        sweep = best(lambda i=influence: i.score(queries[:1], targets[:1]), n_runs)
        found[f"sweep, {name}"] = sweep / plain
    together = best(lambda: influence.score(queries, targets), 1)
    few = range(min(5, n_queries))
    alone = best(lambda: [influence.score(queries[[i]], targets[[i]]) for i in few], 1) / len(few)
    return {**found, "queries at once": n_queries * alone / together}


def tables(rows):
    keys = [key for key in rows[0] if key not in ("net_and_batch", "n_train", "training")]
    lines = [[f"784-{r['net_and_batch'][0]}-{r['net_and_batch'][0]}-10", f"{r['n_train']:,}",
              short(r["training"], 3), *(short(r[key]) for key in keys)] for r in rows]  # fmt: skip
    return {"ratios": Table(["net", "n", "training, s", *keys], lines)}


STUDY = Study(
    __doc__, row, {"net_and_batch": [[16, 16], [16, 64], [16, 256], [128, 64], [128, 256]]},
    {"n_steps": 100, "n_queries": 100, "n_runs": 3},
    quick=Size({"net_and_batch": [[4, 8]]}, {"n_steps": 10, "n_queries": 2, "n_runs": 1}),
    tables=tables,
)  # fmt: skip
