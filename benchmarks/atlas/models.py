"""Models of a ground truth are trained, and their weights named as a file names them."""

from __future__ import annotations

from pathlib import Path

import torch

from influencekit.datasets._truth_models import is_net, new_model
from influencekit.training import KeepCheckpoints, TrajectoryRecorder

TRUTHS = Path(__file__).parent / "truths"
N_CHECKPOINTS = 8


def fitted(recipe: dict, X, y, start: str = "") -> tuple:
    """A model, and its weights under the names that a file has."""
    model = new_model(recipe)
    torch.manual_seed(0)
    if not is_net(recipe):
        model = model.fit(X, y)
        learned = [key for key in ("coef_", "intercept_", "classes_") if hasattr(model, key)]
        trees = recipe["kind"].startswith("boosting")
        kept = {} if trees else {f"{start}weights.{k}": getattr(model, k) for k in learned}
        return model, kept
    keep = KeepCheckpoints(n=N_CHECKPOINTS)
    model.set_params(callbacks=[("keep", keep), ("run", TrajectoryRecorder())]).fit(X, y)
    states = {f"{start}weights.{k}": v.numpy() for k, v in model.module_.state_dict().items()}
    for number, state in enumerate(dict(model.callbacks_)["keep"].checkpoints_.values()):
        states |= {f"{start}checkpoints.{number}.{k}": v.numpy() for k, v in state.items()}
    return model, states
