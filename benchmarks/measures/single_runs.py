"""What a recorded run does without sets of rows, and how well its derivative says so."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.measures.private import adjoint_growth
from influencekit import AdamWInfluence, InfluenceFunction, SGDInfluence
from influencekit.metrics import linear_datamodeling_score
from influencekit.training import rerun_without

SHARES = (0.1, 0.01)
#: Forms that can be asked for by name.
FORMS = ("hessian", "smoothed_hessian", "ggn")


def drawn_masks(n: int, share: float, n_masks: int, rng: np.random.RandomState) -> np.ndarray:
    """Masks that leave out a share of the rows."""
    masks = np.ones((n_masks, n), dtype=bool)
    for mask in masks:
        mask[rng.choice(n, max(1, round(share * n)), replace=False)] = False
    return masks


def lds_by_form(run, optimizer: str, seed: int, n_masks: int) -> dict:
    """LDS of each form, of "auto" and of the final model at both shares; what "auto" says."""
    made = AdamWInfluence if optimizer == "adamw" else SGDInfluence
    kind = {"trajectory": run.trajectory}
    own = run.task, run.X, run.y
    asked = {form: made(**kind, curvature=form) for form in FORMS}
    asked |= {"auto": made(**kind), "final model": InfluenceFunction()}
    fitted = {name: attributor.fit(*own) for name, attributor in asked.items()}
    scores = {name: f.score(run.X_test, run.y_test) for name, f in fitted.items()}
    auto = fitted["auto"]
    found = {
        "taken": auto.curvature_,
        "width": auto.smoothing_,
        "growth": adjoint_growth(auto, run),
    }
    rng = np.random.RandomState([seed, 19])
    for share in SHARES:
        masks = drawn_masks(len(run.X), share, n_masks, rng)
        outputs = rerun_without(*own, run.X_test, run.y_test, masks=masks,
                                trajectory=run.trajectory).outputs  # fmt: skip
        for name, table in scores.items():
            result = linear_datamodeling_score(outputs, masks, table)
            found[f"{name} {share:g}"] = float(result.mean)
        found[f"expected {share:g}"] = auto.expected_lds_[share]
    return found


def accuracy(run) -> float:
    with torch.no_grad():
        outputs = run.task.forward(torch.as_tensor(run.X_test))
    return float((outputs.argmax(-1).numpy() == run.y_test).mean())
