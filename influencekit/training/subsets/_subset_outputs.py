"""Outputs of models retrained on subsets: ground truth that is computed once and stored."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from influencekit.exceptions import ResourceError
from influencekit.metrics._text import not_finite_text
from influencekit.utils._archives import DamagedFile, read_arrays
from influencekit.utils._arguments import refuse_masked
from influencekit.utils._files import whole_file
from influencekit.utils.validation import warn_if_set

__all__ = ["SubsetOutputs", "check_masks", "draw_masks", "warn_of_settings"]


@dataclass(eq=False)
class SubsetOutputs:
    """Outputs at the queries of models retrained on subsets of the training rows.

    Parameters
    ----------
    masks : ndarray of shape (n_subsets, n_train), bool
        True if a row was in the subset.
    outputs : ndarray of shape (n_subsets, n_repeats, n_query), float64
        Output of each retrained model on each query; higher is better.
    seeds : ndarray of shape (n_subsets, n_repeats), int64
        Seed of each training.
    output : str
        Name of the output.

    Raises
    ------
    ValueError
        If shapes do not fit together.

    See Also
    --------
    retrain_on_subsets : Computes them.
    """

    masks: np.ndarray
    outputs: np.ndarray
    seeds: np.ndarray
    output: str = "neg_loss"

    def __post_init__(self) -> None:
        self.masks = check_masks(self.masks)
        refuse_masked("outputs", self.outputs)
        refuse_masked("seeds", self.seeds)
        self.outputs = np.asarray(self.outputs, dtype=np.float64)
        self.seeds = np.asarray(self.seeds, dtype=np.int64)
        if self.outputs.ndim != 3 or len(self.outputs) != len(self.masks):
            raise ValueError(
                f"outputs: got shape {self.outputs.shape}; accepted is (n_subsets, n_repeats, "
                f"n_query) with n_subsets = {len(self.masks)}, as masks have."
            )
        if self.seeds.shape != self.outputs.shape[:2]:
            raise ValueError(
                f"seeds: got shape {self.seeds.shape}; accepted is (n_subsets, n_repeats) = "
                f"{self.outputs.shape[:2]}, one for each training."
            )

    def __repr__(self) -> str:
        n_subsets, n_repeats, n_query = self.outputs.shape
        return (
            f"SubsetOutputs(n_subsets={n_subsets}, n_repeats={n_repeats}, "
            f"n_train={self.masks.shape[1]}, n_query={n_query}, output={self.output!r}"
            f"{not_finite_text(self.outputs)})"
        )

    @property
    def diverged(self) -> np.ndarray:
        """Trainings whose outputs are not finite, bool (n_subsets, n_repeats).

        All are False unless diverged trainings were kept (``on_nan="keep"``). Metrics refuse their
        outputs: give metrics ``outputs[good]`` and ``masks[good]`` with ``good =
        ~diverged.any(axis=1)``.
        """
        return ~np.isfinite(self.outputs).all(axis=2)

    def mean_outputs(self) -> np.ndarray:
        """Mean over repeats.

        Returns
        -------
        ndarray of shape (n_subsets, n_query)
            Means; NaN if the output of a repeat is NaN.
        """
        return self.outputs.mean(axis=1)

    def take_queries(self, rows: Any) -> SubsetOutputs:
        """Outputs at some of the queries, such as one half to tune on and one to report.

        Parameters
        ----------
        rows : slice, int array-like or bool mask of shape (n_query,)

        Returns
        -------
        SubsetOutputs
        """
        return replace(self, outputs=self.outputs[:, :, rows])

    def noise_variance(self) -> np.ndarray:
        """Variance between repeats of the same subset, averaged over subsets.

        It is the part of the outputs' variance that comes only from seeds, which no score can
        explain; :func:`influencekit.metrics.noise_ceiling` computes the attainable correlation from
        ``outputs``.

        Returns
        -------
        ndarray of shape (n_query,)
            Variance in squared units of the output; NaN if an output of the query is NaN.

        Raises
        ------
        ValueError
            If there is only one repeat.
        """
        if self.outputs.shape[1] < 2:
            raise ValueError(
                "noise_variance needs at least two repeats, but these outputs have one; "
                "retrain with n_repeats=2."
            )
        return self.outputs.var(axis=1, ddof=1).mean(axis=0)

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to one npz file, without pickle, completely or not at all.

        Parameters
        ----------
        path : path-like
            Used unchanged; an existing file is replaced. Its folder must exist.
        """
        with whole_file(path) as file:
            np.savez_compressed(
                file,
                masks=self.masks,
                outputs=self.outputs,
                seeds=self.seeds,
                output=np.array(self.output),
            )

    @classmethod
    def load(cls, path: str | os.PathLike) -> SubsetOutputs:
        """Read a file written by :meth:`save`.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        SubsetOutputs

        Raises
        ------
        ValueError
            If the file has other content, or is damaged.
        ResourceError
            If it unpacks to more than half of the free memory.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"path: got {path!r}; accepted is the path of a file.")
        if not os.path.exists(path):
            raise FileNotFoundError(
                f"path: {os.fspath(path)} does not exist; accepted is a file written by "
                "SubsetOutputs.save."
            )
        try:
            stored = read_arrays(path)
        except DamagedFile as error:
            raise ValueError(
                f"path: {error}; accepted is a file written by SubsetOutputs.save. Restore it, or "
                "retrain: what cache_dir holds is not trained again."
            ) from error
        except ResourceError as error:
            raise ResourceError(
                f"path: {error}. If the file is yours, read it on a machine with more memory."
            ) from None
        missing = {"masks", "outputs", "seeds", "output"} - set(stored)
        if missing:
            raise ValueError(
                f"path: {os.fspath(path)} lacks {sorted(missing)}; accepted is a file "
                "written by SubsetOutputs.save."
            )
        return cls(stored["masks"], stored["outputs"], stored["seeds"], str(stored["output"]))


def warn_of_settings(estimator: Any, outputs: Any) -> None:
    """Warn of an estimator's settings of trainings, where their outputs are given.

    Parameters
    ----------
    estimator : BaseEstimator
        Retrains on subsets unless outputs are given.
    outputs : SubsetOutputs
    """
    n_subsets, n_repeats = np.shape(getattr(outputs, "outputs", np.zeros((0, 0))))[:2]
    fine = {"n_subsets": n_subsets, "n_trainings": n_subsets, "n_repeats": n_repeats}
    for name in (*fine, "subset_fraction", "retrain"):
        if hasattr(estimator, name):
            why = "with subset_outputs, which were retrained before"
            warn_if_set(estimator, name, why, fine.get(name))


def check_masks(masks: np.ndarray, n_train: int | None = None) -> np.ndarray:
    """Masks as a bool array (n_subsets, n_train), with at least one row in every subset."""
    refuse_masked("masks", masks)
    what = f"{masks!r}, " if isinstance(masks, str) else ""
    masks = np.asarray(masks)
    if masks.dtype != bool or masks.ndim != 2:
        raise ValueError(
            f"masks: got {what}dtype {masks.dtype} and shape {masks.shape}; accepted is a bool "
            "array of shape (n_subsets, n_train), True for the rows of a subset."
        )
    if not len(masks):
        raise ValueError("masks: got 0 subsets; accepted is at least one row of the array.")
    if n_train is not None and masks.shape[1] != n_train:
        raise ValueError(
            f"masks: got {masks.shape[1]} columns for {n_train} training rows; accepted is "
            "one column for each row of X."
        )
    empty = np.flatnonzero(~masks.any(axis=1))
    if len(empty):
        raise ValueError(f"masks: subset {empty[0]} is empty; every subset needs at least one row.")
    return masks


def draw_masks(generators: list[np.random.Generator], n_train: int, fraction: float) -> np.ndarray:
    """One subset of fixed size from each generator, bool (n_subsets, n_train)."""
    size = round(fraction * n_train)
    if not (0 < fraction < 1 and 1 <= size < n_train):
        raise ValueError(
            f"subset_fraction: got {fraction} of {n_train} rows; accepted is a number between "
            "0 and 1 that keeps at least one row and leaves at least one out."
        )
    masks = np.zeros((len(generators), n_train), dtype=bool)
    for mask, generator in zip(masks, generators, strict=True):
        mask[generator.permutation(n_train)[:size]] = True
    return masks
