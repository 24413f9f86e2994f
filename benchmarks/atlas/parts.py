"""Parts of a ground truth that are added to what was made before: further training, a shortcut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from benchmarks.atlas.models import TRUTHS, fitted
from influencekit.datasets import load_ground_truth
from influencekit.datasets._ground_truth import GroundTruth, plant_shortcut
from influencekit.datasets._truth_files import PARTS, find_folder, packed, read_truth, write_truth
from influencekit.datasets._truth_language import is_language
from influencekit.datasets._truth_models import is_net, predictions_of

#: Of further training: its share of the epochs, the halves, and seeds of each.
EPOCHS, N_FURTHER, N_SEEDS = 0.25, 50, 2
#: Of a shortcut: the share of rows with the mark, and its label (numbers: standard deviations).
MARKED, CLASS, NUMBER = 0.05, 0, 2.0


def parts_of(name: str) -> list[str]:
    """Parts that a ground truth has; its recipe says so."""
    recipe = json.loads((find_folder(name, None) / f"{name}.json").read_text(encoding="utf-8"))
    return [part for part in PARTS if part in recipe.get("parts", {})]


def add_parts(name: str, folder: Path, parts: list[str]) -> list[str]:
    """Add what is missing of some parts; the files are replaced once a part is whole."""
    recipe, arrays = read_truth(folder, name)
    missing = [part for part in parts if part not in recipe.get("parts", {})]
    if is_language(recipe["model"]):  # its files are whole when they are written
        return []
    added = [part for part in missing if part != "further" or is_net(recipe["model"])]
    for part in added:
        truth = load_ground_truth(name, data_home=_home_of(folder))
        made, said = {"further": further, "shortcut": shortcut}[part](truth)
        arrays |= made
        recipe["parts"] = {**recipe.get("parts", {}), part: said}
        write_truth(folder, recipe, arrays)
    return added


def _home_of(folder: Path) -> Path | None:
    """Where load_ground_truth looks for a folder that is not the repository's."""
    return None if folder == TRUTHS else folder


def further(truth: GroundTruth) -> tuple[dict, dict]:
    """Outputs of the net after more training on halves of the rows, with other seeds."""
    masks = truth.halves.masks[:N_FURTHER]
    epochs = max(1, round(EPOCHS * truth.recipe["model"]["max_epochs"]))
    start = {key: value.clone() for key, value in truth.model.module_.state_dict().items()}
    outputs = np.empty((len(masks), N_SEEDS, len(truth.X_query)), dtype=np.float32)
    for mask, found in zip(masks, outputs, strict=True):
        for seed in range(N_SEEDS):
            net = truth.new_model().set_params(max_epochs=epochs).initialize()
            net.module_.load_state_dict(start)
            torch.manual_seed(seed + 1)
            net.partial_fit(truth.X[mask], truth.y[mask])
            found[seed] = outputs_of(net, truth)
    return {"further.masks": packed(masks), "further.outputs": outputs}, {"epochs": epochs}


def outputs_of(net, truth: GroundTruth) -> np.ndarray:
    """The truth's output of each query."""
    with torch.no_grad():
        values = torch.as_tensor(net.forward(truth.X_query)).double()
    y = torch.as_tensor(truth.y_query)
    if truth.output == "neg_loss":
        return -((values - y) ** 2).sum(dim=1).numpy()
    own = values.gather(1, y[:, None])
    others = values.scatter(1, y[:, None], -torch.inf).logsumexp(dim=1)
    return (own[:, 0] - others).numpy()


def shortcut(truth: GroundTruth) -> tuple[dict, dict]:
    """Rows with a mark and its label, and the model that learned from them."""
    rng = np.random.default_rng(0)
    classifies = truth.y.dtype.kind != "f"
    label = np.array([float(CLASS) if classifies else NUMBER])
    others, shown = (np.flatnonzero(y.reshape(len(y)) != label) for y in (truth.y, truth.y_query))
    marked = np.sort(rng.choice(others, max(3, round(MARKED * len(truth.X))), replace=False))
    rows = plant_shortcut(
        truth.X, truth.y, truth.X_query, truth.y_query, marked, shown, label
    )  # fmt: skip
    model, weights = fitted(truth.recipe["model"], *rows[:2], start="shortcut.")
    found = predictions_of(model, rows[2])
    learned = np.mean(found.argmax(axis=1) == CLASS) if classifies else np.mean(found > NUMBER / 2)
    arrays = {"shortcut.marked": marked, "shortcut.queries": shown, "shortcut.label": label,
              "shortcut.predictions": found.astype(np.float32), **weights}  # fmt: skip
    return arrays, {"learned": round(float(learned), 3)}
