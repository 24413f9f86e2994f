"""The attribution report: one page that can be shared."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from influencekit.base import BaseAttributor
from influencekit.displays._lambda_path import LambdaPathDisplay
from influencekit.displays.examples._rows import NONE, take
from influencekit.displays.examples._top_examples import TopExamplesDisplay
from influencekit.report._answers import answers, choose_rows, predictions
from influencekit.report._cases import CaseMaker, Names, strongest
from influencekit.report._evaluation import evaluate
from influencekit.report._examples import contents, readable
from influencekit.report._group_section import group_section, inside_groups
from influencekit.report._label_section import check_detector, label_section
from influencekit.report._path_section import PathSection, averaged_over, path_of, path_section
from influencekit.report._settings import damping_text, run
from influencekit.report._slice_table import shown_rows
from influencekit.report._text import plain, render
from influencekit.utils._arguments import check_path
from influencekit.utils._torch import with_gradients

__all__ = ["AttributionReport"]


class AttributionReport:
    """One self-contained HTML page: test examples with their top proponents and opponents.

    Made by :meth:`from_attributor`.  The page contains everything that it shows. It makes no
    network requests and runs no scripts. It follows the reader's light or dark setting, fits a
    narrow screen, and can be printed. Everything that comes from data is escaped.

    Parameters
    ----------
    title : str
    content : mapping of str to object
        Content for the template.
    top_examples : TopExamplesDisplay
        The examples shown, for a table (`to_frame`) or a picture (`plot`) of them.

    Attributes
    ----------
    title : str
    top_examples : TopExamplesDisplay
        The examples; its ``query_positions`` are the test examples shown.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import InfluenceFunction
    >>> from influencekit.report import AttributionReport
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X[::2], y[::2])
    >>> influence = InfluenceFunction().fit(model, X[::2], y[::2])
    >>> report = AttributionReport.from_attributor(
    ...     influence, X[1::2], y[1::2], X_train=X[::2], y_train=y[::2], n_shown=2, lambda_path=None
    ... )
    >>> report
    AttributionReport('Attribution report', test examples [41, 59])
    >>> report.save("report.html")  # doctest: +SKIP
    PosixPath('report.html')
    """

    def __init__(
        self, title: str, content: Mapping[str, Any], top_examples: TopExamplesDisplay
    ) -> None:
        self.title = str(title)  # no Markup
        self.top_examples = top_examples
        self._content = dict(content)

    @classmethod
    @with_gradients
    def from_attributor(
        cls,
        attributor: BaseAttributor,
        X_query: Any,
        y_query: ArrayLike | None = None,
        *,
        X_train: Any = None,
        y_train: ArrayLike | None = None,
        examples: tuple[Any, Any] | None = None,
        rows: ArrayLike | None = None,
        n_shown: int = 5,
        k: int = 5,
        features: Sequence[Any] | None = None,
        image_shape: tuple[int, ...] | None = None,
        target_names: Sequence[str] | Mapping[Any, str] | None = None,
        lambda_path: LambdaPathDisplay | str | None = "auto",
        evaluation: Mapping[str, Any] | None = None,
        detector: Any = None,
        title: str = "Attribution report",
        date: datetime.date | str | None = None,
    ) -> AttributionReport:
        """Score the test examples to be shown, and collect the content of the page.

        Parameters
        ----------
        attributor : fitted attributor
            A fitted attributor or search. Of a GroupAttributor, the page shows the groups, and the
            examples by its ``attributor_``.
        X_query : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
            As for ``attributor.score``.
        y_query : array-like of shape (n_test,) or (n_test, n_outputs), default=None
            None explains the model's own predictions.
        X_train : array-like, DataFrame, Tensor, list, Dataset or DataLoader, default=None
            The data that the attributor was fitted on, in the same order. They are shown to the
            reader, and given to the model for its predictions. None shows only positions and
            scores.
        y_train : array-like of shape (n_train,) or (n_train, n_outputs), default=None
            Labels to show.
        examples : tuple of (train, test), default=None
            What to show instead of `X_train` and `X_query`, if these are not readable: for each, an
            array of images, a DataFrame, a two-dimensional array or a list of texts.
        rows : array-like of int, default=None
            Positions of the test examples to show, in order.  None chooses the `n_shown` examples
            with the highest loss, so mistakes come first. Without `y_query`, it chooses those that
            a classifier is least sure of, or the first ones for a regressor.
        n_shown : int, default=5
        k : int, default=5
            Number of proponents, and of opponents, for each test example.
        features : list of column names, default=None
            Columns of a table to show ("x0", "x1", ... for an array); None shows the first 30.
        image_shape : tuple of int, default=None
            Shape of one image, if examples are flat. Numeric arrays with three or more axes are
            images.
        target_names : sequence or mapping, default=None
            Names of the classes, in their order or by label.
        lambda_path : "auto", LambdaPathDisplay or None, default="auto"
            "auto" shows the path of a search, or that of an attributor with eigenvalues over up to
            100 of the test examples. None leaves it out.
        evaluation : mapping of str to object, default=None
            Results by name: LDSResult, AgreementResult, a number, a matplotlib Figure, or a display
            that was drawn. An LDSSearch adds its own LDS.
        detector : fitted NoisyLabelDetector, default=None
            One that was fitted on the training data: its most suspicious rows are shown, with their
            likely labels.
        title : str, default="Attribution report"
        date : date, datetime or str, default=None
            Date on the page; None is now. With a given date, the same input gives the same bytes.

        Returns
        -------
        AttributionReport

        Raises
        ------
        NotFittedError
            If `attributor` is not fitted.
        ValueError
            If lengths, positions, names or shapes do not fit.
        TypeError
            If an argument has a type that is not accepted.
        ImportError
            If images are to be shown and matplotlib is not installed.

        Notes
        -----
        Scores of the test examples shown are computed twice, for proponents and for opponents,
        by `top_k`, so the score matrix is not stored. The model is run once on all test examples.
        """
        _check_arguments(attributor, k, lambda_path, title)
        given, attributor = attributor, inside_groups(attributor)
        queries = attributor._queries(X_query, y_query)
        if examples is None:
            X_train, y_train = shown_rows(X_train, y_train)
        # checks come before slow work
        names = Names(target_names, attributor.task_.classes)
        results, date = evaluate(attributor, evaluation), _date_text(date)
        found = answers(attributor.task_, queries)
        chosen, rule = choose_rows(rows, n_shown, attributor.task_, found)
        n_train, n_test = attributor.n_train_, queries.n_examples
        check_detector(detector, n_train)
        train, test = _tables(X_train, X_query, examples, n_train, n_test)
        train_labels = _labels(y_train, n_train)
        for labels in (train_labels, found.label, found.predicted):
            names.check_covers(labels)
        top = TopExamplesDisplay(
            **strongest(attributor, queries.take(chosen), k),
            X_train=train,
            X_query=take(test, chosen),
            y_train=train_labels,
            y_query=None if found.label is None else _labels(found.label[chosen], len(chosen)),
            query_positions=chosen,
            image_shape=image_shape,
        )
        used = np.unique(np.concatenate([top.proponents, top.opponents], axis=None))
        used = used[used != NONE]
        shown = contents(train, top.X_query, used, image_shape, features)
        maker = CaseMaker(
            top,
            shown,
            found,
            predictions(attributor.task_, X_train, used, n_train),
            _row_labels(queries.index, test),
            _row_labels(attributor.train_index_, train),
            names,
        )
        content = {
            "chosen": f"Shown: {len(chosen)} of {n_test:,} test examples, {rule}.",
            "shown": shown,
            "cases": maker.cases(),
            "k": min(k, n_train),
            "path": _path(attributor, queries, lambda_path),
            "evaluation": results,
            "groups": group_section(given, X_query, y_query),
            "labels": label_section(detector, names, _row_labels(attributor.train_index_, train)),
            "date": date,
            **run(attributor, found, queries),
        }
        return cls(title, content, top)

    def to_html(self) -> str:
        """Return the page.

        Returns
        -------
        str
            A complete HTML document.
        """
        return render("report.html", title=self.title, **self._content)

    def save(self, path: str | os.PathLike) -> Path:
        """Write the page into a file, in UTF-8.

        Parameters
        ----------
        path : str or path
            An existing file is overwritten.

        Returns
        -------
        Path

        Raises
        ------
        ValueError
            If the folder does not exist, or the path is a folder.
        """
        check_path("path", path)
        file = Path(path)
        if not file.parent.is_dir() or file.is_dir():
            what = "is a folder" if file.is_dir() else f"has no folder {str(file.parent)!r}"
            raise ValueError(
                f"path: {str(file)!r} {what}; accepted is a file's name in a folder that exists."
            )
        file.write_text(self.to_html(), encoding="utf-8", newline="\n")
        return file

    def _repr_html_(self) -> str:
        """Show the page in its own frame, so that its styles and those around it do not mix."""
        return render("frame.html", title=self.title, page=self.to_html())

    def __repr__(self) -> str:
        rows = self.top_examples.query_positions.tolist()
        return f"{type(self).__name__}({self.title!r}, test examples {rows})"


def _check_arguments(attributor: Any, k: Any, lambda_path: Any, title: Any) -> None:
    if not isinstance(attributor, BaseAttributor):
        raise TypeError(
            f"attributor: got {type(attributor).__name__}; accepted is a fitted attributor such "
            "as InfluenceFunction or SurrogateLambdaSearchCV."
        )
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k: got {k!r}; accepted are integers of 1 or more.")
    known = lambda_path is None or isinstance(lambda_path, LambdaPathDisplay)
    if not known and not (isinstance(lambda_path, str) and lambda_path == "auto"):
        raise TypeError(
            f"lambda_path: got {lambda_path!r}; accepted are 'auto', None or a LambdaPathDisplay."
        )
    if not isinstance(title, str):
        raise TypeError(f"title: got {type(title).__name__}; accepted is a str.")


def _tables(
    X_train: Any, X_query: Any, examples: Any, n_train: int, n_test: int
) -> tuple[Any, Any]:
    """What to show for all training and all test examples."""
    if examples is None:
        if X_train is None:
            return readable(None, "X_train", n_train), readable(None, "X_query", n_test)
        return readable(X_train, "X_train", n_train), readable(X_query, "X_query", n_test)
    if not isinstance(examples, (tuple, list)) or len(examples) != 2:
        raise TypeError(
            f"examples: got {type(examples).__name__}; accepted is a pair (train, test) of what to "
            "show, for instance two lists of texts."
        )
    train, test = examples
    return readable(train, "examples[0]", n_train), readable(test, "examples[1]", n_test)


def _path(attributor: Any, queries: Any, lambda_path: Any) -> PathSection | None:
    """The section on λ, if there is a path."""
    in_use = damping_text(attributor)
    if isinstance(lambda_path, LambdaPathDisplay):
        return path_section(lambda_path, "the queries that it was made of", in_use)
    path = path_of(attributor, queries) if lambda_path == "auto" else None
    over = averaged_over(attributor, queries.n_examples)
    return None if path is None else path_section(path, over, in_use)


def _row_labels(index: Any, table: Any) -> Any:
    """Row labels of the data given to the model, else of the examples shown."""
    return getattr(table, "index", None) if index is None else index


def _labels(y: Any, n_rows: int) -> np.ndarray | None:
    """Labels along one axis; several values in a row become one object."""
    if y is None:
        return None
    array = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    if array.ndim == 0 or len(array) != n_rows:
        raise ValueError(
            f"y_train: got shape {array.shape}; accepted is one label for each of the {n_rows:,} "
            "training examples."
        )
    if array.ndim == 1:
        return array
    if array.shape[1:] == (1,):
        return array[:, 0]
    rows = np.empty(n_rows, dtype=object)
    rows[:] = list(array)
    return rows


def _date_text(date: Any) -> str:
    if date is None:
        return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    if isinstance(date, (datetime.date, str)):
        return plain(date)
    raise TypeError(f"date: got {type(date).__name__}; accepted are a date, a datetime or a str.")
