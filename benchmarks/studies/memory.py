"""Is `max_memory` kept: by how much does the peak of memory grow in a fork for each budget?"""

import multiprocessing

import torch
from torch import nn

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.measure import forget_peak, memory
from benchmarks.problems import nets
from influencekit import TRAK, GradCos, GradDot, InfluenceFunction, as_task
from influencekit.exceptions import ResourceError

METHODS = {
    "GradDot": GradDot(), "GradCos": GradCos(), "default": InfluenceFunction(random_state=0),
    "TRAK": TRAK(projection_dim=512, random_state=0),
    **{f"{name}, 512": InfluenceFunction(name, projection_dim=512, random_state=0)
       for name in ("fisher", "ggn")},
    **{name: InfluenceFunction(name, 0.1, random_state=0)
       for name in ("ekfac", "logra", "datainf", "cg", "nystroem", "arnoldi")},
}  # fmt: skip
NETS = {  # with a width: 4 is the net of the warm-up
    "MLP": (lambda width=64: nets.MLP([64, 4 * width, width, 2]), lambda n: torch.randn(n, 64)),
    "CNN": (lambda width=8: nets.ResNet(width), lambda n: torch.randn(n, 3, 12, 12)),
    "transformer": (lambda width=32: nets.Transformer(200, 16, width),
                    lambda n: torch.randint(200, (n, 16))),
}  # fmt: skip


def scored(attributor, net, X, m):
    y, task = torch.arange(len(X)) % 2, as_task(net, loss=nn.CrossEntropyLoss())
    attributor.fit(task, X, y).score(X[:m], y[:m])


def grown(send, method, net, budget, n, m):
    """Send MB by which the peak grows after a small net was scored, and the error of a refusal."""
    torch.set_num_threads(1)
    (make, draw), attributor = NETS[net], METHODS[method].set_params(max_memory=f"{budget}MB")
    measured, X = make(), draw(n[net])
    before, refused = memory("VmHWM") or 0, None
    try:
        scored(attributor, make(4), X[:8], 8)
        forget_peak()
        before = memory("VmRSS") or 0
        scored(attributor, measured, X, m)
    except ResourceError as error:
        refused = str(error)
    send.send((((memory("VmHWM") or 0) - before) / 1e6, refused))


def row(method, net, budgets, n, m):
    forks = multiprocessing.get_context("fork")
    for budget in budgets:
        receive, send = forks.Pipe(False)
        fresh = forks.Process(target=grown, args=(send, method, net, budget, n, m))
        fresh.start()
        send.close()  # so that a fork that fails ends the wait
        mb, refused = receive.recv()
        fresh.join()
        kept = refused is None and mb <= 1.1 * budget + 30
        yield {"budget": budget, "mb": mb, "times": mb / budget, "kept": kept, "refused": refused}


def tables(rows):
    budgets = sorted({r["budget"] for r in rows})
    cells = {(r["method"], r["net"], r["budget"]): r for r in rows}
    said = {k: "refused" if r["refused"] else f"{r['mb']:.0f}" for k, r in cells.items()}
    pairs = dict.fromkeys(key[:2] for key in cells)
    lines = [[*pair, *(said.get((*pair, b), "") for b in budgets)] for pair in pairs]
    kept, times = sum(r["kept"] for r in rows), [r["times"] for r in rows]
    sums = [[f"{kept} of {len(rows)}", f"{max(times):.2f}", str(sum(t > 1.5 for t in times))]]
    heads = [["method", "net", *(f"{b} MB" for b in budgets)], ["kept", "worst", "over 1.5 times"]]
    return {"memory": Table(heads[0], lines), "kept": Table(heads[1], sums, 0)}


STUDY = Study(
    __doc__, row, {"method": list(METHODS), "net": list(NETS)},
    {"budgets": [50, 100, 200, 500], "n": {"MLP": 2000, "CNN": 300, "transformer": 300}, "m": 50},
    quick=Size({"method": ["GradDot"], "net": ["MLP"]}, {"n": {"MLP": 40}, "m": 4}), tables=tables,
)  # fmt: skip
