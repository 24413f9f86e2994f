"""How much faster is further training without each of many rows together than in a plain loop?

The loop is what one writes in plain torch.  Both run in this process on the same seed; the net is
the paper's: two hidden layers, 927 rows of 8 features.
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.harness import Size, Study, Table, cost_of, number, plain_loop, ready
from benchmarks.measures.plain_loop import loop
from benchmarks.problems.nets import stack_of_layers
from influencekit import FurtherTraining, Training, as_task


def row(job, width, optimizer, threads, left_out, rows, features, queries, epochs, batch_size, lr):
    torch.set_num_threads(threads or torch.get_num_threads())
    rng = torch.Generator().manual_seed(0)
    X = torch.randn(rows, features, generator=rng)
    y = torch.sin(X.sum(1, keepdim=True)) + 0.1 * torch.randn(rows, 1, generator=rng)
    data, asked = TensorDataset(X, y), (X[:queries] + 0.01, y[:queries])
    torch.manual_seed(0)
    module = stack_of_layers((features, width, width, 1))
    how = {"optimizer": optimizer, "lr": lr, "epochs": epochs, "batch_size": batch_size}

    def together(left_out):
        horizons = range(1, epochs + 1)
        training = Training(optimizer.lower(), lr, horizons=horizons, batch_size=batch_size)
        further = FurtherTraining(
            training=training, left_out=left_out, n_repeats=1, removal="drop", engine="stacked",
            random_state=0,
        )  # fmt: skip
        further.fit(as_task(module, loss=nn.MSELoss()), X, y)
        return int(further.seeds_[0]), further.measure(*asked).scores

    _ = together([0]), loop(module, data, asked, 0, [None], **how)  # one-time imports
    chosen = np.arange(left_out) * rows // left_out
    ready()
    ours, (seed, scores) = cost_of(lambda: together(chosen))
    runs = [None, *chosen.tolist()]
    plain, outputs = cost_of(lambda: loop(module, data, asked, seed, runs, **how))
    expected = np.moveaxis(outputs[:1] - outputs[1:], 0, -1)
    return {
        "left_out": left_out, "rows": rows, "epochs": epochs, **ours,
        "used_threads": torch.get_num_threads(), "seconds_together": ours["seconds"],
        "seconds_loop": plain["seconds"], "ratio": plain["seconds"] / ours["seconds"],
        "cpu_ratio": plain["cpu_seconds"] / ours["cpu_seconds"],
        "max_difference": float(np.abs(scores - expected).max()),
        "largest_score": float(np.abs(expected).max()),
    }  # fmt: skip


def tables(rows):
    keys = ("used_threads", "seconds_loop", "seconds_together", "ratio", "max_difference")
    lines = [[str(r["width"]), r["optimizer"], *(number(r[k]) for k in keys)] for r in rows]
    head = ["hidden width", "optimizer", "threads", "loop, s", "stacked, s", "ratio", "difference"]
    r = rows[0]
    text = (f"{r['epochs']} further epochs without each of {r['left_out']} rows of {r['rows']}, "
            f"width {r['width']}, against a torch loop")  # fmt: skip
    off = f"{r['max_difference']:.0e} of scores up to {r['largest_score']:.0e}"
    loop = plain_loop(text, r["seconds_together"], r["seconds_loop"], off)
    return {"loop and stack": Table(head, lines), "plain loop": loop}


def key(cell):
    more = "/" + "-".join(str(cell[axis]) for axis in ("width", "optimizer", "threads"))
    return "short/further_training" + more.replace("/128-SGD-None", "")


ONE = {"job": ["further_training"], "width": [128], "optimizer": ["SGD"], "threads": [None]}
STUDY = Study(
    __doc__, row, [ONE, {**ONE, "threads": [1]}, {**ONE, "optimizer": ["Adam"], "threads": [1]},
                   {**ONE, "width": [32], "threads": [1]}],
    {"left_out": 100, "rows": 927, "features": 8, "queries": 103, "epochs": 5, "batch_size": 128,
     "lr": 0.03},
    quick=Size(ONE, {"left_out": 3, "rows": 64, "queries": 5, "epochs": 1}),
    small=Size(ONE, {"left_out": 50}), tables=tables, key=key, fresh=True, limit=600,
)  # fmt: skip
