"""Attributors whose damping can be changed after the fit."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from influencekit.utils import validate_parameters, with_gradients

__all__ = ["DampedMixin"]


class DampedMixin:
    """``set_damping`` and what several models share, for attributors with a ``damping``.

    Authors write ``_named_damping(name)`` and call ``set_damping(self.damping)`` at the end of
    ``_fit``.
    """

    damping: Any
    damping_: Any
    eigenvalues_: Any
    _members: list | None

    def _named_damping(self, name: str) -> float:
        """What a damping given by name, such as "auto", stands for."""
        raise NotImplementedError

    @with_gradients
    def set_damping(self, damping):
        """Change the damping of a fitted attributor; nothing else of the fit depends on it.

        Parameters
        ----------
        damping : float or str
            A number, or a name that the parameter ``damping`` accepts.

        Returns
        -------
        self : object
        """
        check_is_fitted(self, "task_")
        before, self.damping = self.damping, damping
        try:
            validate_parameters(self)
        except ValueError:
            self.damping = before
            raise
        if self._members is not None:
            self._members = [copy.copy(member).set_damping(damping) for member in self._members]
            self.damping_ = np.array([member.damping_ for member in self._members])
        else:
            named = isinstance(damping, str)
            self.damping_ = self._named_damping(damping) if named else float(damping)
        return self

    def _share_members(self, members):
        self.damping_ = np.array([member.damping_ for member in members])
        if all(hasattr(member, "eigenvalues_") for member in members):
            self.eigenvalues_ = np.sort(np.concatenate([m.eigenvalues_ for m in members]))
