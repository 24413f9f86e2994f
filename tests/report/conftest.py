"""Small fitted attributors, and what a browser would make of a page."""

from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from influencekit import InfluenceFunction


class Page(HTMLParser):
    """Elements, attributes and texts of a page."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.attributes, self.texts, self.comments = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, *(name for name, _ in attrs)))
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())

    def handle_comment(self, data):
        self.comments.append(data)

    def values(self, tag, name):
        return [v for t, n, v in self.attributes if (t, n) == (tag, name)]


@pytest.fixture
def parse():
    return Page


@pytest.fixture
def problem(rng):
    """Three classes of twelve flat pixels; the model is wrong on some test examples."""
    centres = rng.random((3, 12))
    y = rng.integers(3, size=60)
    X = centres[y] + 0.4 * rng.standard_normal((60, 12))
    model = LogisticRegression(C=10.0).fit(X[:40], y[:40])
    attributor = InfluenceFunction().fit(model, X[:40], y[:40])
    return SimpleNamespace(
        model=model,
        attributor=attributor,
        X_train=X[:40],
        y_train=y[:40],
        X_query=X[40:],
        y_query=y[40:],
        scores=attributor.score(X[40:], y[40:]),
        losses=-np.log(model.predict_proba(X[40:])[np.arange(20), y[40:]]),
    )
