"""Fitted models as Tasks."""

from influencekit.models._outputs import (
    OUTPUTS,
    CheckedOutput,
    ClassProbability,
    OutputFunction,
    for_task,
    one_number_each,
    output_name,
    predicted_targets,
    resolve_output,
)
from influencekit.models._predict import (
    decision_function,
    has_several_labels,
    model_outputs,
    predict,
    predict_proba,
    predicted_labels,
)
from influencekit.models._task import Task, as_task, call_module
from influencekit.models._task_list import TaskList, is_model_list, load_checkpoints
from influencekit.models.adapters._linear import linear_regression_task, ridge_task
from influencekit.models.adapters._logistic import logistic_task
from influencekit.models.adapters._mlp import mlp_task
from influencekit.models.adapters._sgd import sgd_classifier_task, sgd_regressor_task
from influencekit.models.adapters._skorch import skorch_task
from influencekit.models.adapters._torch import torch_task
from influencekit.models.adapters._transformers import transformers_task
from influencekit.models.adapters._wrappers import frozen_task, pipeline_task, search_task
from influencekit.models.losses._losses import (
    BinaryCrossEntropy,
    BinaryLoss,
    ColumnLoss,
    CrossEntropy,
    CustomLoss,
    ElementwiseLoss,
    HessianFactor,
    MarginLoss,
    OutputLoss,
    PoissonLoss,
    SequenceCrossEntropy,
    SquaredError,
    class_positions,
)
from influencekit.models.trees._task import tree_task

__all__ = [
    "OUTPUTS",
    "BinaryCrossEntropy",
    "BinaryLoss",
    "CheckedOutput",
    "ClassProbability",
    "ColumnLoss",
    "CrossEntropy",
    "CustomLoss",
    "ElementwiseLoss",
    "HessianFactor",
    "MarginLoss",
    "OutputFunction",
    "OutputLoss",
    "PoissonLoss",
    "SequenceCrossEntropy",
    "SquaredError",
    "Task",
    "TaskList",
    "as_task",
    "call_module",
    "class_positions",
    "decision_function",
    "for_task",
    "frozen_task",
    "has_several_labels",
    "is_model_list",
    "linear_regression_task",
    "load_checkpoints",
    "logistic_task",
    "mlp_task",
    "model_outputs",
    "one_number_each",
    "pipeline_task",
    "predict",
    "predict_proba",
    "output_name",
    "predicted_labels",
    "predicted_targets",
    "resolve_output",
    "ridge_task",
    "search_task",
    "sgd_classifier_task",
    "sgd_regressor_task",
    "skorch_task",
    "torch_task",
    "transformers_task",
    "tree_task",
]
