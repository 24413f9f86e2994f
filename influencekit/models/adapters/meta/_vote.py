"""VotingClassifier and VotingRegressor of known models as Tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.utils.validation import check_is_fitted

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task, as_task, refuse_loss
from influencekit.models.adapters.meta._known import check_known
from influencekit.models.adapters.meta._side_by_side import join
from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses.meta._vote import ClassVote, Member, ValueVote

__all__ = ["voting_task"]


@as_task.register(VotingClassifier)
@as_task.register(VotingRegressor)
def voting_task(model: Any, loss: Any = None) -> Task:
    """Task of a fitted vote: every member learned its own loss, and their mean is explained.

    Parameters
    ----------
    model : VotingRegressor, or VotingClassifier with ``voting="soft"``
        Its members are models that :func:`as_task` reads.
    loss : None

    Returns
    -------
    Task

    Raises
    ------
    UnsupportedModelError
        For hard votes.
    """
    refuse_loss(model, loss)
    soft = getattr(model, "voting", "soft") == "soft"
    if not soft:
        raise UnsupportedModelError(
            "model: VotingClassifier(voting='hard') counts votes, which have no gradient. Its "
            "members also predict probabilities together, without another fit: "
            "model.set_params(voting='soft')."
        )
    check_known(model, [one for _, one in model.estimators])
    check_is_fitted(model)
    tasks = [as_task(one) for one in model.estimators_]
    joined = join(tasks, type(model).__name__)
    weights, balanced = _shares(model), _balanced(tasks)
    members = [
        Member(
            task.loss,
            _n_outputs(task),
            float(weight),
            None if isinstance(task.class_weight, str) else task.class_weight,
        )
        for task, weight in zip(tasks, weights, strict=True)
    ]
    classes = getattr(model, "classes_", None)
    whole: OutputLoss
    whole = ValueVote(members) if classes is None else ClassVote(members, len(classes))
    return Task(
        module=joined.module,
        loss=whole,
        classes=classes,
        transform=joined.transform,
        penalty=joined.penalty,
        penalty_kind=next((task.penalty_kind for task in tasks if task.penalty), "sum"),
        class_weight="balanced" if balanced else None,
        estimator=model,
        name=f"{type(model).__name__}({', '.join(task.name for task in tasks)})",
        n_features_in=getattr(model, "n_features_in_", None),
        feature_names_in=getattr(model, "feature_names_in_", None),
        convex=all(task.convex for task in tasks),
    )


def _shares(model: Any) -> np.ndarray:
    """Share of each fitted member in the vote; dropped members have none."""
    if model.weights is None:
        return np.full(len(model.estimators_), 1 / len(model.estimators_))
    given = zip(model.weights, model.estimators, strict=True)
    kept = np.array([weight for weight, (_, one) in given if not isinstance(one, str)], float)
    return kept / kept.sum()


def _n_outputs(task: Task) -> int:
    last = [p for key, p in task.parameters.items() if key.endswith("weight")][-1]
    return last.shape[0]


def _balanced(tasks: list[Task]) -> bool:
    kinds = {isinstance(task.class_weight, str) for task in tasks}
    if len(kinds) > 1:
        raise UnsupportedModelError(
            "model: some members of this vote have class_weight='balanced' and others do not. Give "
            "class_weight as a dict, or the same to all members."
        )
    return kinds == {True}
