"""How much faster are many small nets retrained at once than one skorch fit after the other?

Both run in this process on the same subsets and seeds.  In float32 an activation that rounds to the
other side of a kink can move one net by 1e-3; ``--set dtype=float64`` shows that all else agrees.
"""

import numpy as np
import torch
from skorch.dataset import ValidSplit

from benchmarks.harness import Size, Study, Table, cost_of, number, plain_loop, ready
from benchmarks.problems.nets import skorch_net
from influencekit.training import retrain_on_subsets

N_FEATURES, N_CLASSES, N_QUERY = 64, 10, 100


class Net(torch.nn.Module):
    """Features, one hidden layer, logits, in a dtype."""

    def __init__(self, width=32, dropout=0.0, dtype="float32"):
        super().__init__()
        kind = getattr(torch, dtype)
        self.hidden = torch.nn.Linear(N_FEATURES, width, dtype=kind)
        self.dropout = torch.nn.Dropout(dropout)
        self.out = torch.nn.Linear(width, N_CLASSES, dtype=kind)

    def forward(self, X):
        return self.out(self.dropout(torch.relu(self.hidden(X))))


def row(job, models, rows, epochs, batch_size, width, dropout, optimizer, lr, unequal, dtype):
    rng, n = np.random.default_rng(0), 2 * rows
    X = rng.normal(size=(n, N_FEATURES)).astype(dtype)
    y = (X @ rng.normal(size=(N_FEATURES, N_CLASSES))).argmax(axis=1)
    masks = rng.random((models, n)) < 0.5 if unequal else None
    recipe = {"optimizer": getattr(torch.optim, optimizer), "lr": lr, "max_epochs": epochs}
    net = skorch_net(Net, recipe, batch_size=batch_size, module__width=width,
                     module__dropout=dropout, module__dtype=dtype,
                     train_split=ValidSplit(5, stratified=True))  # fmt: skip
    data, costs, outputs = (X, y, X[:N_QUERY], y[:N_QUERY]), {}, {}
    ready()
    for engine in ("stacked", "joblib"):
        retrain_on_subsets(net, *data, n_subsets=2, engine=engine, random_state=1)
        how = {"n_subsets": models, "masks": masks, "n_jobs": 1, "random_state": 0}
        costs[engine], found = cost_of(
            lambda how=how, e=engine: retrain_on_subsets(net, *data, engine=e, **how)
        )
        outputs[engine] = found.outputs
    stacked, alone = costs["stacked"], costs["joblib"]
    return {
        "models": models, "rows": rows, "epochs": epochs, "width": width,
        "threads": torch.get_num_threads(), **stacked, "seconds_stacked": stacked["seconds"],
        "seconds_joblib": alone["seconds"], "peak_mb_joblib": alone["peak_mb"],
        "cpu_ratio": alone["cpu_seconds"] / stacked["cpu_seconds"],
        "ratio": alone["seconds"] / stacked["seconds"],
        "max_difference": float(np.abs(outputs["stacked"] - outputs["joblib"]).max()),
    }  # fmt: skip


def tables(rows):
    keys = ("models", "rows", "epochs", "width", "threads", "seconds_joblib", "seconds_stacked",
            "ratio", "cpu_ratio", "max_difference")  # fmt: skip
    r = rows[0]
    text = (f"training {r['models']} nets of width {r['width']} on {r['rows']} rows, {r['epochs']} "
            "epochs, against skorch one by one")  # fmt: skip
    difference = f"{r['max_difference']:.0e} of an output"
    loop = plain_loop(text, r["seconds_stacked"], r["seconds_joblib"], difference)
    lines = [[number(r[k]) for k in keys] for r in rows]
    return {"stacked": Table(list(keys), lines), "plain loop": loop}


STUDY = Study(
    __doc__, row, {"job": ["stacked_training"]},
    {"models": 100, "rows": 500, "epochs": 15, "batch_size": 64, "width": 32, "dropout": 0.0,
     "optimizer": "SGD", "lr": 0.1, "unequal": False, "dtype": "float32"},
    quick=Size(settings={"models": 3, "rows": 60, "epochs": 1}),
    small=Size(settings={"models": 50}),
    tables=tables, key="short/{job}", fresh=True, limit=600,
)  # fmt: skip
