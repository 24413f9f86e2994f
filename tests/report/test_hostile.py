"""Whatever the data say, the page has the elements and attributes of its template alone.

Each report is made twice, from harmless and from hostile data of the same shape: a parser must
see the same elements with the same attributes in the same order, and the hostile strings as text.
"""

from functools import cache

import numpy as np
import pytest
from markupsafe import Markup
from sklearn.linear_model import LogisticRegression

from influencekit import InfluenceFunction
from influencekit.displays import LambdaPathDisplay
from influencekit.metrics import attribution_agreement
from influencekit.report import AttributionReport

pd = pytest.importorskip("pandas", reason="reports of DataFrames need pandas")

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "</style></title></textarea><svg onload=alert(1)>",
    "</td></table><iframe srcdoc='<b>'>",
    "{{ 7 * 7 }}{% for x in y %}${7*7}",
    "<!-- --><![CDATA[ ]]>&lt;&amp;&#60;",
    "javascript:alert(1)",
    "a\u202eb\u2066c\u200bd\ufeffe\U000e0041f",
    "nul\x00esc\x1bbell\x07del\x7f",
    "lone \ud800 surrogate",
    "long " + "<b>" * 5000,
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \U0001f468\u200d\U0001f469",
    "$\\frac{$ % # & _",
]
HARMLESS = [f"word{i}" for i in range(len(HOSTILE))]
N = 24


def model_and_data():
    rng = np.random.default_rng(0)
    X = rng.random((N, 3))
    y = (X[:, 0] + 0.5 * rng.random(N) > 0.8).astype(int)
    return LogisticRegression().fit(X, y), X, y


def spread(words, n):
    return [words[i % len(words)] for i in range(n)]


def table_report(words):
    """Words as column names, row labels, values, classes, title, names of figures and date."""
    model, X, y = model_and_data()
    columns = spread(words, len(words))
    values = [
        [*spread(words[i % 5 :], len(columns) - 3), None, float("nan"), pd.NA] for i in range(N)
    ]
    table = pd.DataFrame(values, columns=columns, index=spread(words, N), dtype=object)

    def output(outputs, targets):
        return outputs[:, 0]

    output.__name__ = words[0]
    influence = InfluenceFunction(output=output).fit(model, X, y)
    gold = np.random.default_rng(1).standard_normal((2, 3, 5))
    return AttributionReport.from_attributor(
        influence,
        X,
        y,
        X_train=X,
        y_train=y,
        examples=(table, table),
        target_names=words[:2],
        title=words[1],
        date=words[2],
        rows=range(12),
        k=3,
        lambda_path=LambdaPathDisplay([1e-3, 1e-2], [0.2, 0.7], picks={words[1]: 5e-3}),
        evaluation={
            **dict.fromkeys(words, 0.5),
            words[0]: attribution_agreement(gold, gold + 1),
            words[-1]: attribution_agreement(gold, gold - 1),
        },
    )


def text_report(words):
    model, X, y = model_and_data()
    labels = np.array(words[:2], dtype=object)[y]
    model = LogisticRegression().fit(X, [str(label) for label in labels])
    influence = InfluenceFunction().fit(model, X, labels)
    return AttributionReport.from_attributor(
        influence,
        X,
        labels,
        y_train=labels,
        examples=(spread(words, N), spread(words[::-1], N)),
        rows=range(N),
        k=4,
        title=words[3],
        lambda_path=None,
        date=words[4],
    )


def image_report(words):
    model, X, y = model_and_data()
    frame = pd.DataFrame(X, index=spread(words, N))
    influence = InfluenceFunction().fit(model, frame, y)
    return AttributionReport.from_attributor(
        influence,
        frame,
        y,
        X_train=frame,
        y_train=y,
        image_shape=(1, 3),
        target_names={0: words[0], 1: words[1]},
        lambda_path=None,
        title=words[5],
        date=words[6],
    )


@cache
def report(make, hostile=True):
    return make(HOSTILE if hostile else HARMLESS)


def written_out(text):
    """The text as the page shows it."""
    hidden = "\u202e\u2066\u200b\ufeff\U000e0041\x00\x1b\x07\x7f\ud800"
    for character in hidden:
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@pytest.mark.parametrize("make", [table_report, text_report, image_report])
def test_structure_does_not_depend_on_data(make, parse):
    harmless, hostile = (parse(report(make, h).to_html()) for h in (False, True))
    assert hostile.elements == harmless.elements
    assert hostile.comments == harmless.comments == []
    pairs = zip(harmless.attributes, hostile.attributes, strict=True)
    changed = {(tag, name) for (tag, name, a), (_, _, b) in pairs if a != b}
    # only a picture in words, and numbers of the drawing, may differ
    assert {c for c in changed if c[0] not in SVG} <= {("img", "alt")}
    drawn = {name for tag, name in changed if tag in SVG}
    assert drawn <= {"x", "y", "d", "transform", "style", "width", "height", "viewbox", "id"} | {
        "xlink:href",
        "clip-path",
    }
    assert not [v for _, n, v in hostile.attributes if n.startswith("on")]


SVG = {"svg", "g", "path", "text", "tspan", "use", "defs", "clippath", "rect", "style"}


def test_hostile_strings_are_text(parse):
    found = parse(report(table_report).to_html()).texts
    texts = " ".join(found)
    for word in HOSTILE[:11]:
        assert written_out(word) in texts
    assert "<b><b>" in texts and "… (15,005 characters)" in texts
    assert {"None", "NaN", "<NA>"} <= set(found)
    assert HOSTILE[12] in texts  # joiners of emoji and right-to-left scripts stay


@pytest.mark.parametrize("make", [table_report, text_report, image_report])
def test_pages_can_be_saved_and_framed(make, parse, tmp_path):
    page = report(make)
    html = page.save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert html == page.to_html()
    frame = parse(page._repr_html_())
    assert [tag for tag, *_ in frame.elements] == ["iframe"]
    assert frame.values("iframe", "srcdoc") == [html]
    controls = [c for c in html if ord(c) < 32 and c != "\n"]
    assert controls == []


def test_markup_from_data_is_escaped_too(problem, parse):
    """A label that calls itself safe HTML is data like any other."""

    class Label(str):
        def __html__(self):  # what markupsafe asks
            return "<script>alert(1)</script>"

    y = [Label(label) for label in problem.y_train]
    made = AttributionReport.from_attributor(
        problem.attributor,
        problem.X_query,
        X_train=problem.X_train,
        y_train=y,
        target_names={label: Markup("<b>name</b>") for label in y},
        title=Label("title"),
        date=Markup("<script>"),
        evaluation={Label("measure"): 1.0},
        lambda_path=None,
    )
    page = parse(made.to_html())
    assert "script" not in {tag for tag, *_ in page.elements}
    assert "<b>name</b>" in page.texts and "<script>" in " ".join(page.texts)
    assert "<script" not in made._repr_html_()
