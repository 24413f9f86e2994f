"""Label scores of a detector, and how soon its ranking finds known issues."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from influencekit.displays._style import FIRST, SECOND, neutral_color, open_axes
from influencekit.utils._suggest import check_choice
from influencekit.utils.validation import present

__all__ = ["LabelIssuesDisplay"]

#: Kinds of pictures.
KINDS = ("scores", "ranking")


class LabelIssuesDisplay:
    """Distribution of label scores, or share of known issues found along the ranking.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Higher is more suspicious.
    threshold : float, default=None
        Score above which rows are suspected; drawn as a line.
    issues : bool array-like of shape (n,), default=None
        Rows known to be wrong, as in an experiment with planted errors.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    lines_ : dict of str to matplotlib Line2D
        "threshold" of the scores; "found", "best" and "random" of the ranking.
    counts_ : dict of str to ndarray
        Heights of the histogram by "all", or "wrong" and "right".

    Raises
    ------
    ValueError
        If shapes disagree, or the ranking is requested without issues.

    Examples
    --------
    >>> from influencekit.displays import LabelIssuesDisplay
    >>> display = LabelIssuesDisplay([0.1, 3.0, 0.2], threshold=1.0, issues=[False, True, False])
    >>> display.plot(kind="ranking").ax_.get_ylabel()  # doctest: +SKIP
    'wrong labels found (%)'
    """

    def __init__(
        self, scores: ArrayLike, threshold: float | None = None, issues: ArrayLike | None = None
    ):
        self.scores = np.asarray(scores, dtype=np.float64)
        if self.scores.ndim != 1 or not self.scores.size or np.isnan(self.scores).any():
            raise ValueError(
                f"`scores` must be 1-d, not empty and without NaN; got shape {self.scores.shape}."
            )
        self.threshold = threshold
        self.issues = None if issues is None else np.asarray(issues)
        if self.issues is not None and (
            self.issues.shape != self.scores.shape or self.issues.dtype != bool
        ):
            raise ValueError(
                f"`issues` must be bool of shape {self.scores.shape}; got dtype "
                f"{self.issues.dtype} and shape {self.issues.shape}."
            )

    @classmethod
    def from_estimator(
        cls, detector: Any, *, issues: ArrayLike | None = None, ax: Any = None, **options: Any
    ) -> LabelIssuesDisplay:
        """Draw the scores of a fitted detector.

        Parameters
        ----------
        detector : fitted NoisyLabelDetector
        issues : bool array-like of shape (n,), default=None
        ax : matplotlib Axes, default=None
        **options
            Of :meth:`plot`.

        Returns
        -------
        LabelIssuesDisplay

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        """
        check_is_fitted(detector, "label_scores_")
        threshold = detector.threshold_ if np.isfinite(detector.threshold_) else None
        return cls(detector.label_scores_, threshold, issues).plot(ax=ax, **options)

    @classmethod
    def from_predictions(
        cls,
        scores: ArrayLike,
        *,
        threshold: float | None = None,
        issues: ArrayLike | None = None,
        ax: Any = None,
        **options: Any,
    ) -> LabelIssuesDisplay:
        """Draw scores of any ranking of labels.

        Parameters
        ----------
        scores : array-like of shape (n,)
            Higher is more suspicious.
        threshold : float, default=None
        issues : bool array-like of shape (n,), default=None
        ax : matplotlib Axes, default=None
        **options
            Of :meth:`plot`.

        Returns
        -------
        LabelIssuesDisplay
        """
        return cls(scores, threshold, issues).plot(ax=ax, **options)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: str = "scores",
        bins: int = 40,
        legend_loc: str | None = "best",
    ) -> LabelIssuesDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.
        kind : {"scores", "ranking"}, default="scores"
        bins : int, default=40
            Number of bins of the histogram.
        legend_loc : str or None, default="best"
            Matplotlib's ``loc``; None for no legend.

        Returns
        -------
        self : LabelIssuesDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If ``kind`` is unknown, or the ranking is requested without any issue.
        """
        check_choice("kind", kind, KINDS)
        if kind == "ranking" and (self.issues is None or not self.issues.any()):
            raise ValueError("`issues` must mark at least one row for kind='ranking'.")
        ax = open_axes(self, ax)
        self.lines_: dict[str, Any] = {}
        self.counts_: dict[str, np.ndarray] = {}
        if kind == "scores":
            self._plot_scores(ax, bins)
        else:
            self._plot_ranking(ax)
        if legend_loc is not None and ax.get_legend_handles_labels()[0]:
            ax.legend(loc=legend_loc, fontsize="small")
        return self

    def _plot_scores(self, ax: Any, bins: int) -> None:
        edges = np.histogram_bin_edges(self.scores, bins)
        parts = {"all": np.ones(len(self.scores), dtype=bool)}
        if self.issues is not None:
            parts = {"right": ~self.issues, "wrong": self.issues}
        for (name, rows), style in zip(parts.items(), (FIRST, SECOND), strict=False):
            color, line = style["color"], style["linestyle"]
            own = {"edgecolor": color, "linestyle": line, "linewidth": 1.5}
            own["label"] = name if name == "all" else f"{name} label"
            own["facecolor"] = "none" if name == "wrong" else (color, 0.4)
            self.counts_[name], _, _ = ax.hist(
                self.scores[rows], edges, histtype="stepfilled", **own
            )
        if self.threshold is not None:
            self.lines_["threshold"] = ax.axvline(
                self.threshold, color=neutral_color(), lw=1, ls=":", label="threshold"
            )
        ax.set(xlabel="label score (high: the label looks wrong)", ylabel="rows")
        ax.set_yscale("symlog", linthresh=1)
        ax.set_ylim(0, 1.5 * max(1.0, *(counts.max() for counts in self.counts_.values())))

    def _plot_ranking(self, ax: Any) -> None:
        """Share of the issues among the first rows of the ranking."""
        issues = present(self.issues, "issues")
        n, wrong = len(self.scores), int(issues.sum())
        x = 100 * np.arange(n + 1) / n
        order = np.argsort(-self.scores, kind="stable")
        found = np.concatenate([[0], np.cumsum(issues[order])])
        gray = neutral_color()
        curves = {
            "found": (found, {"color": FIRST["color"]}),
            "best": (np.minimum(np.arange(n + 1), wrong), {"color": gray, "ls": ":"}),
            "random": (wrong * np.arange(n + 1) / n, {"color": gray, "ls": "--"}),
        }
        for name, (values, style) in curves.items():
            (self.lines_[name],) = ax.plot(x, 100 * values / wrong, lw=1.5, label=name, **style)
        ax.set(xlabel="rows looked at (%)", ylabel="wrong labels found (%)")
