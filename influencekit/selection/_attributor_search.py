"""What the searches have in common: they are the attributor that they chose, with seeds."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from influencekit.base import BaseAttributor
from influencekit.utils._random import draw_seed

__all__ = ["AttributorSearch", "innermost", "seeded_clone", "unset_seeds"]


def innermost(attributor):
    """The attributor that a search chose, or the attributor itself."""
    while hasattr(attributor, "best_attributor_"):
        attributor = attributor.best_attributor_
    return attributor


class AttributorSearch(BaseAttributor):
    """An attributor that holds another one, and chooses its parameters in ``fit``.

    Attributes
    ----------
    best_attributor_ : attributor
        Fitted, with the chosen parameters.
    """

    #: No damping of its own to search for: it chooses that of the attributor inside.
    _chooses_damping: ClassVar[bool] = True

    attributor: BaseAttributor
    best_attributor_: BaseAttributor

    @abstractmethod
    def fit(self, model, X, y=None, *, X_query=None, y_query=None, sample_weight=None, X_fit=None):
        """Choose the parameters, and fit the attributor with them."""

    def _task_of(self, model):
        return self.attributor._task_of(model)

    def _fit(self, _task, _train):
        raise TypeError(f"{type(self).__name__} fits the attributor that it chooses.")

    def _read_models(self, model, X, y):
        return self.attributor._read_models(model, X, y)

    def _adopt(self, best: BaseAttributor) -> None:
        """Score as the chosen attributor does, from here on."""
        self.best_attributor_ = best
        self._keep(best.fitted_, best._rows)

    @property
    def _grouped(self):
        return getattr(self.attributor, "_grouped", None)

    def _first(self, _n_models):
        return None  # the choice depends on the models

    def _all_scores(self, queries):
        return self.best_attributor_._all_scores(queries)

    def self_influence(self):
        check_is_fitted(self, "fitted_")
        return self.best_attributor_.self_influence()

    def _columns(self):
        return self.best_attributor_._columns()

    def _subset_columns(self, masks):
        return self.best_attributor_._subset_columns(masks)

    def _subset_sums(self, queries, masks):
        return self.best_attributor_._subset_sums(queries, masks)

    def get_feature_names_out(self, input_features=None):  # noqa: ARG002  the name is scikit-learn's
        """Names of the score columns: those of the attributor that was chosen.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        names : ndarray of str objects of shape (n_train,), or (n_groups,) of groups
        """
        check_is_fitted(self, "best_attributor_")
        return self.best_attributor_.get_feature_names_out()


def seeded_clone(attributor, random_state):
    """Clone an attributor, with an int for every ``random_state`` that is None.

    What is scored, fitted again and kept is then one and the same attributor.

    Parameters
    ----------
    attributor : attributor
    random_state : int, RandomState instance or None
        Of the ints.

    Returns
    -------
    attributor
    """
    return clone(attributor).set_params(**unset_seeds(attributor, random_state))


def unset_seeds(attributor, random_state) -> dict[str, int]:
    """Draw an int for every ``random_state`` of an attributor that is None.

    Parameters
    ----------
    attributor : attributor
    random_state : int, RandomState instance or None

    Returns
    -------
    dict of str to int
        By parameter name.
    """
    rng = check_random_state(random_state)
    params = attributor.get_params(deep=True)
    names = [name for name in sorted(params) if name.split("__")[-1] == "random_state"]
    return {name: draw_seed(rng) for name in names if params[name] is None}
