"""Fits and projected rows of texts, beside a forward and backward pass of the same texts."""

from __future__ import annotations

from functools import partial
from statistics import median

import numpy as np
import torch
from torch import nn

from benchmarks.harness import cost_of, ready
from benchmarks.measures import other_nets
from benchmarks.problems import language
from influencekit import GradDot, InfluenceFunction, as_task
from influencekit.curvature import LoGra
from influencekit.curvature.layers._layer_projections import LayerProjections
from influencekit.data import make_examples
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent, make_projection
from influencekit.models.snapshot._chosen_layers import task_of_layers

DIM, RANK = 512, 32
#: Name: what is fitted, and how often it reads the texts.
FITS = {
    "GradDot": (GradDot, 0),
    "LoGra": (lambda: InfluenceFunction("logra", random_state=0), 2),
    "LoGra, random sides": (lambda: InfluenceFunction(LoGra(init="random"), random_state=0), 1),
    "Fisher": (
        lambda: InfluenceFunction("fisher", projection_dim=DIM, random_state=0),
        1,
    ),
    "EK-FAC": (lambda: InfluenceFunction("ekfac", random_state=0), 2),
}


def one_pass(net, rows: list[dict]) -> None:
    """A forward and a backward pass of training, in batches of 16."""
    for start in range(0, len(rows), 16):
        net(**language.stacked(rows[start : start + 16])).loss.backward()
    net.zero_grad()


def inner_layers(net) -> list[str]:
    """Linear layers of attention and MLP: what bergson and we both take in the same way."""
    found = ((name, module) for name, module in net.named_modules() if name.startswith("model."))
    return [name for name, module in found if isinstance(module, nn.Linear)]


class Inverses:
    """CPU seconds of eigendecompositions and orthogonal bases, while it is entered."""

    NAMES = ("eigh", "qr")

    def __enter__(self):
        self.plain = {name: getattr(torch.linalg, name) for name in self.NAMES}
        self.seconds = 0.0
        for name, plain in self.plain.items():
            setattr(torch.linalg, name, partial(self._timed, plain))
        return self

    def __exit__(self, *_):
        for name, plain in self.plain.items():
            setattr(torch.linalg, name, plain)

    def _timed(self, plain, *args, **kwargs):
        cost, found = cost_of(lambda: plain(*args, **kwargs))
        self.seconds += cost["cpu_seconds"]
        return found


def gradients_of(net, rows: list[dict], layers: list[str]) -> Gradients:
    """Gradients of the texts' losses at some layers."""
    task = task_of_layers(as_task(net), layers)
    return Gradients(GradientEngine(task), make_examples(task, rows), loss_cotangent(task))


def by_layers(net, rows: list[dict], layers: list[str]) -> torch.Tensor:
    """Rows of LoGra with random sides: each layer's gradient projected from both sides."""
    gradients = gradients_of(net, rows, layers)
    specs = gradients.engine.layout(gradients.examples).specs
    projections = LayerProjections.random(specs, RANK, 0, torch.empty(0))
    return torch.cat([found for _, found in gradients.results(projections)])


def projected(net, rows: list[dict], layers: list[str], kind: str) -> torch.Tensor:
    """Rows of the projected Fisher matrix."""
    gradients = gradients_of(net, rows, layers)
    how = {"projection": kind, "random_state": 0}
    return gradients.project(make_projection(gradients.engine, DIM, **how))


#: Name: our rows, and what bergson is told to give as many numbers in the same way.
ROWS = {
    "LoGra": (by_layers, {"projection_dim": RANK}),
    "Fisher": (partial(projected, kind="auto"), {"projection_dim": DIM,
                                                 "projection_target": "global"}),
    "Fisher, two-sided": (partial(projected, kind="two_sided"), {"projection_dim": 4}),
}  # fmt: skip


def in_turns(jobs: dict, n_runs: int) -> dict:
    """Median CPU seconds of each job."""
    runs: dict[str, list] = {key: [] for key in jobs}
    ready()
    for _ in range(n_runs):
        for key, job in jobs.items():
            runs[key].append(cost_of(job)[0]["cpu_seconds"])
    return {key: median(each) for key, each in runs.items()}


def fits(name: str, train, test, n_runs: int) -> dict:
    """CPU seconds of a fit, of its eigenvectors and of queries; medians, a pass in turns."""
    net, rows, queries = language.model(), language.items(train), language.items(test)
    make, n_reads = FITS[name]
    make().fit(net, rows[:32]).score(queries[:2])  # what is loaded at first use
    costs: dict[str, list] = {"pass": [], "fit": [], "query": []}
    inverses = []
    ready()
    for _ in range(n_runs):
        costs["pass"].append(cost_of(lambda: one_pass(net, rows))[0])
        attributor = make()
        with Inverses() as own:
            costs["fit"].append(cost_of(lambda a=attributor: a.fit(net, rows))[0])
        costs["query"].append(cost_of(lambda a=attributor: a.score(queries))[0])
        inverses.append(own.seconds)
    found = {key: median(cost["cpu_seconds"] for cost in each) for key, each in costs.items()}
    peak, inverse = max(c["peak_mb"] for c in costs["fit"] + costs["query"]), median(inverses)
    over = (found["fit"] - inverse) / (n_reads * found["pass"]) if n_reads else None
    return {**found, "peak_mb": peak, "reads": n_reads, "inverse": inverse, "over": over}


def rows_by(name: str, whose: str):
    """Function of a net and texts: their projected rows, ours or bergson's."""
    from benchmarks.peers import bergson_rows  # installed in an environment of its own

    own, options = ROWS[name]
    if whose == "ours":
        return lambda net, ids: own(net, language.items(ids), inner_layers(net))
    return lambda net, ids: bergson_rows.rows(
        net, torch.as_tensor(ids), inner_layers(net), **options
    )


def rows(name: str, train, _test, n_runs: int) -> dict:
    """CPU seconds of projected gradients, ours and bergson's in turns with a pass; medians."""
    net, items = language.model(), language.items(train)
    ways = {whose: rows_by(name, whose) for whose in ("ours", "bergson")}
    nets = {whose: language.model() for whose in ways}
    sizes = {whose: way(nets[whose], train[:32]).shape[1] for whose, way in ways.items()}
    jobs = {whose: partial(way, nets[whose], train) for whose, way in ways.items()}
    found = in_turns({"pass": partial(one_pass, net, items), **jobs}, n_runs)
    width = {"numbers": sizes["ours"], "others": sizes["bergson"]}
    return {**found, "ratio": found["ours"] / found["bergson"], **width}


def memory(whose: str, name: str, train, _test, _n_runs: int) -> dict:
    """Peak of memory of projected rows in a process of their own, rows of few texts before."""
    net, way = language.model(), rows_by(name, whose)
    way(net, train[:2])  # so few that what they leave free does not hide a batch
    ready()
    return {"peak_mb": cost_of(lambda: way(net, train))[0]["peak_mb"]}


class Logits(nn.Module):
    """A language model as a function from tokens to logits."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, ids):
        return self.net(input_ids=ids, use_cache=False).logits


def products(_name: str, train, test, n_runs: int) -> dict:
    """CPU seconds of GradDot, and of plain ways in torch, in turns."""
    net, rows, queries = language.model(), language.items(train), language.items(test)
    ids, m = torch.as_tensor(np.concatenate([test, train])), len(test)
    plain = Logits(net).eval()

    def job(way, n):
        if way == "ours":
            return GradDot().fit(net, rows[:n]).score(queries)
        return getattr(other_nets, way)(plain, ids[: m + n, :-1], ids[: m + n, 1:], m)

    ways = ("ours", "vmap", "loop", "floor")
    found = {way: job(way, 8) for way in ways}
    off = float(np.abs(found["ours"] - found["loop"]).max() / np.abs(found["loop"]).max())
    costs = in_turns({way: partial(job, way, len(train)) for way in ways}, n_runs)
    fastest = min(costs["vmap"], costs["loop"])
    return {**costs, "ratio": costs["ours"] / fastest, "difference": off}
