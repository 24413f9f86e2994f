"""A test example with its strongest proponents and opponents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influencekit.displays.examples._rows import NONE
from influencekit.displays.examples._top_examples import TopExamplesDisplay
from influencekit.report._answers import Answers
from influencekit.report._examples import Contents, row_name
from influencekit.report._text import number, plain

__all__ = ["CaseMaker", "Names", "strongest"]


@dataclass(frozen=True)
class Card:
    """What is shown about one example.

    Attributes
    ----------
    title : str
        Such as "proponent 1".
    row : int
        Its position.
    name : str or None
        Its row label.
    facts : list of tuple of str
        Label, prediction and so on.
    content : object
        As in :class:`Contents`.
    mistaken : bool
        Whether the model predicts another label than that of the example.
    score : str
        Empty for the test example.
    share : float
        Size of the score in percent of the largest score shown for the test example.
    """

    title: str
    row: int
    name: str | None
    facts: list[tuple[str, str]]
    content: Any
    mistaken: bool = False
    score: str = ""
    share: float = 0.0

    def fact(self, name: str) -> str:
        """One of the facts; empty if it is not known."""
        return dict(self.facts).get(name, "")

    @property
    def alt(self) -> str:
        """The card's picture in words."""
        label = "" if self.name is None else f" ({self.name})"
        facts = "".join(f", {name} {value}" for name, value in self.facts)
        score = f", score {self.score}" if self.score else ""
        return f"{self.title}: row {self.row}{label}{facts}{score}"


@dataclass(frozen=True)
class Case:
    """One section of the page.

    Attributes
    ----------
    test : Card
    sides : list of tuple of (str, str, list of Card)
        Name, heading and cards of proponents and opponents.
    """

    test: Card
    sides: list[tuple[str, str, list[Card]]]

    @property
    def side_facts(self) -> list[str]:
        """Known facts about training examples: label, prediction, its probability."""
        cards = [card for _, _, cards in self.sides for card in cards]
        return [name for name, _ in cards[0].facts] if cards else []


class Names:
    """Labels by names that a reader knows.

    Parameters
    ----------
    target_names : sequence or mapping or None
        Names of the classes in the order of ``classes``, or by label.
    classes : ndarray or None
        Labels that the model knows; None numbers them from 0.

    Raises
    ------
    ValueError
        If there is not one name for each class.
    """

    def __init__(self, target_names: Any, classes: NDArray | None):
        self._names: dict[Any, Any] = {}
        self._counted = False
        if target_names is None:
            return
        if isinstance(target_names, Mapping):
            self._names = dict(target_names)
            return
        self._counted = classes is None
        labels = range(len(target_names)) if classes is None else np.asarray(classes).tolist()
        if isinstance(target_names, str) or len(target_names) != len(labels):
            raise ValueError(
                f"target_names: got {target_names!r}; accepted is a name for each of the classes "
                f"{list(labels)[:10]}, in this order, or a mapping from labels to names."
            )
        self._names = dict(zip(labels, target_names, strict=True))

    def check_covers(self, labels: NDArray | None) -> None:
        """Refuse a list of names that is too short for these labels, if classes are numbered."""
        if not self._counted or labels is None or labels.dtype.kind not in "iu":
            return
        largest = int(labels.max(initial=0))
        if largest >= len(self._names):
            raise ValueError(
                f"target_names: got {len(self._names)} names, but there is a label {largest}; "
                f"accepted is a name for each of the labels 0 to {largest}, in this order, or a "
                "mapping from labels to names."
            )

    def __call__(self, label: Any) -> str:
        """One label, or several values, as text."""
        if np.ndim(label):
            return plain(", ".join(self(value) for value in np.ravel(label)[:8]))
        label = label.item() if isinstance(label, np.generic) else label
        return plain(self._names.get(label, label))


def strongest(attributor: Any, queries: Any, k: int) -> dict[str, NDArray]:
    """Proponents and opponents with scores, in the form for `TopExamplesDisplay`.

    Parameters
    ----------
    attributor : fitted attributor
    queries : Examples or ExamplesList
    k : int

    Returns
    -------
    dict of str to ndarray of shape (n_queries, k)
        Positions and scores. If fewer examples have the sign, the rest is -1 and NaN.
    """
    k, found = min(k, attributor.n_train_), {}
    for side, sign in (("proponent", 1), ("opponent", -1)):
        rows, scores = attributor.top_k(queries, k=k, opponents=sign < 0)
        of_sign = sign * scores > 0
        found[f"{side}s"] = np.where(of_sign, rows, NONE)
        found[f"{side}_scores"] = np.where(of_sign, scores, np.nan)
    return found


@dataclass(frozen=True)
class CaseMaker:
    """Combines what is known about the examples shown.

    Attributes
    ----------
    top : TopExamplesDisplay
        The examples shown, with their scores and the training labels.
    shown : Contents
    test : Answers
        Answers for all test examples.
    predicted : dict of int to tuple of object and (float or None)
        Predictions for the training examples and their probabilities by position, if the model's
        inputs are known.
    test_index, train_index : Index or None
        Row labels.
    names : Names
    """

    top: TopExamplesDisplay
    shown: Contents
    test: Answers
    predicted: dict[int, tuple[Any, float | None]]
    test_index: Any
    train_index: Any
    names: Names

    def cases(self) -> list[Case]:
        """Sections in the order of the test examples shown."""
        return [self._case(i) for i in range(len(self.top.query_positions))]

    def _case(self, i: int) -> Case:
        row, top = int(self.top.query_positions[i]), self.top
        mistaken = self.test.mistaken is not None and bool(self.test.mistaken[row])
        name, facts = row_name(self.test_index, row), self._test_facts(row)
        card = Card("test example", row, name, facts, self.shown.test[i], mistaken)
        sizes = np.abs(np.concatenate([top.proponent_scores[i], top.opponent_scores[i]]))
        largest = float(np.nanmax(sizes, initial=0.0))
        sides = [
            ("proponent", "Proponents (score > 0)", top.proponents[i], top.proponent_scores[i]),
            ("opponent", "Opponents (score < 0)", top.opponents[i], top.opponent_scores[i]),
        ]
        return Case(
            card,
            [
                (side, heading, list(self._cards(side, rows.tolist(), scores, largest)))
                for side, heading, rows, scores in sides
            ],
        )

    def _cards(self, side: str, rows: Any, scores: Any, largest: Any) -> Iterator[Card]:
        """Cards of the proponents or the opponents of one test example."""
        for rank, (row, score) in enumerate(zip(rows, scores, strict=True), 1):
            if row != NONE:
                facts = self._train_facts(row)
                yield Card(
                    title=f"{side} {rank}",
                    row=row,
                    name=row_name(self.train_index, row),
                    facts=facts,
                    content=self.shown.train[row],
                    mistaken=self.test.classifies and _differ(facts),
                    score=f"{score:+#.3g}",
                    share=round(100 * abs(score) / largest, 1),
                )

    def _train_facts(self, row: int) -> list[tuple[str, str]]:
        facts = []
        if self.top.y_train is not None:
            facts.append(("label", self.names(self.top.y_train[row])))
        if row in self.predicted:
            value, probability = self.predicted[row]
            facts.append(("predicted", self.names(value)))
            if probability is not None:
                facts.append(("probability", number(probability)))
        return facts

    def _test_facts(self, row: int) -> list[tuple[str, str]]:
        facts = []
        for name, values in (("label", self.test.label), ("predicted", self.test.predicted)):
            if values is not None:
                facts.append((name, self.names(values[row])))
        if self.test.probability is not None:
            facts.append(("probability", number(self.test.probability[row])))
        return [*facts, ("loss", number(self.test.loss[row]))]


def _differ(facts: list[tuple[str, str]]) -> bool:
    """Whether the label and the prediction are both known and differ."""
    return len({value for name, value in facts if name in ("label", "predicted")}) > 1
