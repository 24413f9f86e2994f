"""Which examples the grid and the table show, with which labels and frames."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge

from influencekit import GradDot, InfluenceFunction
from influencekit.displays import TopExamplesDisplay

N_TRAIN, N_TEST = 20, 4


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(N_TEST, N_TRAIN))
    scores[1, 3:] = np.abs(scores[1, 3:])  # test 1 has three opponents at most
    scores[1, :3] = [-0.25, -3.0, 0.5]
    return {
        "scores": scores,
        "X_train": rng.random((N_TRAIN, 12)),
        "X_query": rng.random((N_TEST, 12)),
        "y_train": rng.integers(3, size=N_TRAIN),
        "y_query": rng.integers(3, size=N_TEST),
    }


def image(cell):
    return np.asarray(cell.images[0].get_array())


def test_grid_shows_the_top_examples_of_each_row(problem):
    display = TopExamplesDisplay.from_predictions(**problem, k=3, rows=[2, 1], image_shape=(3, 4))
    assert display.axes_.shape == (2, 7)
    for row, test in enumerate([2, 1]):
        scores = problem["scores"][test]
        order = np.argsort(scores)
        expected = [*order[::-1][:3], *[j for j in order[:3] if scores[j] < 0]]
        cells = [cell for cell in display.axes_[row, 1:] if cell is not None]
        assert len(cells) == len(expected) == (6 if test == 2 else 5)
        np.testing.assert_array_equal(
            image(display.axes_[row, 0]), problem["X_query"][test].reshape(3, 4)
        )
        label = problem["y_query"][test]
        assert display.axes_[row, 0].get_xlabel() == f"test {test}\nlabel {label}"
        for cell, train in zip(cells, expected, strict=True):
            np.testing.assert_array_equal(image(cell), problem["X_train"][train].reshape(3, 4))
            value, label = cell.get_xlabel().split("\n")
            assert float(value) == pytest.approx(scores[train], rel=5e-3)
            assert value[0] == ("+" if scores[train] > 0 else "-")
            assert label == f"label {problem['y_train'][train]}"


def test_groups_are_named_and_framed_apart(problem):
    display = TopExamplesDisplay.from_predictions(**problem, k=2, image_shape=(3, 4))
    headings = {text.get_text(): text.get_color() for text in display.ax_.texts}
    assert list(headings) == ["test", "proponents (score > 0)", "opponents (score < 0)"]
    left, right = display.axes_[0, 1].spines["top"], display.axes_[0, 3].spines["top"]
    assert to_hex(left.get_edgecolor()) == headings["proponents (score > 0)"].lower()
    assert to_hex(right.get_edgecolor()) == headings["opponents (score < 0)"].lower()
    assert left.get_linestyle() != right.get_linestyle()


def test_cells_lie_under_their_headings_and_do_not_overlap(problem):
    display = TopExamplesDisplay.from_predictions(**problem, k=2, image_shape=(3, 4))
    display.figure_.canvas.draw()
    boxes = [cell.get_tightbbox() for cell in display.axes_.ravel() if cell is not None]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
    figure = display.figure_.bbox
    for box in boxes:
        assert figure.x0 <= box.x0 and box.x1 <= figure.x1 and figure.y0 <= box.y0
    middle = [text.get_window_extent() for text in display.ax_.texts]
    columns = [0, slice(1, 3), slice(3, 5)]
    for heading, column in zip(middle, columns, strict=True):
        cells = np.atleast_1d(display.axes_[0, column])
        extents = [cell.get_window_extent() for cell in cells]
        center = (min(e.x0 for e in extents) + max(e.x1 for e in extents)) / 2
        assert center == pytest.approx((heading.x0 + heading.x1) / 2, abs=2)
        assert all(heading.y0 >= e.y1 for e in extents)


def test_a_side_without_examples_says_none(problem):
    problem["scores"] = np.abs(problem["scores"])
    display = TopExamplesDisplay.from_predictions(**problem, k=2, rows=[0], image_shape=(3, 4))
    assert [text.get_text() for text in display.ax_.texts].count("none") == 1
    assert [cell is None for cell in display.axes_[0]] == [False, False, False, True, True]
    np.testing.assert_array_equal(display.opponents, [[-1, -1]])
    problem["scores"] *= 0
    empty = TopExamplesDisplay.from_predictions(**problem, rows=[0], image_shape=(3, 4))
    assert [text.get_text() for text in empty.ax_.texts].count("none") == 2


def test_equal_scores_come_in_row_order_and_k_is_cut():
    display = TopExamplesDisplay.from_predictions(
        [[1.0, 2.0, 1.0, -1.0, -1.0]], np.zeros((5, 2)), np.zeros((1, 2)), k=9, plot=False
    )
    assert display.proponents.tolist() == [[1, 0, 2, -1, -1]]
    assert display.opponents.tolist() == [[3, 4, -1, -1, -1]]


def test_default_rows_are_the_first_three(problem):
    display = TopExamplesDisplay.from_predictions(**problem, plot=False)
    assert display.query_positions.tolist() == [0, 1, 2] and not hasattr(display, "ax_")


@pytest.mark.parametrize("channels_first", [True, False])
def test_color_images_of_any_range(problem, channels_first):
    rng = np.random.default_rng(1)
    train, test = rng.normal(size=(N_TRAIN, 5, 6, 3)), rng.normal(size=(N_TEST, 5, 6, 3))
    given = [np.moveaxis(a, -1, 1) if channels_first else a for a in (train, test)]
    display = TopExamplesDisplay.from_predictions(problem["scores"], *given, k=1, rows=[0])
    j = problem["scores"][0].argmax()
    shown = np.stack([train[j], train[problem["scores"][0].argmin()], test[0]])
    low, high = shown.min(), shown.max()
    np.testing.assert_allclose(image(display.axes_[0, 1]), (train[j] - low) / (high - low))


def test_uint8_color_images_keep_their_values(problem):
    rng = np.random.default_rng(1)
    train, test = (rng.integers(0, 90, size=(n, 4, 4, 3), dtype=np.uint8) for n in (N_TRAIN, 4))
    display = TopExamplesDisplay.from_predictions(problem["scores"], train, test, k=1)
    np.testing.assert_allclose(image(display.axes_[0, 0]), test[0] / 255)


def test_grey_images_share_one_range(problem):
    train = problem["X_train"].reshape(-1, 3, 4)
    display = TopExamplesDisplay.from_predictions(
        problem["scores"], train, problem["X_query"].reshape(-1, 3, 4), k=2
    )
    ranges = {c.images[0].get_clim() for c in display.axes_.ravel() if c is not None}
    assert len(ranges) == 1
    assert "\n" not in display.axes_[0, 1].get_xlabel()  # no labels were given


@pytest.mark.parametrize("kind", ["images", "bars"])
def test_captions_of_test_examples_say_what_the_model_predicts(kind):
    X, y = load_digits(n_class=3, return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X[:60], y[:60])
    attributor = GradDot().fit(model, X[:60], y[:60])
    y_query = np.roll(y[60:62], 1)  # mistakes
    display = TopExamplesDisplay.from_estimator(
        attributor, X[:60], X[60:62], y_train=y[:60], y_query=y_query, k=1,
        image_shape=(8, 8), kind=kind,
    )  # fmt: skip
    said, sure = model.predict(X[60:62]), model.predict_proba(X[60:62]).max(1)
    for i in range(2):
        expected = [f"test {i}", f"label {y_query[i]}", f"says {said[i]} ({sure[i]:.0%})"]
        if kind == "images":
            assert display.axes_[i, 0].get_xlabel().split("\n") == expected
        else:
            names = [text.get_text() for text in display.ax_.get_yticklabels()]
            assert f"{expected[0]} ({expected[1]}, {expected[2]})" in names


def test_names_and_real_targets_in_captions(problem):
    names = np.array(["cat", "a very long class name", "dog"])
    problem["y_train"] = names[problem["y_train"]]
    problem["y_query"] = np.array([1.23456, 2, 3, 4])
    display = TopExamplesDisplay.from_predictions(**problem, image_shape=(3, 4), rows=[0], k=9)
    assert display.axes_[0, 0].get_xlabel().endswith("y = 1.23")
    shown = {c.get_xlabel().split("\n")[1] for c in display.axes_[0, 1:] if c is not None}
    assert shown == {"cat", "a very long…", "dog"}


def test_given_axes_hold_the_grid(problem):
    figure, (left, right) = plt.subplots(1, 2)
    display = TopExamplesDisplay.from_predictions(**problem, image_shape=(3, 4), k=1, ax=right)
    assert display.ax_ is right and display.figure_ is figure
    assert set(right.child_axes) == {c for c in display.axes_.ravel() if c is not None}
    assert not left.child_axes


class Attributor:
    """Scores by inner products, and keeps what it was asked."""

    def __init__(self, X):
        self.X = X

    def score(self, X, y=None):
        self.asked = np.asarray(X), y
        return np.asarray(X) @ self.X.T - 3.0


def test_from_estimator_scores_only_the_rows_shown(problem):
    attributor = Attributor(problem["X_train"])
    keep = {k: v for k, v in problem.items() if k != "scores"}
    display = TopExamplesDisplay.from_estimator(
        attributor, **keep, rows=[3, 1], k=2, image_shape=(3, 4)
    )
    np.testing.assert_array_equal(attributor.asked[0], problem["X_query"][[3, 1]])
    np.testing.assert_array_equal(attributor.asked[1], problem["y_query"][[3, 1]])
    scores = problem["X_query"] @ problem["X_train"].T - 3.0
    direct = TopExamplesDisplay.from_predictions(
        **{**problem, "scores": scores}, rows=[3, 1], k=2, plot=False
    )
    np.testing.assert_array_equal(display.proponents, direct.proponents)
    np.testing.assert_array_equal(display.opponents, direct.opponents)
    assert display.axes_[0, 0].get_xlabel().startswith("test 3")
    del keep["y_query"]
    TopExamplesDisplay.from_estimator(attributor, **keep, plot=False)
    assert attributor.asked[1] is None


def test_table_of_a_dataframe(problem):
    pd = pytest.importorskip("pandas", reason="to_frame needs pandas")
    columns = [f"c{i}" for i in range(12)]
    names = [f"row{i}" for i in range(N_TRAIN)]
    train = pd.DataFrame(problem["X_train"], columns=columns, index=names)
    test = pd.DataFrame(problem["X_query"], columns=columns, index=list("abcd"))
    display = TopExamplesDisplay.from_predictions(
        problem["scores"], train, test, y_train=problem["y_train"], y_query=problem["y_query"],
        k=3, rows=[1], plot=False,
    )  # fmt: skip
    table = display.to_frame()
    assert table.columns.tolist() == ["train", "score", "label", *columns]
    assert table.index.tolist() == [
        ("b", "test", 0),
        *[("b", "proponent", r) for r in (1, 2, 3)],
        *[("b", "opponent", r) for r in (1, 2)],
    ]
    opponent = table.loc[("b", "opponent", 1)]
    assert (opponent["train"], opponent["score"]) == ("row1", -3.0)
    assert opponent["label"] == problem["y_train"][1]
    np.testing.assert_array_equal(opponent[columns].astype(float), problem["X_train"][1])
    np.testing.assert_array_equal(
        table.loc[("b", "test", 0), columns].astype(float), problem["X_query"][1]
    )


@pytest.mark.parametrize("kind", ["dates", "levels", "duplicates"])
def test_table_of_other_labels(problem, kind):
    pd = pytest.importorskip("pandas", reason="to_frame needs pandas")
    make = {
        "dates": lambda n: pd.date_range("2020-01-01", periods=n),
        "levels": lambda n: pd.MultiIndex.from_product([["a"], range(n)]),
        "duplicates": lambda n: pd.Index(["same"] * n),
    }[kind]
    train = pd.DataFrame(problem["X_train"], index=make(N_TRAIN))
    test = pd.DataFrame(problem["X_query"], index=make(N_TEST))
    table = TopExamplesDisplay.from_predictions(
        problem["scores"], train, test, k=1, rows=[2], plot=False
    ).to_frame()
    assert table.index.tolist()[1] == (test.index[2], "proponent", 1)
    assert table["train"].iloc[1] == train.index[problem["scores"][2].argmax()]


def test_table_of_texts():
    pytest.importorskip("pandas", reason="to_frame needs pandas")
    display = TopExamplesDisplay.from_predictions(
        [[1.0, -1.0, 0.5]], ["good film", "bad", "meh"], ["a film"], k=2, plot=False
    )
    table = display.to_frame()
    assert table["example"].tolist() == ["a film", "good film", "meh", "bad"]
    assert "label" not in table and table["train"].tolist()[1:] == [0, 2, 1]
    with pytest.raises(ValueError, match=r"`X_train` is not numeric.*kind='bars'"):
        display.plot(kind="images")


def test_rows_of_tables_are_bars_of_their_scores(problem):
    pd = pytest.importorskip("pandas", reason="the rows' names come from a DataFrame")
    train = pd.DataFrame(problem["X_train"], index=[f"row {i}" for i in range(N_TRAIN)])
    test = pd.DataFrame(problem["X_query"], index=[f"query {i}" for i in range(N_TEST)])
    tables = {**problem, "X_train": train, "X_query": test}
    mask = np.array([False, True, True, False])
    display = TopExamplesDisplay.from_predictions(**tables, k=4, rows=mask)
    expected, names = [], []
    for row in (1, 2):
        scores = problem["scores"][row]
        order = np.argsort(-scores)
        shown = [*order[:4], *[j for j in order[-4:] if scores[j] < 0]]
        names += [f"query {row} (label {problem['y_query'][row]})"]
        names += [f"row {j} (label {problem['y_train'][j]})" for j in shown]
        expected += list(scores[shown])
    np.testing.assert_array_equal([bar.get_width() for bar in display.bars_], expected)
    labels = display.ax_.get_yticklabels()
    assert [label.get_text() for label in labels] == names
    assert [label.get_weight() == "bold" for label in labels] == [n[:5] == "query" for n in names]
    hatched = [bool(bar.get_hatch()) for bar in display.bars_]
    assert hatched == [score < 0 for score in expected]
    places = [bar.get_y() for bar in display.bars_]
    assert np.all(np.diff(places) > 0.99) and display.ax_.get_ylim()[0] > places[-1] + 0.7


def test_texts_are_bars_with_their_beginning():
    long = "word " * 30
    display = TopExamplesDisplay.from_predictions([[1.0, -1.0]], [long, "bad"], ["a film"], k=2)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels[0] == "test 0\na film" and labels[2] == "1\nbad"
    assert labels[1].startswith("0\nword word") and labels[1].endswith("…")
    assert len(labels[1]) < 65


def test_bars_fill_given_axes_and_images_can_be_bars(problem):
    _, ax = plt.subplots()
    display = TopExamplesDisplay.from_predictions(**problem, k=1, kind="bars", ax=ax, rows=[0])
    assert display.ax_ is ax and len(display.bars_) == 2


def test_without_matplotlib_or_pandas(problem, monkeypatch):
    display = TopExamplesDisplay.from_predictions(**problem, plot=False)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"`pip install matplotlib`"):
        display.plot()
    with pytest.raises(ImportError, match="needs pandas"):
        display.to_frame()


def test_errors_name_the_argument(problem):
    def fails(message, **changes):
        with pytest.raises(ValueError, match=message):
            TopExamplesDisplay.from_predictions(**{**problem, **changes})

    fails(r"`scores` must have shape .* = \(4, 20\)", scores=problem["scores"].T)
    fails("`scores` holds NaN", scores=problem["scores"] * np.nan)
    fails("`k` must be 1 or more", k=0)
    fails("`rows` must be integer positions", rows=[4])
    fails("`rows` must be integer positions", rows=[0.5])
    fails("or a mask of 4 booleans", rows=np.ones(3, dtype=bool))
    fails(r"`y_train` must have shape \(20,\)", y_train=[1, 2])
    fails("`rows` must be integer positions", rows=[True, False])
    fails("`image_shape`", image_shape=None, kind="images")
    fails("kind: got 'pictures'; accepted are", kind="pictures")
    fails(r"`image_shape` \(5, 5\) has 25 values, .*has 12", image_shape=(5, 5))
    fails("must agree", X_train=np.zeros((20, 3, 3)), X_query=np.zeros((4, 2, 2)))


def test_constructor_checks_positions():
    arguments = {
        "proponents": [[0, 1]],
        "opponents": [[2, -1]],
        "proponent_scores": [[2.0, 1.0]],
        "opponent_scores": [[-1.0, np.nan]],
        "X_train": np.zeros((3, 4)),
        "X_query": np.zeros((1, 4)),
        "image_shape": (2, 2),
    }
    display = TopExamplesDisplay(**arguments).plot()
    assert [cell is None for cell in display.axes_[0]] == [False, False, False, False, True]
    for changes, message in [
        ({"proponents": [[0, 3]]}, "`proponents` must be integer positions from 0 to 2"),
        ({"opponents": [[2, -2]]}, "`opponents` must be integer positions"),
        ({"proponents": [0, 1]}, r"`proponents` must have shape \(n_shown, k\)"),
        ({"opponent_scores": [[1.0]]}, "`opponent_scores` must have the shape of `opponents`"),
        ({"query_positions": [1, 2]}, r"`query_positions` must have shape \(1,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            TopExamplesDisplay(**{**arguments, **changes})


def test_table_says_what_the_model_predicts():
    rng = np.random.default_rng(0)
    X, names = rng.normal(size=(60, 3)), np.array(["ape", "bee"])
    y = names[(X[:, 0] + rng.normal(size=60) > 0).astype(int)]
    model = LogisticRegression().fit(X, y)
    influence = InfluenceFunction().fit(model, X, y)
    display = TopExamplesDisplay.from_estimator(
        influence, X, X[:9], y_train=y, y_query=y[:9], rows=[1, 4], k=2, plot=False
    )
    tests = display.to_frame().xs("test", level="kind")
    assert tests["predicted"].tolist() == model.predict(X[[1, 4]]).tolist()
    np.testing.assert_allclose(
        tests["probability"].astype(float), model.predict_proba(X[[1, 4]]).max(1)
    )
    values = Ridge().fit(X, X[:, 0])
    influence = InfluenceFunction().fit(values, X, X[:, 0])
    display = TopExamplesDisplay.from_estimator(influence, X, X[:9], plot=False)
    table = display.to_frame()
    assert "probability" not in table
    found = table.xs("test", level="kind")["predicted"].astype(float)
    np.testing.assert_allclose(found, values.predict(X[:3]))
