"""What the study of language models measures of a training by the Trainer."""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager

import numpy as np
import torch
from scipy.stats import spearmanr
from torch.optim import Optimizer

from benchmarks.harness import cost_of
from benchmarks.problems import language
from influencekit import AdamWInfluence, GradDot, InfluenceFunction, as_task
from influencekit.data import make_examples
from influencekit.training import TrainerCheckpoints, TrainerRecorder
from influencekit.training._trainer_callbacks import trainer_callbacks
from influencekit.training.trajectory._replay import Replay


def recorder_of(run):
    """The recorder of a Trainer, or None."""
    found = [c for c in trainer_callbacks(run) if isinstance(c, TrainerRecorder)]
    return found[0] if found else None


@contextmanager
def own_time(callbacks):
    """A list whose sum is the CPU seconds that callbacks of a Trainer and their hooks take."""
    spent: list[float] = []

    def watched(function):
        def call(*args, **kwargs):
            start = time.process_time()
            found = function(*args, **kwargs)
            spent.append(time.process_time() - start)
            return found

        return call

    plain = Optimizer.register_step_pre_hook
    Optimizer.register_step_pre_hook = lambda own, hook: plain(own, watched(hook))
    for callback in callbacks:
        for name in ("on_train_begin", "on_epoch_begin", "on_step_begin", "on_train_end"):
            setattr(callback, name, watched(getattr(callback, name)))
    try:
        yield spent
    finally:
        Optimizer.register_step_pre_hook = plain


def kept_mb(run) -> float:
    """Tensors that the callbacks of a Trainer keep."""
    total = 0
    for callback in trainer_callbacks(run):
        if isinstance(callback, TrainerCheckpoints):
            kept = callback.checkpoints_.values()
        else:
            kept = [t for s in callback.trajectory_.snapshots.values() for t in s.tensors.values()]
        total += sum(t.nbytes for state in kept for t in state.values())
    return total / 2**20


def equal_weights(one, other) -> bool:
    """Whether two trainings end with the same bits."""
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def replay_error(run, tokens) -> float | None:
    """Largest distance of a replayed snapshot from the recorded one, as a share of the way."""
    recorder = recorder_of(run)
    if recorder is None:
        return None
    task, trajectory = as_task(run), recorder.trajectory_
    examples = make_examples(task, run.train_dataset)
    replay = Replay(task, trajectory, examples, np.arange(len(tokens)))
    worst = 0.0
    for start, end in trajectory.segments():
        last = replay.states(start, end)[-1]
        found = replay.advance(last, end - 1, replay.gradient(last.theta, end - 1)).theta
        first, recorded = replay.snapshot(start).theta, replay.snapshot(end).theta
        worst = max(worst, float((found - recorded).norm() / (recorded - first).norm()))
    return worst


def without_single_texts(train, test, n_reruns):
    """Changes of the test losses (n_test, n_reruns), the recorded run, and the texts left out."""

    def trained(silent=(), callbacks=()):
        run = language.trainer(language.model(), language.items(train, silent), callbacks)
        run.train()
        return run

    run = trained(callbacks=(TrainerRecorder(),))
    removed = np.random.default_rng(0).permutation(len(train))[:n_reruns]
    full = language.losses(run.model, test)
    changes = [language.losses(trained({int(i)}).model, test) - full for i in removed]
    return np.stack(changes, axis=1), run, removed


def removal(train, test, n_reruns, _n_halves, _n_runs):
    """Scores along a recorded run against reruns without single texts."""
    truth, run, removed = without_single_texts(train, test, n_reruns)
    recorder = recorder_of(run)
    found = []
    for order in ("derivative", "finite"):
        attributor = AdamWInfluence(recorder, removal_order=order).fit(run, run.train_dataset)
        scores = attributor.score(language.items(test))[:, removed]
        rank = np.mean([spearmanr(a, b)[0] for a, b in zip(scores, truth, strict=True)])
        off = np.linalg.norm(scores - truth) / np.linalg.norm(truth)
        found.append({"removal_order": order, "reruns": n_reruns, "Spearman": float(rank),
                      "relative error": float(off)})  # fmt: skip
    return found


def on_halves(train, test, n_halves, n_seeds=3):
    """A training with checkpoints, halves of its texts, and the outputs of trainings on them."""

    def trained(rows, seed, callbacks=()):
        run = language.trainer(
            language.model(), language.items(train[rows]), callbacks, seed, num_train_epochs=3
        )
        run.train()
        return run

    rng, n = np.random.default_rng(0), len(train)
    members = np.stack([rng.permutation(n) < n // 2 for _ in range(n_halves)])
    truth = [
        np.mean([-language.losses(trained(own, s).model, test) for s in range(1, 1 + n_seeds)], 0)
        for own in members
    ]
    return trained(np.arange(n), 0, (TrainerCheckpoints(n=8),)), members, np.stack(truth)


def lds(scores, members, truth) -> float:
    """Mean correlation of summed scores with the outputs of trainings on subsets."""
    sums = members @ scores.T
    return float(np.mean([spearmanr(a, b)[0] for a, b in zip(sums.T, truth.T, strict=True)]))


def cost(train, test, _n_reruns, _n_halves, _n_runs):
    """Seconds and memory of fits and queries, beside one pass of training over the same texts."""
    net, rows, queries = language.model(), language.items(train), language.items(test)
    one_pass = cost_of(lambda: _one_pass(net, rows))[0]
    found = []
    for name in ("logra", "ekfac"):
        influence = InfluenceFunction(name, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit, _ = cost_of(lambda f=influence: f.fit(net, rows))
            query, _ = cost_of(lambda f=influence: f.score(queries))
        found.append({"curvature": name, "a training pass, CPU s": one_pass["cpu_seconds"],
                      "fit, CPU s": fit["cpu_seconds"], "fit, MB": fit["peak_mb"],
                      "query, CPU s": query["cpu_seconds"], "query, MB": query["peak_mb"],
                      "fit, passes": fit["cpu_seconds"] / one_pass["cpu_seconds"]})  # fmt: skip
    return found


def _one_pass(net, rows):
    for start in range(0, len(rows), 16):
        net(**language.stacked(rows[start : start + 16])).loss.backward()
    net.zero_grad()


def float32(train, test, _n_reruns, _n_halves, _n_runs):
    """Errors of scores, relative to the largest, against float64 autograd of one text at a time."""
    found = []
    for name in ("all weights", "LoRA"):
        narrow, wide = (_adapted(name, dtype) for dtype in (torch.float32, torch.float64))
        exact = _by_autograd(wide, train, test)
        error = lambda scores, e=exact: float(abs(scores - e).max() / abs(e).max())  # noqa: E731
        rows, queries = language.items(train), language.items(test)
        ours, ours64 = (GradDot().fit(net, rows).score(queries) for net in (narrow, wide))
        theirs = error(_by_autograd(narrow, train, test))
        found.append({"trained": name, "error": error(ours), "error of float32 autograd": theirs,
                      "error in float64": error(ours64),
                      "within the bar": error(ours) <= max(3 * theirs, 1e-5)})  # fmt: skip
    return found


def _adapted(name, dtype):
    if name == "all weights":
        return language.model(dtype)
    import peft

    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    return peft.get_peft_model(language.model(), config).to(dtype)


def _by_autograd(net, train, test):
    wanted = [p for p in net.eval().parameters() if p.requires_grad]

    def gradients(tokens):
        rows = []
        for ids in torch.as_tensor(tokens):
            logits = net(input_ids=ids[None]).logits[0, :-1]
            loss = torch.nn.functional.cross_entropy(logits, ids[1:])
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, wanted)]))
        return torch.stack(rows)

    return (gradients(test) @ gradients(train).T).double().numpy()


def table(kind, number, rows):
    """A table of all that the rows hold beside their cell."""
    keys = [key for key in (rows[0] if rows else {}) if key not in ("measured", "n_train")]
    return kind(keys, [[_shown(key, row[key], number) for key in keys] for row in rows])


def _shown(key, value, number) -> str:
    """A cell; a peak below what was held before is no memory."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(max(0.0, value) if key.endswith("MB") else value)
