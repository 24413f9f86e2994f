"""Methods of influencekit as functions of a ground truth."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import torch

from benchmarks.atlas.score import NotForThisModel
from influencekit import (
    TRAK,
    AdamWInfluence,
    GradCos,
    GradDot,
    InfluenceFunction,
    LossBaseline,
    RunAverage,
    SGDInfluence,
    TreeInfluence,
)
from influencekit.datasets._ground_truth import GroundTruth
from influencekit.datasets._truth_language import is_language
from influencekit.datasets._truth_models import is_net
from influencekit.exceptions import InfluenceKitWarning
from influencekit.training import TrajectoryRecorder, record_trajectory
from influencekit.values import KNNShapley

#: Tokens of the language model.
N_TOKENS = 512


def _has_trees(truth: GroundTruth) -> bool:
    return truth.recipe["model"]["kind"].startswith("boosting")


def _scores(attributor, truth: GroundTruth) -> np.ndarray:
    if _has_trees(truth):
        raise NotForThisModel("trees have no gradients")
    return _of(attributor, truth)


def _of(attributor, truth: GroundTruth) -> np.ndarray:
    return _fitted_scores(attributor, truth.model, truth)


def _fitted_scores(attributor, model, truth: GroundTruth) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InfluenceKitWarning)
        fitted = attributor.fit(model, truth.X, truth.y)
        return fitted.score(truth.X_query, truth.y_query)


def random(truth: GroundTruth) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(len(truth.X_query), len(truth.X)))


def loss(truth: GroundTruth) -> np.ndarray:
    return _scores(LossBaseline(), truth)


def same_label(truth: GroundTruth) -> np.ndarray:
    """Nearness in the inputs, with the sign of the label; numbers by how near they are.

    Of texts without labels: cosines of the square roots of how often each token is there.
    """
    if is_language(truth.recipe["model"]):
        return _cosines(_counts(truth.X_query), _counts(truth.X))
    X, Q = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (truth.X, truth.X_query))
    near = 1 / (1 + np.sqrt(((Q[:, None] - X[None]) ** 2).sum(-1)))
    return near * _agreement(truth)


def hidden_layer(truth: GroundTruth) -> np.ndarray:
    """Cosines of what the net's last layer is given, with the sign of the label.

    Of a language model: of its mean over tokens, an embedding of the text.
    """
    if is_language(truth.recipe["model"]):
        return _cosines(_embedded(truth, truth.X_query), _embedded(truth, truth.X))
    if not is_net(truth.recipe["model"]):
        raise NotForThisModel("the model has no hidden layer")
    module, found = truth.model.module_, []
    with module.layers[-1].register_forward_pre_hook(lambda _, given: found.append(given[0])):
        for rows in (truth.X_query, truth.X):
            with torch.no_grad():
                module(torch.as_tensor(rows))
    Q, X = (torch.nn.functional.normalize(part).double().numpy() for part in found)
    return Q @ X.T * _agreement(truth)


def _counts(items: list[dict]) -> np.ndarray:
    return np.sqrt([np.bincount(item["input_ids"], minlength=N_TOKENS) for item in items])


def _embedded(truth: GroundTruth, items: list[dict]) -> np.ndarray:
    with torch.no_grad():
        found = [truth.model.model(input_ids=torch.as_tensor(item["input_ids"])[None])
                 for item in items]  # fmt: skip
    return np.stack([one.last_hidden_state[0].double().mean(dim=0).numpy() for one in found])


def _cosines(Q: np.ndarray, X: np.ndarray) -> np.ndarray:
    Q, X = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (Q, X))
    return Q @ X.T


def _agreement(truth: GroundTruth) -> np.ndarray:
    """1 for the query's label and -1 for others; for numbers 1 minus their distance."""
    y, u = truth.y.reshape(-1), truth.y_query.reshape(-1)
    if y.dtype.kind == "f":
        return 1 - np.abs(u[:, None] - y)
    return np.where(u[:, None] == y, 1.0, -1.0)


def graddot(truth: GroundTruth) -> np.ndarray:
    return _scores(GradDot(output=truth.output), truth)


def gradcos(truth: GroundTruth) -> np.ndarray:
    return _scores(GradCos(output=truth.output), truth)


def trak(truth: GroundTruth) -> np.ndarray:
    return _scores(TRAK(projection_dim=512, random_state=0), truth)


def influence(truth: GroundTruth) -> np.ndarray:
    return _scores(InfluenceFunction(output=truth.output, random_state=0), truth)


def random_weights(truth: GroundTruth) -> np.ndarray:
    """A sanity check: the same, of a net that learned nothing."""
    if is_language(truth.recipe["model"]):
        net = truth.new_model()
        torch.manual_seed(1)
        start = type(net)(net.config).state_dict()
        net.load_state_dict(start)
        return _fitted_scores(InfluenceFunction(output=truth.output, random_state=0), net, truth)
    if not is_net(truth.recipe["model"]):
        raise NotForThisModel("the model has no weights before it is trained")
    net = truth.new_model()
    torch.manual_seed(1)
    net.initialize()
    return _fitted_scores(InfluenceFunction(output=truth.output, random_state=0), net, truth)


def ekfac(truth: GroundTruth) -> np.ndarray:
    return _scores(InfluenceFunction("ekfac", output=truth.output, random_state=0), truth)


def fisher(truth: GroundTruth) -> np.ndarray:
    return _scores(InfluenceFunction("fisher", output=truth.output, random_state=0), truth)


def _average(attributor, truth: GroundTruth) -> np.ndarray:
    if not truth.checkpoints:
        raise NotForThisModel("the model has no run")
    return _scores(RunAverage(attributor, checkpoints=truth.checkpoints), truth)


def average(truth: GroundTruth) -> np.ndarray:
    return _average(InfluenceFunction(output=truth.output, random_state=0), truth)


def average_trak(truth: GroundTruth) -> np.ndarray:
    return _average(TRAK(projection_dim=512, random_state=0), truth)


def derivative(truth: GroundTruth) -> np.ndarray:
    """The derivative of the run itself, which is recorded again under its seed."""
    recipe = truth.recipe["model"]
    if is_language(recipe):
        return _derivative_of_language(truth)
    if not is_net(recipe):
        raise NotForThisModel("the model has no run")
    net = truth.new_model().set_params(callbacks=[("run", TrajectoryRecorder())])
    torch.manual_seed(truth.recipe["settings"]["seed"])
    net.fit(truth.X, truth.y)
    if not np.allclose(net.predict_proba(truth.X_query), truth.model.predict_proba(truth.X_query),
                       atol=1e-3):  # fmt: skip
        raise NotForThisModel("the run under its seed ends elsewhere on this machine")
    made = SGDInfluence if recipe["optimizer"] == "sgd" else AdamWInfluence
    return _fitted_scores(made(output=truth.output), net, truth)


def _derivative_of_language(truth: GroundTruth) -> np.ndarray:
    from benchmarks.atlas.language import train

    net = truth.new_model()
    recorder = train(net, truth.X, truth.recipe["model"], truth.recipe["settings"]["seed"],
                     record=partial(record_trajectory, n_rows=len(truth.X)))  # fmt: skip
    method = AdamWInfluence(trajectory=recorder.trajectory_, output=truth.output)
    return _fitted_scores(method, net, truth)


def trees(truth: GroundTruth) -> np.ndarray:
    if not _has_trees(truth):
        raise NotForThisModel("for trees only")
    return _of(TreeInfluence(), truth)


def knn_shapley(truth: GroundTruth) -> np.ndarray:
    if truth.y is None:
        raise NotForThisModel("the texts have no labels")
    return _of(KNNShapley(), truth)


#: By the name that tables show.
METHODS = {
    "Random": random, "Loss": loss, "Near rows of the same label": same_label,
    "Hidden layer, same label": hidden_layer, "GradDot": graddot, "GradCos": gradcos,
    "TRAK": trak, "InfluenceFunction": influence, "InfluenceFunction, fisher": fisher,
    "InfluenceFunction, ekfac": ekfac,
    "RunAverage": average, "RunAverage, TRAK": average_trak,
    "InfluenceFunction, random weights": random_weights,
    "TreeInfluence": trees, "KNNShapley": knn_shapley, "SGDInfluence, AdamWInfluence": derivative,
}  # fmt: skip
