"""What the searches have in common: they are the attributor that they chose."""

from __future__ import annotations

from abc import abstractmethod

from influencekit.base import BaseAttributor

__all__ = ["AttributorSearch"]


class AttributorSearch(BaseAttributor):
    """An attributor that holds another one, and chooses its parameters in ``fit``.

    Attributes
    ----------
    best_attributor_ : attributor
        Fitted, with the chosen parameters.
    """

    best_attributor_: BaseAttributor

    @abstractmethod
    def fit(self, model, X, y=None, *, X_query=None, y_query=None):
        """Choose the parameters, and fit the attributor with them."""

    def _fit(self, task, train):
        raise TypeError(f"{type(self).__name__} fits the attributor that it chooses.")

    def _adopt(self, best: BaseAttributor) -> None:
        """Score as the chosen attributor does, from here on."""
        self.best_attributor_ = best
        self._keep(best.fitted_, best._rows)

    def _all_scores(self, queries):
        return self.best_attributor_._all_scores(queries)
