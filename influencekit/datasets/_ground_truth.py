"""Ground truth of retrained models, that any method can be scored against."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from influencekit.datasets._bunch import get_data_home
from influencekit.datasets._truth_data import SOURCES, read_rows
from influencekit.datasets._truth_files import find_folder, read_truth, unpacked
from influencekit.datasets._truth_language import as_items, is_language, plant_facts, texts_of
from influencekit.datasets._truth_models import is_net, new_model, predictions_of, with_weights
from influencekit.utils._archives import DamagedFile

__all__ = ["GroundTruth", "load_ground_truth", "plant", "plant_shortcut"]

#: Predictions of a rebuilt model may differ from the stored ones by this much.
TOLERANCE = 1e-3
#: Positions of rows that only some ground truths have.
ROWS = ("planted.flipped", "planted.copied", "planted.queries", "shortcut.marked")


class Question(NamedTuple):
    """What models did that learned from some of the rows.

    Attributes
    ----------
    masks : ndarray of bool of shape (n_subsets, n_train)
        True for rows that a model learned from.
    outputs : ndarray of shape (n_subsets, n_repeats, n_query)
    """

    masks: NDArray
    outputs: NDArray


@dataclass(frozen=True, eq=False, repr=False)
class GroundTruth:
    """A trained model with its data, and what the model does when rows are missing.

    Attributes
    ----------
    name : str
    recipe : dict
        Source of the data, model, settings, seeds, versions and license.
    X, y, X_query, y_query : ndarray
        Training rows and queries. Of a language model, X and X_query are lists of dicts with
        ``"input_ids"``, as attributors take them, and y and y_query are None.
    output : {"margin", "neg_loss"}
        Output that was measured at each query with its label: the margin of a class, for numbers
        the negative loss. Higher is better.
    halves, without, groups : Question
        Outputs of models trained with new seeds on halves of the rows; of this run without 1 or
        10 % of the rows; of this run without groups of similar rows.
    further : Question or None
        Outputs of a net that is trained further, with new seeds, on halves of the rows; None for
        models without a run.
    left_out : ndarray of int of shape (n_left_out,)
        Rows that were left out alone.
    changes : ndarray of shape (n_query, n_left_out)
        Output of the model, minus that of the same run without the row.
    flipped, copied, copied_queries : ndarray of int
        Of :meth:`planted`: rows with a wrong label; rows that are copies of queries, and of which.
    marked : ndarray of int
        Of :meth:`shortcut`: rows with the mark.
    stated : ndarray of bool of shape (n_query, n_train)
        Of :meth:`facts`: texts that state a question's answer.
    model : estimator
        The fitted model, with the weights that were stored.  Trees are trained again.
    checkpoints : list of dict
        State dicts of a net at eight points of its run; empty for other models.
    """

    name: str
    recipe: dict
    X: Any
    y: Any
    X_query: Any
    y_query: Any
    halves: Question
    without: Question
    groups: Question
    further: Question | None
    left_out: NDArray
    changes: NDArray
    flipped: NDArray
    copied: NDArray
    copied_queries: NDArray
    marked: NDArray
    stated: NDArray
    _arrays: dict[str, NDArray]
    _home: Path
    _part: str = ""

    @property
    def output(self) -> str:
        return self.recipe["output"]

    def __repr__(self) -> str:
        sizes = f"n_train={len(self.X)}, n_query={len(self.X_query)}, output={self.output!r}"
        return f"GroundTruth({self.name!r}, {sizes})"

    def new_model(self) -> Any:
        """The unfitted estimator, for methods that train it again.

        Returns
        -------
        estimator
        """
        with self._named():
            return new_model(self.recipe["model"], self._home)

    @cached_property
    def model(self) -> Any:
        with self._named():
            model = with_weights(self.new_model(), self._of_model("weights"), self.X, self.y)
        found = predictions_of(model, self.X_query)
        stored = self._arrays[f"{self._part}predictions"]
        if found.shape != stored.shape or not np.allclose(found, stored, atol=TOLERANCE):
            raise ValueError(
                f"name: the model of {self.name} does not predict what it did when the ground "
                f"truth was made with {self.recipe.get('versions')}. Other versions may train "
                "other trees: install those versions, or make the ground truth again by `python "
                "-m benchmarks atlas make`."
            )
        return model

    @cached_property
    def checkpoints(self) -> list[dict[str, Any]]:
        import torch

        states: dict[int, dict] = {}
        for key, value in self._of_model("checkpoints").items():
            number, _, parameter = key.partition(".")
            states.setdefault(int(number), {})[parameter] = torch.as_tensor(value)
        return [states[number] for number in sorted(states)]

    def planted(self) -> GroundTruth:
        """The same rows with planted faults, and the model that learned from them.

        Some rows (``flipped``) have a wrong label, and some (``copied``) are copies of the queries
        ``copied_queries``.

        Returns
        -------
        GroundTruth
            Without outputs of retrained models.
        """
        return self._planted

    def shortcut(self) -> GroundTruth:
        """The same rows with a planted shortcut, and the model that learned it.

        Some rows (``marked``) have a mark and the label of the shortcut.  The queries have the
        mark, too, and the shortcut's label: the marked rows are why the model predicts it.

        Returns
        -------
        GroundTruth
            Without outputs of retrained models.

        Raises
        ------
        ValueError
            If no shortcut was planted in this ground truth.
        """
        return self._shortcut

    def facts(self) -> GroundTruth:
        """Texts some of which state made-up facts, the model that learned them, and questions.

        Queries are questions with their answers, and only the answer is in the loss.  ``stated``
        says which texts state the answer to a question.

        Returns
        -------
        GroundTruth
            Without outputs of retrained models.

        Raises
        ------
        ValueError
            If no facts were planted, as in models of other data than texts.
        """
        return self._facts

    @cached_property
    def _facts(self) -> GroundTruth:
        if "facts.rows" not in self._arrays:
            raise ValueError(
                f"name: no facts are planted in {self.name}, which is no language model."
            )
        X, questions, stated = plant_facts(self._home, self.X, self._arrays["facts.rows"])
        return replace(self._with_rows((X, None, questions, None), "facts."), stated=stated)

    @cached_property
    def _planted(self) -> GroundTruth:
        if "planted.labels" not in self._arrays:
            raise ValueError(
                f"name: no wrong labels are planted in {self.name}; its texts have facts()."
            )
        labels = self._arrays["planted.labels"]
        pairs = self.copied, self.copied_queries
        X, y = plant(self.X, self.y, self.X_query, self.y_query, self.flipped, labels, pairs)
        return self._with_rows((X, y, self.X_query, self.y_query), "planted.")

    @cached_property
    def _shortcut(self) -> GroundTruth:
        if "shortcut.marked" not in self._arrays:
            raise ValueError(
                f"name: no shortcut is planted in {self.name}; `python -m benchmarks atlas make` "
                "adds what is missing."
            )
        rows = self.X, self.y, self.X_query, self.y_query
        queries, label = self._arrays["shortcut.queries"], self._arrays["shortcut.label"]
        return self._with_rows(plant_shortcut(*rows, self.marked, queries, label), "shortcut.")

    def _with_rows(self, rows: tuple[Any, ...], part: str) -> GroundTruth:
        X, y, X_query, y_query = rows
        none = Question(np.zeros((0, len(X)), dtype=bool), np.zeros((0, 1, len(X_query))))
        return replace(
            self, X=X, y=y, X_query=X_query, y_query=y_query, halves=none, without=none,
            groups=none, further=None, changes=self.changes[: len(X_query), :0],
            left_out=self.left_out[:0], _part=part,
        )  # fmt: skip

    def texts(self) -> tuple[list[str], list[str]]:
        """Texts of the training rows and of the queries, for methods that read words.

        Returns
        -------
        texts, query_texts : list of str
            With what was planted: copies of queries, or a word as the mark of a shortcut.

        Raises
        ------
        ValueError
            If the rows are not texts.
        """
        if is_language(self.recipe["model"]):
            return texts_of(self._home, self.X), texts_of(self._home, self.X_query)
        if self.X.dtype.kind != "i" and "tfidf" not in self.recipe["source"]:
            raise ValueError(f"name: the rows of {self.name} are not texts.")
        found, _ = SOURCES[self.recipe["source"]][0](self._home)
        texts, shown = (list(found[self._arrays[key]]) for key in ("train", "query"))
        if self._part == "planted.":
            for row, query in zip(self.copied, self.copied_queries, strict=True):
                texts[row] = shown[query]
        if self._part == "shortcut.":
            shown = [f"shortcut {shown[query]}" for query in self._arrays["shortcut.queries"]]
            for row in self.marked:
                texts[row] = f"shortcut {texts[row]}"
        return texts, shown

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Damage of a model is that of this ground truth."""
        try:
            yield
        except DamagedFile as error:
            raise ValueError(
                f"name: the ground truth {self.name} is damaged ({error}). Take its files from the "
                "repository again."
            ) from error

    def _of_model(self, kind: str) -> dict[str, NDArray]:
        start = f"{self._part}{kind}."
        return {k.removeprefix(start): v for k, v in self._arrays.items() if k.startswith(start)}


def plant(
    X: NDArray, y: NDArray, X_query: NDArray, y_query: NDArray, flipped: NDArray, labels: NDArray,
    copies: tuple[NDArray, NDArray],
) -> tuple[NDArray, NDArray]:  # fmt: skip
    """Training rows, some with other labels and some that are copies of queries."""
    X, y = X.copy(), y.copy()
    y[flipped] = labels.reshape(-1, *[1] * (y.ndim - 1)).astype(y.dtype)
    copied, queries = copies
    X[copied], y[copied] = X_query[queries], y_query[queries]
    return X, y


def plant_shortcut(
    X: NDArray, y: NDArray, X_query: NDArray, y_query: NDArray, marked: NDArray, queries: NDArray,
    label: NDArray,
) -> tuple[NDArray, NDArray, NDArray, NDArray]:  # fmt: skip
    """Rows with a mark and its label, and queries with both."""
    largest = X.max()
    y, y_query = y.copy(), y_query[queries].copy()
    y[marked] = y_query[:] = label.astype(y.dtype)[0]
    every = np.arange(len(queries))
    return _marked(X, marked, largest), y, _marked(X_query[queries], every, largest), y_query


def _marked(X: NDArray, rows: NDArray, largest: float) -> NDArray:
    """Numbers have their largest value in the last columns, texts begin with their last word."""
    X = X.copy()
    where = slice(0, 3) if X.dtype.kind == "i" else slice(-max(1, X.shape[1] // 50), None)
    X[rows, where] = largest
    return X


def as_given(recipe: dict, rows: tuple) -> tuple:
    """X, y, X_query and y_query in the types and shapes that a recipe's model takes."""
    X, y, X_query, y_query = rows
    if is_language(recipe):
        return as_items(X), None, as_items(X_query), None
    if not is_net(recipe):
        return rows
    if y.dtype.kind == "f":
        y, y_query = (part.astype(np.float32)[:, None] for part in (y, y_query))
    if X.dtype.kind == "f":
        X, X_query = X.astype(np.float32), X_query.astype(np.float32)
    return X, y, X_query, y_query


def load_ground_truth(name: str, *, data_home: str | os.PathLike | None = None) -> GroundTruth:
    """Load a model of the Attribution Atlas with its data and what retraining it showed.

    Parameters
    ----------
    name : str
        Such as ``"wine-linear"``; the page "The Attribution Atlas" of the guide lists them.
    data_home : str, path or None, default=None
        Folder with the files of ground truth or with ``atlas``, and with the data sets that are not
        in scikit-learn or statsmodels; see :func:`get_data_home`.  A clone's
        ``benchmarks/atlas/truths`` is searched as well.

    Returns
    -------
    GroundTruth

    Raises
    ------
    OSError
        If there is no such ground truth, or its data are not found.
    ValueError
        If a file is damaged, or the data are not those that it was made of.

    Notes
    -----
    The files hold positions of rows, weights and outputs, but no data. Nothing is unpickled.

    Examples
    --------
    >>> from influencekit import InfluenceFunction
    >>> from influencekit.datasets import load_ground_truth
    >>> from influencekit.metrics import linear_datamodeling_score
    >>> truth = load_ground_truth("wine-linear")  # doctest: +SKIP
    >>> method = InfluenceFunction(output=truth.output)  # doctest: +SKIP
    >>> scores = method.fit(truth.model, truth.X, truth.y).score(
    ...     truth.X_query, truth.y_query)  # doctest: +SKIP
    >>> linear_datamodeling_score(truth.halves.outputs, truth.halves.masks,
    ...     scores)  # doctest: +SKIP
    """
    recipe, arrays = read_truth(find_folder(name, data_home), name)
    if recipe["source"] not in SOURCES:
        raise ValueError(
            f"name: {name} was made of {recipe['source']!r}, which this version cannot read; it "
            f"reads {', '.join(SOURCES)}."
        )
    home = get_data_home(data_home)
    rows = read_rows(recipe["source"], home, arrays["train"], arrays["query"])
    means, stored = rows[2].mean(axis=0, dtype=np.float64), arrays["query_means"]
    if means.shape != stored.shape or not np.allclose(means, stored, atol=TOLERANCE):
        raise ValueError(
            f"name: the rows of {recipe['source']} are not those that {name} was made of (their "
            "means differ). Use the data set that docs/data.md describes."
        )
    X, y, X_query, y_query = as_given(recipe["model"], rows)
    halves, without, groups = (
        _question(kind, arrays, len(X)) for kind in ("halves", "without", "groups")
    )
    further = _question("further", arrays, len(X)) if "further.masks" in arrays else None
    none = arrays["single.rows"][:0]
    flipped, copied, queries, marked = (arrays.get(key, none) for key in ROWS)
    return GroundTruth(
        name, recipe, X, y, X_query, y_query, halves, without, groups, further,
        arrays["single.rows"], arrays["single.changes"], flipped, copied, queries, marked,
        np.zeros((len(X_query), 0), dtype=bool), arrays, home,
    )  # fmt: skip


def _question(kind: str, arrays: dict[str, NDArray], n: int) -> Question:
    return Question(unpacked(arrays[f"{kind}.masks"], n), arrays[f"{kind}.outputs"])
