"""Processes that open one new study in one SQLite file at the same moment.

Prints, as JSON, what became of each, and the fingerprints of a question.
"""

import json
import multiprocessing
import sys

import numpy as np
import optuna
from sklearn.linear_model import Ridge

from influencekit import InfluenceFunction, SubsetOutputs, as_task
from influencekit.data import make_examples
from influencekit.selection._shared_study import open_study, question


def fingerprints():
    """Of a small search, to be compared between processes."""
    X, y = np.arange(12.0).reshape(6, 2) % 5, np.arange(6.0)
    task = as_task(Ridge().fit(X, y))
    data = make_examples(task, X, y)
    truth = SubsetOutputs(np.eye(6) > 0, np.ones((6, 1, 6)), np.zeros((6, 1)))
    found = question(truth, data, data, task, InfluenceFunction(), None, "spearman")
    return {name: part["fingerprint"] for name, part in found.items()}


def opening(barrier, results, url, part):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    asked = {"queries": {"fingerprint": part, "is": f"queries {part}"}}
    barrier.wait()
    try:
        open_study(url, "one", None, asked, {"random_state": int(part)})
        results.put((part, "opened"))
    except Exception as error:
        results.put((part, f"{type(error).__name__}: {error}"))


def together(url, parts):
    """Pairs of a process' question and "opened", or its error."""
    fork = multiprocessing.get_context("fork")  # the imports are done once
    barrier, results = fork.Barrier(len(parts)), fork.Queue()
    processes = [fork.Process(target=opening, args=(barrier, results, url, p)) for p in parts]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    return found


if __name__ == "__main__":
    optuna.create_study(storage="sqlite://")  # imports what storages need
    same, different = sys.argv[1:]
    report = {
        "same": together(same, ["1"] * 12),
        "different": together(different, ["1", "2"] * 3),
        "fingerprints": fingerprints(),
    }
    print(json.dumps(report))
