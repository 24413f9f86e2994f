"""Methods of other libraries: their files in ``benchmarks/peers`` on nets that tell classes."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks import peers
from benchmarks.atlas.score import NotForThisModel
from benchmarks.problems.tensors import Problem, Settings
from influencekit.datasets._ground_truth import GroundTruth


@dataclass
class NetOfTruth(Problem):
    """A net of any layers, in place of one whose sizes are read from it."""

    def fresh_model(self) -> nn.Module:
        return copy.deepcopy(self.model).eval()


def problem_of(truth: GroundTruth, damping: float) -> NetOfTruth:
    """A ground truth as what the other libraries are given."""
    kind = truth.recipe["model"]["kind"]
    if kind not in ("mlp", "cnn") or truth.y.dtype.kind == "f":
        raise NotForThisModel("the adapter has nets of linear and convolution layers, and classes")
    model = copy.deepcopy(truth.model.module_).eval()
    rows = [torch.as_tensor(a) for a in (truth.X, truth.y, truth.X_query, truth.y_query)]
    rate = truth.recipe["model"]["lr"]
    states = [(state, rate) for state in truth.checkpoints]
    settings = Settings(damping=damping, proj_dim=512)
    return NetOfTruth(truth.name, model, *rows, states, settings)


#: What refuses convolutions.
LINEAR_ONLY = {("pydvl", "ekfac_true")}


def _scores(truth: GroundTruth, library: str, method: str, damping: float) -> np.ndarray:
    if truth.recipe["model"]["kind"] == "cnn" and (library, method) in LINEAR_ONLY:
        raise NotForThisModel(f"{library} has this method for linear layers only")
    problem = problem_of(truth, damping)
    torch.manual_seed(0)
    return np.asarray(peers.load(library).METHODS[method](problem)[0], dtype=np.float64)


def bm25(truth: GroundTruth) -> np.ndarray:
    """BM25 of a query's words in each text, with the sign of the label; copies are first."""
    try:
        texts, shown = truth.texts()
    except ValueError:
        raise NotForThisModel("the rows are not texts") from None
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    words = bm25s.tokenize(shown, return_ids=False, show_progress=False)
    scores = np.stack([index.get_scores(own) for own in words]).astype(np.float64)
    if truth.y is None:
        return scores
    same = truth.y_query[:, None] == truth.y
    return np.where(same, scores, -scores)


#: The damping that all of them get where they have none of their own that works.
DAMPING = 0.01
CHOSEN = (
    "dattri tracin", "dattri trak", "dattri cg", "dattri datainf", "dattri ekfac_empirical",
    "captum tracin", "traker trak", "pydvl ekfac_true", "pydvl nystroem_fisher",
    "kronfluence ekfac", "pydvl cg", "captum arnoldi",
)  # fmt: skip
#: By the name that tables show.
METHODS = {
    f"{library}: {method}": partial(_scores, library=library, method=method, damping=DAMPING)
    for library, method in map(str.split, CHOSEN)
}
METHODS["bm25s: BM25"] = bm25
