"""A training run written out for autograd: every step a function of the examples' weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.func import functional_call

#: Autograd's derivative of a root at 0 is infinite; where a unit is dead this keeps NaN away.
SAFE_ROOT = True


@dataclass
class Run:
    """A plain torch training run in float64 that knows its batches.

    ``groups`` maps a prefix of parameter names to the options of its group.
    """

    module: torch.nn.Module
    X: torch.Tensor
    y: torch.Tensor
    optimizer: type
    options: dict
    groups: dict = field(default_factory=dict)
    batches: list = field(default_factory=list)
    rates: object = None  # step -> factor on every learning rate
    max_norm: float | None = None
    loss: object = staticmethod(torch.nn.functional.cross_entropy)
    free: dict | None = None  # name -> (mask, weights); the rest stays on its recorded path

    def param_groups(self):
        named = dict(self.module.named_parameters())
        taken, found = set(), []
        for prefix, options in self.groups.items():
            names = [n for n in named if n.startswith(prefix)]
            taken |= set(names)
            found.append(({"params": [named[n] for n in names], **options}, names))
        rest = [n for n in named if n not in taken]
        if rest:
            found.append(({"params": [named[n] for n in rest]}, rest))
        return found

    def train(self, recorder=None, optimizer=None):
        """The run itself, with torch's optimizer."""
        base = [g["lr"] for g in optimizer.param_groups]
        for step, rows in enumerate(self.batches):
            for group, lr in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = lr * (1.0 if self.rates is None else self.rates(step))
            if recorder is not None:
                recorder.rows(rows)
            optimizer.zero_grad()
            self.loss(self.module(self.X[rows]), self.y[rows]).backward()
            if self.max_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.max_norm)
            optimizer.step()

    def make_optimizer(self):
        return self.optimizer([group for group, _ in self.param_groups()], **self.options)

    def final(self, start, weights, renormalize=True):
        """Final parameters as a function of each occurrence's weight, by name."""
        defaults = self.make_optimizer().defaults
        options = {n: {**defaults, **g} for g, names in self.param_groups() for n in names}
        theta, state = dict(start), {n: {} for n in start}
        for step, rows in enumerate(self.batches):
            outputs = functional_call(self.module, theta, (self.X[rows],))
            losses = torch.stack(
                [self.loss(o[None], t[None]) for o, t in zip(outputs, self.y[rows], strict=True)]
            )
            w = weights[step]
            value = (w * losses).sum() / (w.sum() if renormalize else len(rows))
            names = list(theta)
            grads = torch.autograd.grad(value, [theta[n] for n in names], create_graph=True)
            if self.free is not None:
                grads = self.masked(grads, theta, rows, w, renormalize)
            if self.max_norm is not None:
                norm = torch.sqrt(sum((g * g).sum() for g in grads))
                if norm + 1e-6 > self.max_norm:
                    grads = [g * self.max_norm / (norm + 1e-6) for g in grads]
            factor = 1.0 if self.rates is None else self.rates(step)
            for n, g in zip(names, grads, strict=True):
                o = options[n]
                move = _sgd if self.optimizer is torch.optim.SGD else _adam
                decoupled = self.optimizer is torch.optim.AdamW
                theta[n] = move(theta[n], g, state[n], o, o["lr"] * factor, step + 1, decoupled)
                if self.free is not None:
                    theta[n] = self.on_path(n, theta[n])
        return theta

    def on_path(self, name, values):
        return torch.where(self.free[name][0], values, values.detach())

    def masked(self, grads, theta, rows, w, renormalize):
        """Gradients that answer moved parameters as if the mask stood for all coordinates."""
        still = {n: t.detach().requires_grad_(True) for n, t in theta.items()}
        outputs = functional_call(self.module, still, (self.X[rows],))
        losses = self.loss(outputs, self.y[rows], reduction="none")
        value = (w * losses).sum() / (w.sum() if renormalize else len(rows))
        weighed = torch.autograd.grad(value, list(still.values()), create_graph=True)
        found = []
        for n, both, by_weight in zip(theta, grads, weighed, strict=True):
            # g(θ, w) - g(θ', w) at θ' = θ is the part that θ moves
            moved = both - by_weight
            found.append(self.on_path(n, by_weight) + self.on_path(n, self.free[n][1] * moved))
        return found


def _sgd(theta, g, state, o, lr, k, decoupled):
    g = g + o["weight_decay"] * theta
    if o["momentum"]:
        b = g if k == 1 else o["momentum"] * state["b"] + (1 - o["dampening"]) * g
        state["b"] = b
        g = g + o["momentum"] * b if o["nesterov"] else b
    return theta - lr * g


def _adam(theta, g, state, o, lr, k, decoupled):
    b1, b2 = o["betas"]
    if decoupled:
        theta = theta - lr * o["weight_decay"] * theta
    else:
        g = g + o["weight_decay"] * theta
    zero = torch.zeros_like(theta)
    m = b1 * state.get("m", zero) + (1 - b1) * g
    v = b2 * state.get("v", zero) + (1 - b2) * g**2
    state.update(m=m, v=v)
    if o["amsgrad"]:
        v = torch.maximum(state.get("top", zero), v)
        state["top"] = v
    root = (v / (1 - b2**k)).sqrt()
    if SAFE_ROOT:
        root = torch.where(v > 0, torch.where(v > 0, v / (1 - b2**k), 1.0).sqrt(), 0.0)
    return theta - lr * (m / (1 - b1**k)) / (root + o["eps"])


def occurrence_gradients(run, start, queries, targets, renormalize=True):
    """df_i / dw of every occurrence, (n_queries, n_occurrences), f minus the loss."""
    weights = [torch.ones(len(r), dtype=torch.float64, requires_grad=True) for r in run.batches]
    start = {n: p.clone().requires_grad_(True) for n, p in start.items()}
    theta = run.final(start, weights, renormalize)
    outputs = functional_call(run.module, theta, (queries,))
    rows = []
    for o, t in zip(outputs, targets, strict=True):
        f = -run.loss(o[None], t[None])
        found = torch.autograd.grad(f, weights, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([torch.zeros(1) if g is None else g for g in found]))
    return torch.stack(rows).detach(), {n: p.detach() for n, p in theta.items()}
