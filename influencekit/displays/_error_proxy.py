"""Error proxies of first-order scores, plotted against their true errors if known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from influencekit.displays._style import FIRST, SECOND, neutral_color, open_axes
from influencekit.training.trajectory._error_proxy import ErrorProxy

__all__ = ["ErrorProxyDisplay"]


class ErrorProxyDisplay:
    """Relative size of the error proxy for each example, with flagged examples marked.

    With measured scores (trajectory-specific leave-one-out), it is plotted against the true
    relative error of the scores, otherwise against the size of the scores.

    Parameters
    ----------
    proxy : ErrorProxy
        From :meth:`AdamWInfluence.taylor_error_proxy`, of any kind.
    measured : array-like of shape (n_test, n_examples), default=None
        True effect of removing each example, with the sign of scores.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    trusted_ : ndarray of bool of shape (n_examples,)
    x_ : ndarray of shape (n_examples,)
        Relative size of the proxy.
    y_ : ndarray of shape (n_examples,)
        Relative true error, or norm of the scores.
    trusted_points_, flagged_points_ : matplotlib PathCollection
    threshold_line_ : matplotlib Line2D

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from influencekit import SGDInfluence
    >>> from influencekit.displays import ErrorProxyDisplay
    >>> from influencekit.training import TrajectoryRecorder
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> net = NeuralNetClassifier(nn.Linear, module__in_features=4, module__out_features=3,
    ...     criterion=nn.CrossEntropyLoss, lr=0.1, batch_size=30, max_epochs=3, train_split=None,
    ...     verbose=0, callbacks=[TrajectoryRecorder()]).fit(X, y)
    >>> proxy = SGDInfluence().fit(net, X, y).taylor_error_proxy(X[:2], y[:2], left_out=range(9))
    >>> display = ErrorProxyDisplay.from_predictions(proxy)  # doctest: +SKIP
    >>> display.trusted_.shape  # doctest: +SKIP
    (9,)
    """

    def __init__(self, proxy: ErrorProxy, measured: ArrayLike | None = None):
        self.proxy = proxy
        self.measured = measured

    @classmethod
    def from_predictions(
        cls, proxy: ErrorProxy, measured: ArrayLike | None = None, *, ax: Any = None, **options: Any
    ) -> ErrorProxyDisplay:
        """Draw a proxy, with measured scores if they are known.

        Parameters
        ----------
        proxy : ErrorProxy
        measured : array-like of shape (n_test, n_examples), default=None
        ax : matplotlib Axes, default=None
        **options
            Of :meth:`plot`.

        Returns
        -------
        ErrorProxyDisplay
        """
        return cls(proxy, measured).plot(ax=ax, **options)

    def plot(
        self, ax: Any = None, *, threshold: float = 0.5, legend_loc: str | None = "best"
    ) -> ErrorProxyDisplay:
        """Draw a point for each example.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        threshold : float, default=0.5
            Examples with a larger relative proxy are flagged, and all of a run whose proxy is not
            ``reliable``.
        legend_loc : str or None, default="best"
            Matplotlib's ``loc``; None for no legend.

        Returns
        -------
        self : ErrorProxyDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the measured scores do not belong to the proxy, or the threshold is not positive.

        Notes
        -----
        Both axes are logarithmic.  Examples with a proxy or an error of 0, or with scores that are
        all 0, cannot be drawn and are left out.
        """
        self.trusted_ = self.proxy.trusted(threshold)
        self.x_, self.y_ = self.proxy.of_examples, self._heights()
        ax = open_axes(self, ax, (5.4, 4.2))
        shown = np.isfinite(self.x_) & np.isfinite(self.y_) & (self.x_ > 0) & (self.y_ > 0)
        self.trusted_points_ = self._points(ax, shown & self.trusted_, FIRST, "trusted")
        self.flagged_points_ = self._points(ax, shown & ~self.trusted_, SECOND, "flagged")
        gray = neutral_color()
        self.threshold_line_ = ax.axvline(threshold, color=gray, lw=1, ls=":")
        ax.set(xscale="log", yscale="log", xlabel="estimated relative error (proxy / score)")
        ax.set_ylabel("norm of the scores" if self.measured is None else "relative true error")
        if legend_loc is not None:
            ax.legend(loc=legend_loc, fontsize="small")
        return self

    def _points(self, ax: Any, rows: np.ndarray, style: dict, name: str) -> Any:
        label = f"{name} ({int((self.trusted_ == (name == 'trusted')).sum())})"
        face = style["color"] if name == "trusted" else "none"
        look = {
            "facecolors": face,
            "edgecolors": style["color"],
            "marker": style["marker"],
            "s": 20,
        }
        return ax.scatter(self.x_[rows], self.y_[rows], label=label, **look)

    def _heights(self) -> np.ndarray:
        scores = self.proxy.scores
        if self.measured is None:
            return np.linalg.norm(scores, axis=0)
        measured = np.asarray(self.measured, dtype=np.float64)
        if measured.shape != scores.shape or not np.isfinite(measured).all():
            raise ValueError(
                f"measured: got shape {measured.shape}; accepted are finite numbers of the proxy's "
                f"shape {scores.shape}, for instance the scores of trajectory_leave_one_out "
                "with the same test rows and examples."
            )
        error, size = (np.linalg.norm(a, axis=0) for a in (scores - measured, measured))
        return np.divide(error, size, out=np.full(len(size), np.inf), where=size > 0)
