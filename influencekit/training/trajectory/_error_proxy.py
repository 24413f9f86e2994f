"""How far first-order scores are to be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["ErrorProxy"]

#: Largest median up to which a proxy is right within a factor of 2, as far as was measured.
LIMIT = 0.3


@dataclass(frozen=True, eq=False)
class ErrorProxy:
    """What first-order scores are estimated to miss of the effect of removing an example.

    Parameters
    ----------
    left_out : ndarray of shape (n_examples,)
        Rows of X_train.
    scores : ndarray of shape (n_test, n_examples)
        First-order scores.
    proxy : ndarray of shape (n_test, n_examples)
        What the second order would add to them, or another estimate of
        :meth:`AdamWInfluence.taylor_error_proxy`.
    estimate : {"second_order", "finite", "kinks", "finite+kinks"}, default="second_order"
        Which one.
    unseen : tuple of str, default=()
        Functions of the net with kinks that the estimate does not see.
    """

    left_out: np.ndarray
    scores: np.ndarray
    proxy: np.ndarray
    estimate: str = "second_order"
    unseen: tuple[str, ...] = ()

    def __repr__(self) -> str:
        n_test, n_examples = self.scores.shape
        told = f"median {self.median:.2g}" + ("" if self.reliable else ", not to be trusted")
        return (
            f"ErrorProxy(n_test={n_test}, n_examples={n_examples}, estimate={self.estimate!r}, "
            f"{told})"
        )

    @property
    def relative(self) -> np.ndarray:
        """Size of the proxy over that of the score, (n_test, n_examples); inf over 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.abs(self.proxy) / np.abs(self.scores)
        return np.where(self.proxy == 0, 0.0, found)

    @property
    def of_examples(self) -> np.ndarray:
        """Relative size for each example, (n_examples,): a ratio of norms over test examples."""
        first, second = (np.linalg.norm(a, axis=0) for a in (self.scores, self.proxy))
        return np.divide(second, first, out=np.where(second > 0, np.inf, 0.0), where=first > 0)

    @property
    def of_tests(self) -> np.ndarray:
        """Relative size for each test example, (n_test,): a ratio of norms over examples."""
        first, second = (np.linalg.norm(a, axis=1) for a in (self.scores, self.proxy))
        return np.divide(second, first, out=np.where(second > 0, np.inf, 0.0), where=first > 0)

    @property
    def median(self) -> float:
        """Median of ``of_examples``: the relative error of the run's scores, as estimated."""
        return float(np.median(self.of_examples))

    @property
    def reliable(self) -> bool:
        """Whether the median can be taken for that of the true errors.

        If the median of a run is above 0.3, do not trust its scores or their estimated errors:
        what one switched unit or changed step does to later ones is then not a small change.  The
        same holds if the estimate does not see all kinks of the net.
        """
        return not self.unseen and self.median <= LIMIT

    def trusted(self, threshold: float = 0.5) -> np.ndarray:
        """Examples whose scores the proxy changes by no more than a share.

        None of a run that is not ``reliable``.

        Parameters
        ----------
        threshold : float, default=0.5
            Of ``of_examples``.

        Returns
        -------
        ndarray of bool of shape (n_examples,)

        Raises
        ------
        ValueError
            If the threshold is not positive.
        """
        if not threshold > 0:
            raise ValueError(f"threshold: got {threshold!r}; accepted is a positive number.")
        return (self.of_examples <= threshold) & self.reliable
