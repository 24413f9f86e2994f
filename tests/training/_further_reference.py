"""Further training of one model at a time in plain torch: the slow reference."""

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from tests._shared.tables import random_classes


class Rows(Dataset):
    """Items are (row number, inputs, target)."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return i, self.X[i], self.y[i]


class NoisyNet(nn.Module):
    """Dropout of two kinds, and a layer with running statistics."""

    def __init__(self, dtype=torch.float64, batch_norm=True):
        super().__init__()
        self.first = nn.Linear(5, 8, dtype=dtype)
        self.norm = nn.BatchNorm1d(8, dtype=dtype) if batch_norm else nn.Identity()
        self.drop = nn.Dropout(0.4)
        self.second = nn.Linear(8, 3, dtype=dtype)

    def forward(self, X):
        h = self.drop(torch.tanh(self.norm(self.first(X))))
        h = nn.functional.dropout1d(h.reshape(-1, 4, 2), 0.3, self.training).flatten(1)
        return self.second(h)


def make_module(dtype=torch.float64, seed=0, **options):
    """A net whose running statistics are not those of a fresh one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = NoisyNet(dtype, **options)
        for _ in range(3):
            module(torch.randn(10, 5, dtype=dtype))
    return module.eval()


def make_data(n=21, dtype=torch.float64):
    X, y = random_classes(n, 5, 3, seed=1)
    return X.to(dtype), y


def epoch_of_batches(X, y, batch_size, loader, deleted):
    """Row numbers of the batches of the loader's next epoch, without the deleted rows."""
    batches = [numbers for numbers, _, _ in loader]
    if deleted is None:
        return batches
    order = [i for i in torch.cat(batches).tolist() if i not in deleted]
    return [torch.tensor(order[s : s + batch_size]) for s in range(0, len(order), batch_size)]


def train_alone(
    module,
    X,
    y,
    removed,
    seed,
    make_optimizer,
    *,
    removal="paired",
    batch_size=8,
    epochs=None,
    n_steps=None,
    horizons=(1,),
    loss=nn.functional.cross_entropy,
    weights=None,
    penalty=0.0,
    max_norm=None,
):
    """Modules of one run at each horizon, ``removed`` a set of rows (empty: the full run)."""
    model = copy.deepcopy(module).train()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.eval()
    optimizer = make_optimizer(model.parameters())
    w = torch.ones(len(X), dtype=X.dtype) if weights is None else weights
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(Rows(X, y), batch_size=batch_size, shuffle=True, generator=generator)
    deleted = removed if removal == "drop" else None
    found, steps, passed = [], 0, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own_stream = torch.get_rng_state()
        while True:
            for rows in epoch_of_batches(X, y, batch_size, loader, deleted):
                keep = torch.ones(len(rows), dtype=X.dtype)
                if removal == "paired":
                    keep = torch.tensor([float(i not in removed) for i in rows.tolist()]).to(X)
                losses = loss(model(X[rows]), y[rows], reduction="none")
                total = (w[rows] * keep).sum()
                value = (losses * w[rows] * keep).sum() / total if total > 0 else 0 * losses.sum()
                if removal == "subtract" and removed:
                    batch_stream = torch.get_rng_state()
                    torch.set_rng_state(own_stream)
                    own = sorted(removed)
                    taken = loss(model(X[own]), y[own], reduction="none")
                    own_stream = torch.get_rng_state()
                    torch.set_rng_state(batch_stream)
                    value = value - (taken * w[own]).sum() / w.sum()
                if penalty:
                    squares = sum(p.square().sum() for p in model.parameters())
                    value = value + 0.5 * penalty * squares
                optimizer.zero_grad()
                value.backward()
                if max_norm is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
                steps += 1
                if n_steps is not None and steps in horizons:
                    found.append(copy.deepcopy(model).eval())
                if steps == n_steps:
                    return found
            passed += 1
            if epochs is not None and passed in horizons:
                found.append(copy.deepcopy(model).eval())
            if passed == epochs:
                return found


def neg_losses(models, X, y, loss=nn.functional.cross_entropy):
    """Minus the loss of each test example (n_horizons, n_test), float64."""
    with torch.no_grad():
        values = [-loss(m.double()(X.double()), y, reduction="none") for m in models]
    return torch.stack(values).numpy()
