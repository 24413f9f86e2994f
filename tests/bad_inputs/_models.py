"""Models and losses without a gradient per example: what is given, what the refusal says."""

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from influencekit import GradDot, InfluenceFunction, TracIn, TreeInfluence, as_task
from influencekit.values import DataOOB
from tests.bad_inputs._world import (
    TARGET,
    X_QUERY,
    Y_QUERY,
    Linear,
    X,
    Y,
    classifier,
    fit,
    forward,
    net,
    regressor,
    retrain,
    skorch_net,
    task,
)

NOISE = torch.Generator().manual_seed(0)


def of(function, n_out=2, **tensors):
    return lambda: fit(forward(function, n_out, **tensors)).score(X_QUERY, Y_QUERY)


def loss(function, n_out=2, y=Y):
    return lambda: fit(as_task(net(n_out), function), X, y).score(X_QUERY, y[: len(X_QUERY)])


def batch_norm(**values):
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    for name, value in values.items():
        getattr(module[1], name).fill_(value)
    return lambda: fit(as_task(module, nn.CrossEntropyLoss()))


def weighted(value):
    module = net()
    nn.init.constant_(module[0].weight, value)
    return lambda: fit(as_task(module, nn.CrossEntropyLoss())).score(X_QUERY, Y_QUERY)


def coefficients(value):
    model = Ridge().fit(X, TARGET)
    model.coef_[0] = value
    return lambda: fit(model, X, TARGET)


def counting(module, X):
    module.calls += 1
    return module.layer(X) * (1 + module.calls)


def python_counter(module, X):
    module.seen = getattr(module, "seen", 0) + 1
    return module.layer(X) * module.seen


def running_mean(module, X):
    module.mean = 0.9 * module.mean + 0.1 * X.mean(0)
    return module.layer(X - module.mean)


def moves_weights(module, X):
    with torch.no_grad():
        module.layer.weight.mul_(1.01)
    return module.layer(X)


FORWARD = [
    ("buffer_nan", batch_norm(running_mean=float("nan")), "model; buffer '1.running_mean'; NaN"),
    ("buffer_infinite", batch_norm(running_var=float("inf")),
     "model; buffer '1.running_var'; infinity"),
    ("buffer_of_ones_own_nan",
     of(lambda m, X: m.layer(X) + m.shift, shift=torch.full((2,), float("nan"))),
     "model; buffer 'shift'; NaN"),
    ("parameter_nan", weighted(float("nan")), "model; parameter '0.weight'; NaN"),
    ("weights_infinite", weighted(float("inf")), "model; parameter '0.weight'; infinity"),
    ("weights_overflow", of(lambda m, X: (m.layer(X) * 1e30) ** 2), "model; outputs; NaN or inf"),
    ("weights_huge", lambda: fit(_huge()), "model; outputs; NaN or inf"),
    ("forward_nan", of(lambda m, X: m.layer(X) / 0 * 0), "model; outputs; NaN or inf"),
    ("coefficients_nan", coefficients(np.nan), "model; NaN"),
    ("coefficients_infinite", coefficients(np.inf), "model; infinity"),
    ("forward_counts", of(counting, calls=torch.zeros(())), "model; buffer 'calls'; each call"),
    ("forward_counts_in_python", of(python_counter), "model; two calls; counts"),
    ("forward_running_mean", of(running_mean, mean=torch.zeros(3)),
     "model; buffer 'mean'; each call"),
    ("forward_moves_weights", of(moves_weights), "model; parameter 'layer.weight'; each call"),
    ("forward_random", of(lambda m, X: m.layer(X + torch.randn(X.shape, generator=NOISE))),
     "model; two calls; random"),
    ("forward_dropout_always_on", of(lambda m, X: m.layer(F.dropout(X, 0.5, training=True))),
     "model; two calls; random"),
    ("forward_batch_mean", of(lambda m, X: m.layer(X - X.mean(0))), "model; other examples"),
    ("forward_softmax_over_batch", of(lambda m, X: m.layer(X).softmax(0)), "model; other examples"),
    ("forward_sorts_the_batch", of(lambda m, X: m.layer(X).sort(0)[0]), "model; other examples"),
    ("forward_in_place", of(lambda m, X: m.layer(X.add_(1)).add_(m.shift.add_(1)),
     shift=torch.zeros(2)), "model; buffer 'shift'; each call"),
    ("forward_none", of(lambda m, X: None), "model; NoneType"),
    ("forward_text", of(lambda m, X: "text"), "model; str"),
    ("forward_number", of(lambda m, X: 3.0), "model; float"),
    ("forward_array", of(lambda m, X: m.layer(X).detach().numpy()), "model; ndarray"),
    ("forward_empty_tuple", of(lambda m, X: ()), "model; tuple; none by name"),
    ("forward_dict_without_logits", of(lambda m, X: {"hidden": 1}), "model; 'hidden'; logits"),
    ("forward_scalar", of(lambda m, X: m.layer(X).sum()), "model; shape ()"),
    ("forward_one_row_for_all", of(lambda m, X: m.layer(X).mean(0, keepdim=True)), "model; shape"),
    ("forward_positions", of(lambda m, X: m.layer(X).argmax(1)), "model; int64"),
    ("forward_complex", of(lambda m, X: m.layer(X) + 1j), "model; complex"),
    ("forward_bool", of(lambda m, X: m.layer(X) > 0), "model; bool"),
    ("forward_detached", of(lambda m, X: m.layer(X).detach()), "model; no trainable; no_grad"),
    ("forward_through_numpy",
     of(lambda m, X: torch.tensor(m.layer(X).detach().numpy())), "model; no trainable"),
    ("forward_raises", of(lambda m, X: m.missing(X)), "X; Forward; cannot take it; missing"),
    ("forward_key_error", of(lambda m, X: {}["weights"]), "Forward; cannot take it; weights"),
    ("forward_two_arguments", lambda: fit(as_task(_Two(), nn.CrossEntropyLoss())), "_Two; X"),
    ("lazy_layers", lambda: as_task(nn.Sequential(nn.LazyLinear(2)), nn.CrossEntropyLoss()),
     "model; 0.weight; no shape"),
    ("no_parameters", lambda: as_task(nn.Tanh(), nn.CrossEntropyLoss()), "model; requires_grad"),
    ("meta_weights", lambda: as_task(Linear().to("meta"), nn.CrossEntropyLoss()), "model; meta"),
    ("complex_weights", lambda: as_task(nn.Linear(3, 2, dtype=torch.complex64), nn.MSELoss()),
     "model; complex"),
    ("one_output_for_classes", lambda: fit(task(nn.CrossEntropyLoss, 1)), "1 output"),
]  # fmt: skip


class _Two(Linear):
    def forward(self, X, other):
        return self.layer(X) + other


def _shifted():
    module = net(1)
    nn.init.constant_(module[2].bias, 5)
    return module


def _huge():
    module = net()
    nn.init.constant_(module[2].weight, 3e38)
    nn.init.constant_(module[0].bias, 30)
    return as_task(module, nn.CrossEntropyLoss())


LOSSES = [
    ("loss_batch_norm", loss(lambda o, t: F.cross_entropy(o - o.mean(0), t, reduction="none")),
     "loss; other examples"),
    ("loss_contrastive", loss(lambda o, t: (o @ o.T).logsumexp(1)), "loss; other examples"),
    ("loss_ranking", loss(lambda o, t: o[:, 0] - o[:, 0].max()), "loss; other examples"),
    ("loss_random", loss(lambda o, t: F.cross_entropy(o, t, reduction="none")
     * torch.rand(len(o), generator=NOISE)), "loss; random"),
    ("loss_broadcast", loss(lambda o, t: ((o - t) ** 2).mean(1), 1, TARGET), "y; (24, 1); (n, n)"),
    ("loss_nan", loss(lambda o, t: o[:, 0] * float("nan")), "loss; NaN"),
    ("loss_none", loss(lambda o, t: None), "loss; NoneType"),
    ("loss_number", loss(lambda o, t: 1.0), "loss; float"),
    ("loss_array", loss(lambda o, t: o[:, 0].detach().numpy()), "loss; ndarray"),
    ("loss_without_gradient", loss(lambda o, t: (o.argmax(1) != t).float()), "loss; gradient"),
    ("loss_raises", loss(lambda o, t: o.missing), "loss; missing"),
    ("loss_one_argument", loss(lambda o: o[:, 0]), "loss; argument"),
    ("loss_class", lambda: as_task(net(), nn.CrossEntropyLoss), "loss; class; CrossEntropyLoss()"),
    ("loss_text", lambda: as_task(net(), "cross_entropy"), "loss; str"),
    ("loss_smoothing_negative", loss(nn.CrossEntropyLoss(label_smoothing=-0.1)),
     "loss; label_smoothing; -0.1"),
    ("loss_smoothing_nan", loss(nn.CrossEntropyLoss(label_smoothing=float("nan"))),
     "loss; label_smoothing; nan"),
    ("loss_smoothing_two", loss(nn.CrossEntropyLoss(label_smoothing=2.0)),
     "loss; label_smoothing; 2.0"),
    ("loss_delta_negative", loss(nn.HuberLoss(delta=-1.0), 1, TARGET), "loss; delta; -1.0"),
    ("loss_beta_negative", loss(nn.SmoothL1Loss(beta=-1.0), 1, TARGET), "loss; beta; -1.0"),
    ("loss_margin_nan", loss(nn.MultiMarginLoss(margin=float("nan"))), "loss; margin; nan"),
    ("loss_integer", lambda: as_task(net(), 3), "loss; int"),
    ("loss_array_object", lambda: as_task(net(), np.zeros(3)), "loss; ndarray"),
    ("loss_weight_of_other_classes",
     lambda: fit(as_task(net(), nn.CrossEntropyLoss(weight=torch.ones(5)))), "weight; 5; 2"),
    ("loss_weight_nan",
     lambda: fit(as_task(net(), nn.CrossEntropyLoss(weight=torch.full((2,), float("nan"))))),
     "loss; weight; NaN"),
    ("loss_weight_negative",
     lambda: fit(as_task(net(), nn.CrossEntropyLoss(weight=torch.tensor([1.0, -1.0])))),
     "loss; weight; -1"),
    ("loss_pos_weight_negative",
     lambda: fit(as_task(net(1), nn.BCEWithLogitsLoss(pos_weight=torch.tensor([-1.0]))), X,
                 Y.astype(np.float32)), "loss; pos_weight; -1"),
    ("loss_of_triplets", lambda: fit(as_task(net(), nn.TripletMarginLoss())),
     "loss; TripletMarginLoss"),
    ("loss_of_probabilities_for_logits",
     lambda: fit(as_task(_shifted(), nn.BCELoss()), X, Y.astype(np.float32)), "BCELoss; [0, 1]"),
    ("output_random", lambda: fit(attributor=GradDot(
        output=lambda o, t: o[:, 0] * torch.rand(len(o), generator=NOISE))).score(X_QUERY, Y_QUERY),
     "output; random"),
    ("output_mixes_rows", lambda: fit(attributor=GradDot(
        output=lambda o, t: o[:, 0] - o[:, 0].mean())).score(X_QUERY, Y_QUERY),
     "output; other examples"),
    ("output_raises", lambda: fit(attributor=GradDot(
        output=lambda o, t: o.missing)).score(X_QUERY, Y_QUERY), "output; missing"),
    ("output_none", lambda: fit(attributor=GradDot(
        output=lambda o, t: None)).score(X_QUERY, Y_QUERY), "output; NoneType"),
]  # fmt: skip

KINDS = [
    ("model_none", lambda: as_task(None), "model; NoneType; Accepted"),
    ("model_number", lambda: as_task(3), "model; int; Accepted"),
    ("model_function", lambda: as_task(lambda X: X), "model; function; Accepted"),
    ("model_path", lambda: as_task(__import__("pathlib").Path("m.pt")), "model; Path; Accepted"),
    ("model_state_dict", lambda: as_task(net().state_dict()), "model; OrderedDict; Accepted"),
    ("model_class", lambda: as_task(Linear, nn.CrossEntropyLoss()), "model; class Linear"),
    ("models_empty", lambda: fit([]), "model; empty"),
    ("models_dict", lambda: fit({"a": classifier()}), "model; dict"),
    ("models_of_two_kinds", lambda: fit([classifier(), regressor()]), "model; item 1; regression"),
    ("models_with_none", lambda: fit([classifier(), None]), "model; item 1; NoneType"),
    ("model_clusterer", lambda: fit(KMeans(2, n_init=1).fit(X)), "model; KMeans; Accepted"),
    ("model_transformer", lambda: fit(PCA().fit(X)), "model; PCA; Accepted"),
    ("pipeline_without_model", lambda: fit(make_pipeline(StandardScaler()).fit(X)),
     "model; StandardScaler"),
    ("pipeline_passthrough", lambda: fit(Pipeline([("a", "passthrough")]).fit(X)), "passthrough"),
    ("loss_for_an_estimator", lambda: as_task(regressor(), F.mse_loss),
     "loss; Ridge; leave it out"),
    ("regressor_to_oob", lambda: DataOOB().fit(regressor(), X, TARGET), "model; Ridge; Bagging"),
    ("regressor_to_trees", lambda: TreeInfluence().fit(regressor(), X, TARGET), "model; Ridge"),
    ("net_unfitted_to_retrain", lambda: retrain(model=net()), "model; Sequential; retrain="),
    ("task_to_retrain", lambda: retrain(model=task()), "model; Task; retrain="),
    ("tracin_of_trees", lambda: fit(_forest(), attributor=TracIn()), "model; TreeInfluence"),
    ("influence_of_trees", lambda: fit(_forest(), attributor=InfluenceFunction()),
     "model; TreeInfluence"),
    ("skorch_net_in_training_data", lambda: fit(X, skorch_net(), Y), "model; ndarray"),
    ("logistic_with_no_iterations", lambda: fit(_not_converged(), 100 * X,
     attributor=InfluenceFunction("fisher")), "training gradient; solver"),
]  # fmt: skip


def _forest():
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(2, random_state=0).fit(X, Y)


def _not_converged():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LogisticRegression(max_iter=1, C=1e6).fit(100 * X, Y)


ROWS = FORWARD + LOSSES + KINDS
