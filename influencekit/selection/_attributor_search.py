"""What the searches share: they act as the attributor that they chose, with fixed seeds."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from influencekit._fitted import Fitted
from influencekit.base import BaseAttributor
from influencekit.data._examples import Examples, ExamplesList
from influencekit.models._task import Task, TaskList
from influencekit.utils._random import draw_seed

__all__ = ["AttributorSearch", "innermost", "seeded_clone", "unset_seeds"]


def innermost(attributor: Any) -> Any:
    """The attributor that a search chose, or the attributor itself."""
    while hasattr(attributor, "best_attributor_"):
        attributor = attributor.best_attributor_
    return attributor


class AttributorSearch(BaseAttributor):
    """An attributor around another one, whose parameters it chooses in ``fit``.

    Attributes
    ----------
    best_attributor_ : attributor
        Fitted, with the chosen parameters.
    """

    #: It does not have its own damping; it chooses that of the attributor inside.
    _chooses_damping: ClassVar[bool] = True

    attributor: BaseAttributor
    best_attributor_: BaseAttributor

    @abstractmethod
    def fit(
        self,
        model: Any,
        X: Any,
        y: Any = None,
        *,
        X_query: Any = None,
        y_query: Any = None,
        sample_weight: Any = None,
        X_fit: Any = None,
    ) -> Self:
        """Choose the parameters, and fit the attributor with them."""

    def _task_of(self, model: Any) -> Task:
        return self.attributor._task_of(model)

    def _fit(self, _task: Task, _train: Examples) -> Fitted:
        raise TypeError(
            f"{type(self).__name__} does not implement _fit: call fit, which fits the "
            f"chosen attributor."
        )

    def _read_models(self, model: Any, X: Any, y: Any) -> Task | TaskList:
        return self.attributor._read_models(model, X, y)

    def _adopt(self, best: BaseAttributor) -> None:
        """Score with the chosen attributor from here on."""
        self.best_attributor_ = best
        self._keep(best.fitted_, best._rows)

    @property
    def _grouped(self) -> Any:
        return getattr(self.attributor, "_grouped", None)

    def _first(self, _n_models: int) -> Self | None:
        return None  # the choice depends on the models

    def _all_scores(self, queries: Examples | ExamplesList) -> np.ndarray:
        return self.best_attributor_._all_scores(queries)

    def _all_stds(self, queries: Examples | ExamplesList) -> np.ndarray:
        return self.best_attributor_._all_stds(queries)

    @property
    def _averages(self) -> bool:
        return self.best_attributor_._averages

    def self_influence(self) -> np.ndarray:
        check_is_fitted(self, "fitted_")
        return self.best_attributor_.self_influence()

    def _columns(self) -> tuple[int, str]:
        return self.best_attributor_._columns()

    def _subset_columns(self, masks: np.ndarray) -> np.ndarray:
        return self.best_attributor_._subset_columns(masks)

    def _subset_sums(self, queries: Examples | ExamplesList, masks: np.ndarray) -> np.ndarray:
        return self.best_attributor_._subset_sums(queries, masks)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:  # noqa: ARG002  the name is scikit-learn's
        """Names of the score columns, from the chosen attributor.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        names : ndarray of str objects of shape (n_train,), or (n_groups,) of groups
        """
        check_is_fitted(self, "best_attributor_")
        return self.best_attributor_.get_feature_names_out()


def seeded_clone(attributor: Any, random_state: Any) -> Any:
    """Clone an attributor, with an int for every ``random_state`` that is None.

    So the attributor that is scored, fitted again and kept is always the same.

    Parameters
    ----------
    attributor : attributor
    random_state : int, RandomState instance or None
        Seed for drawing the ints.

    Returns
    -------
    attributor
    """
    return clone(attributor).set_params(**unset_seeds(attributor, random_state))


def unset_seeds(attributor: Any, random_state: Any) -> dict[str, int]:
    """Draw an int for every ``random_state`` of an attributor that is None.

    Parameters
    ----------
    attributor : attributor
    random_state : int, RandomState instance or None

    Returns
    -------
    dict of str to int
        Seeds by parameter name.
    """
    rng = check_random_state(random_state)
    params = attributor.get_params(deep=True)
    names = [name for name in sorted(params) if name.split("__")[-1] == "random_state"]
    return {name: draw_seed(rng) for name in names if params[name] is None}
