"""What the page says is what the attributor and the model say."""

import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils.data import TensorDataset

from influencekit import (
    GradDot,
    InfluenceFunction,
    LDSSearch,
    RandomBaseline,
    SurrogateLambdaSearchCV,
)
from influencekit.displays import GroupScoresDisplay, LambdaPathDisplay
from influencekit.groups import GroupAttributor, RandomGrouper
from influencekit.metrics import attribution_agreement, linear_datamodeling_score
from influencekit.models._task import TaskList
from influencekit.report import AttributionReport
from influencekit.report._cases import Names

pd = pytest.importorskip("pandas", reason="reports of DataFrames need pandas")
matplotlib = pytest.importorskip("matplotlib", reason="pictures need matplotlib")

make = AttributionReport.from_attributor


def given(problem, **changes):
    """Arguments of a usual report."""
    arguments = {
        "X_train": problem.X_train,
        "y_train": problem.y_train,
        "lambda_path": None,
        "date": "2026-01-01",
    }
    return (problem.attributor, problem.X_query, problem.y_query), {**arguments, **changes}


def report_of(problem, **changes):
    positional, named = given(problem, **changes)
    return make(*positional, **named)


def cards(report):
    """Cards by test example: position, then sides."""
    return {case.test.row: case for case in report._content["cases"]}


def test_top_examples_are_those_of_the_score_matrix(problem):
    report = report_of(problem, rows=[7, 2], k=3)
    for row, case in cards(report).items():
        scores = problem.scores[row]
        for (_, _, found), order in zip(
            case.sides, (np.argsort(-scores), np.argsort(scores)), strict=True
        ):
            assert [card.row for card in found] == order[:3].tolist()
            shown = [float(card.score) for card in found]
            np.testing.assert_allclose(shown, scores[order[:3]], rtol=5e-3)
            largest = max(abs(scores[order]).max(), 0)
            assert found[0].share == pytest.approx(100 * abs(scores[order[0]]) / largest, abs=0.06)
    assert report.top_examples.query_positions.tolist() == list(cards(report)) == [7, 2]


def test_default_rows_have_the_highest_loss(problem, parse):
    report = report_of(problem, n_shown=4)
    assert list(cards(report)) == np.argsort(-problem.losses)[:4].tolist()
    texts = " ".join(parse(report.to_html()).texts)
    assert "Shown: 4 of 20 test examples, those with the highest loss" in texts


def test_labels_predictions_and_mistakes(problem):
    report = report_of(problem, n_shown=20)
    predicted = problem.model.predict(problem.X_query)
    probability = problem.model.predict_proba(problem.X_query).max(axis=1)
    of_train = problem.model.predict(problem.X_train)
    assert 0 < (predicted != problem.y_query).sum() < 20
    for row, case in cards(report).items():
        facts = dict(case.test.facts)
        assert (facts["label"], facts["predicted"]) == (
            str(problem.y_query[row]),
            str(predicted[row]),
        )
        assert float(facts["probability"]) == pytest.approx(probability[row], rel=1e-3)
        assert float(facts["loss"]) == pytest.approx(problem.losses[row], rel=1e-3)
        assert case.test.mistaken == (predicted[row] != problem.y_query[row])
        for card in (card for _, _, found in case.sides for card in found):
            label, own = problem.y_train[card.row], of_train[card.row]
            sure = f"{problem.model.predict_proba(problem.X_train[[card.row]]).max():.4g}"
            assert card.facts == [
                ("label", str(label)), ("predicted", str(own)), ("probability", sure),
            ]  # fmt: skip
            assert card.mistaken == (label != own)


def test_a_sentence_under_each_mistake_says_which_side_argues_for_it(problem, parse):
    predicted = problem.model.predict(problem.X_query)
    wrong = np.flatnonzero(predicted != problem.y_query)
    right = np.flatnonzero(predicted == problem.y_query)
    page = report_of(problem, rows=[*wrong[:2].tolist(), int(right[0])]).to_html()
    text = " ".join(" ".join(parse(page).texts).split())
    assert text.count("opponents argue against this label, and so for the mistake") == len(
        wrong[:2]
    )
    said = "Themodelpredicts{},andthescoresareaboutthelabel{}:"
    assert said.format(predicted[wrong[0]], problem.y_query[wrong[0]]) in text.replace(" ", "")


def test_score_matrix_is_never_asked_for(problem, monkeypatch):
    positional, named = given(problem, rows=[3, 4], lambda_path="auto")
    asked = []
    fitted = problem.attributor.fitted_[0]
    inner = fitted.scores

    def score(queries):
        asked.append(queries.n_examples)
        return inner(queries)

    monkeypatch.setattr(fitted, "scores", score)
    make(*positional, **named)
    assert asked == [2, 2]  # proponents and opponents of the two examples shown


def test_same_input_gives_the_same_bytes(problem, tmp_path):
    report = report_of(problem, lambda_path="auto", image_shape=(3, 4))
    first = report.save(tmp_path / "a.html").read_bytes()
    again = report_of(problem, lambda_path="auto", image_shape=(3, 4))
    assert first == again.save(str(tmp_path / "b.html")).read_bytes()
    assert first.decode() == report.to_html()
    assert b"\r" not in first and b"2026-01-01" in first


_CHILD = """
import hashlib, numpy as np
from sklearn.linear_model import Ridge
from influencekit import InfluenceFunction
from influencekit.report import AttributionReport
from influencekit.report._cases import Names
rng = np.random.default_rng(0)
X, y = rng.random((30, 3)), rng.random(30)
influence = InfluenceFunction(output=lambda outputs, targets: outputs[:, 0]).fit(
    Ridge().fit(X, y), X, y
)
html = AttributionReport.from_attributor(influence, X, y, X_train=X, date="d").to_html()
digest = hashlib.sha256(html.encode()).hexdigest()
"""


@pytest.mark.slow
def test_same_bytes_in_another_process():
    """Neither memory addresses nor the order of hashes reach the page."""
    here = {}
    exec(_CHILD, here)
    there = subprocess.run(
        [sys.executable, "-c", _CHILD + "print(digest)"],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == here["digest"]


def test_page_is_self_contained(problem, parse):
    html = report_of(problem, lambda_path="auto", image_shape=(3, 4)).to_html()
    page = parse(html)
    assert not {tag for tag, *_ in page.elements} & {"script", "link", "iframe", "object", "base"}
    assert all(v.startswith("data:image/png;base64,") for v in page.values("img", "src"))
    assert all(v.startswith("#") for v in page.values("use", "xlink:href"))
    assert not page.values("a", "href") and "@import" not in html
    assert not re.findall(r"url\((?!#)", html)
    policy = page.values("meta", "content")
    assert any("default-src 'none'" in value for value in policy)
    assert all(page.values("img", "alt"))
    assert {"h1", "h2", "h3", "h4", "main", "svg"} <= {tag for tag, *_ in page.elements}


def test_the_damping_is_below_a_fold(problem):
    html = report_of(problem, lambda_path="auto", image_shape=(3, 4)).to_html()
    _, _, section = html.partition("<h2>Damping λ</h2>")
    head, _, folded = section.partition("<details>")
    assert head.strip() == "" and "<svg" in folded.partition("</details>")[0]


def png(address):
    stream = io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,")))
    return matplotlib.image.imread(stream)


def test_images_hold_the_pixels(problem):
    report = report_of(problem, rows=[0], k=2, image_shape=(3, 4))
    case = cards(report)[0]
    used = [card.row for _, _, found in case.sides for card in found]
    pixels = np.concatenate([problem.X_train[used], problem.X_query[:1]])
    low, high = pixels.min(), pixels.max()
    for card in [case.test, *(c for _, _, found in case.sides for c in found)]:
        X = problem.X_query if card is case.test else problem.X_train
        expected = (X[card.row].reshape(3, 4) - low) / (high - low)
        np.testing.assert_allclose(png(card.content)[..., 0], expected, atol=2 / 255)  # 256 greys


def test_arrays_of_three_axes_are_images(problem):
    images = (problem.X_train.reshape(-1, 3, 4), problem.X_query.reshape(-1, 3, 4))
    report = report_of(problem, X_train=None, examples=images, rows=[0], k=1)
    assert png(cards(report)[0].test.content).shape[:2] == (3, 4)
    color = [np.repeat(part.reshape(-1, 1, 6, 2), 3, axis=1) for part in images]
    report = report_of(problem, X_train=None, examples=tuple(color), rows=[0], k=1)
    assert png(cards(report)[0].test.content).shape[:2] == (6, 2)


def test_dataframes_keep_their_names(problem, parse):
    columns = [f"c{i}" for i in range(12)]
    train = pd.DataFrame(problem.X_train, columns=columns, index=[f"r{i}" for i in range(40)])
    test = pd.DataFrame(problem.X_query, columns=columns, index=[f"t{i}" for i in range(20)])
    model = LogisticRegression(C=10.0).fit(train, problem.y_train)
    influence = InfluenceFunction().fit(model, train, problem.y_train)
    report = make(
        influence,
        test,
        pd.Series(problem.y_query, index=test.index),
        X_train=train,
        y_train=pd.Series(problem.y_train, index=train.index),
        rows=[5],
        k=2,
        features=["c3", "c0"],
        target_names=["ant", "bee", "cat"],
        lambda_path=None,
    )
    case = cards(report)[5]
    assert case.test.name == "t5" and case.test.content[1] == f"{problem.X_query[5, 0]:.4g}"
    best = case.sides[0][2][0]
    assert best.name == f"r{best.row}"
    assert best.content == [f"{problem.X_train[best.row, i]:.4g}" for i in (3, 0)]
    assert dict(best.facts)["label"] == ["ant", "bee", "cat"][problem.y_train[best.row]]
    page = parse(report.to_html())
    assert {"c3", "c0", "t5", best.name} <= set(page.texts) and "c1" not in page.texts
    assert "2 of 12 features are shown." in page.texts
    assert report.top_examples.to_frame().loc[("t5", "proponent", 1), "train"] == best.name


def test_texts_of_a_pipeline(parse):
    words = ["good fine film", "bad dull film", "fine good", "dull bad bad", "good", "dull"] * 4
    y = np.array(["pos", "neg"] * 12)
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(words, y)
    influence = InfluenceFunction().fit(model, words, y)
    report = make(
        influence, ["good dull", "x" * 3000], X_train=words, y_train=y, k=2, lambda_path=None
    )
    page = parse(report.to_html())
    assert "good dull" in page.texts and {"good fine film", "good"} & set(page.texts)
    assert any(t.startswith("x" * 1500 + "… (3,000 characters)") for t in page.texts)
    assert "label" not in dict(cards(report)[0].test.facts)  # without y_query
    assert "least sure" in report._content["chosen"]
    assert "model's own prediction" in report._content["explained"]


def test_rows_of_a_side_without_examples(problem, parse, monkeypatch):
    influence = problem.attributor
    monkeypatch.setattr(
        influence.fitted_[0], "scores", lambda queries: np.full((len(queries), 40), 0.5)
    )
    report = report_of(problem, rows=[0, 1], k=2)
    assert all(case.sides[1][2] == [] for case in cards(report).values())
    assert [card.row for card in cards(report)[0].sides[0][2]] == [0, 1]
    assert parse(report.to_html()).texts.count("none") == 2
    monkeypatch.setattr(
        influence.fitted_[0], "scores", lambda queries: np.zeros((len(queries), 40))
    )
    assert parse(report_of(problem, rows=[0]).to_html()).texts.count("none") == 2
    images = report_of(problem, rows=[0], image_shape=(3, 4))
    assert parse(images.to_html()).texts.count("none") == 2


def test_k_is_cut_to_the_training_set(problem):
    case = cards(report_of(problem, rows=[0], k=1000))[0]
    assert sum(len(found) for _, _, found in case.sides) == (problem.scores[0] != 0).sum()


def test_without_training_data_positions_and_scores_are_shown(problem, parse):
    report = report_of(problem, X_train=None, y_train=None, rows=[1], k=1)
    card = cards(report)[1].sides[0][2][0]
    assert card.facts == [] and card.row == problem.scores[1].argmax()
    assert card.score in parse(report.to_html()).texts


def test_regression(rng):
    X, y = rng.random((30, 3)), rng.random(30)
    model = Ridge().fit(X, y)
    influence = InfluenceFunction().fit(model, X, y)
    report = make(influence, X, y, X_train=X, y_train=y, n_shown=2, lambda_path=None)
    worst = np.argsort(-((y - model.predict(X)) ** 2))[:2]
    assert list(cards(report)) == worst.tolist()
    case = cards(report)[worst[0]]
    assert float(dict(case.test.facts)["predicted"]) == pytest.approx(
        model.predict(X)[worst[0]], rel=1e-3
    )
    assert not case.test.mistaken and "mistaken" not in report.to_html().split("</style>")[1]
    without = make(influence, X, X_train=X, lambda_path=None, n_shown=3)
    assert list(cards(without)) == [0, 1, 2]
    assert without._content["explained"] == "the prediction"


def test_datasets_ensembles_and_several_outputs(rng):
    torch.manual_seed(0)
    X, y = torch.rand(24, 3), torch.rand(24, 2)
    nets = [nn.Linear(3, 2) for _ in range(2)]
    tasks = TaskList.of([_fitted(net, X, y) for net in nets])
    data = TensorDataset(X, y)
    influence = InfluenceFunction().fit(tasks, data)
    report = make(influence, data, X_train=data, examples=(X, X.numpy()), y_train=y, n_shown=2)
    case = next(iter(cards(report).values()))
    label = dict(case.test.facts)["label"].split(", ")
    np.testing.assert_allclose([float(v) for v in label], y[case.test.row], rtol=1e-3)
    assert dict(report._content["settings"])["number of models"] == "2"
    assert report._content["path"].picture


def test_curvature_and_projection_in_use_are_told(rng):
    X, y = torch.rand(24, 3), torch.rand(24, 2)
    task = _fitted(nn.Linear(3, 2), X, y)
    influence = InfluenceFunction("fisher", projection_dim=5, random_state=0)
    influence.fit(task, X, y)
    facts = dict(make(influence, X, y)._content["settings"])
    assert facts["curvature in use"] == "fisher"
    assert facts["projection in use"].startswith("to 5 of 8 dimensions, rademacher, seed ")
    exact = InfluenceFunction("fisher").fit(task, X, y)
    assert "projection in use" not in dict(make(exact, X, y)._content["settings"])


def _fitted(net, X, y):
    from influencekit import as_task

    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=50)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(X), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    return as_task(net, nn.MSELoss())


def test_path_of_a_search(problem, parse):
    search = SurrogateLambdaSearchCV(InfluenceFunction(), random_state=0)
    search.fit(problem.model, problem.X_train, problem.y_train)
    problem.attributor = search
    path = report_of(problem, lambda_path="auto")._content["path"]
    head, rows = path.tables[0][1:]
    assert head == ("damping λ", "mean ξ") and len(rows) + 1 == len(search.cv_results_["mean_xi"])
    drawn = search.cv_results_["mean_xi"][1:]  # all but that of λ = 0
    assert [float(xi) for _, xi in rows] == pytest.approx(drawn, abs=1e-3)
    assert f"λ = {search.best_params_['damping']:.4g}" in path.note
    assert "queries of the search" in path.note
    assert dict(report_of(problem)._content["settings"])["damping λ in use"] == (
        f"{search.best_params_['damping']:.4g}"
    )


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.LambdaPathWarning")
def test_path_of_a_search_that_took_no_damping(problem):
    """Its row has no place on the logarithmic axis."""
    search = SurrogateLambdaSearchCV(InfluenceFunction(damping=0), [1e3, 1e4], random_state=0)
    search.fit(problem.model, problem.X_train, problem.y_train)
    problem.attributor = search
    path = report_of(problem, lambda_path="auto")._content["path"]
    assert search.best_params_ == {"damping": 0.0} and len(path.tables[0][2]) == 2


def test_path_of_an_attributor_is_that_of_the_test_examples(problem):
    path = report_of(problem, lambda_path="auto")._content["path"]
    rows = np.array(path.tables[0][2], dtype=float)
    own = problem.attributor.damping_path(problem.X_query, problem.y_query)
    np.testing.assert_allclose(rows[:, 1], own.xi(rows[:, 0]).mean(axis=1), rtol=2e-3)
    assert "20 of the test examples" in path.note and f"{problem.attributor.damping_:.4g}" in (
        path.note
    )


def test_path_and_lds_of_a_search_by_retraining(problem, parse):
    search = LDSSearch(InfluenceFunction(), n_subsets=5, n_trials=4, random_state=0)
    queries = {"X_query": problem.X_query[:9], "y_query": problem.y_query[:9]}
    problem.attributor = search.fit(problem.model, problem.X_train, problem.y_train, **queries)
    content = report_of(problem, lambda_path="auto")._content
    tried = sorted((t.params["damping"], t.value) for t in search.study_.trials if t.params)
    shown = np.array(content["path"].tables[1][2], dtype=float)
    np.testing.assert_allclose(shown, tried, rtol=1e-3)
    measure = content["evaluation"].measures[0]
    assert measure[1] == f"{search.best_score_:.4g}" and "tuned" in measure[0]


def test_methods_without_a_path(problem):
    problem.attributor = GradDot().fit(problem.model, problem.X_train, problem.y_train)
    assert report_of(problem, lambda_path="auto")._content["path"] is None
    given_path = LambdaPathDisplay([1e-3, 1e-2], [0.2, 0.7])
    assert report_of(problem, lambda_path=given_path)._content["path"].picture


def test_groups_are_shown_beside_the_examples(problem, parse):
    grouped = GroupAttributor(InfluenceFunction("fisher"))
    names = np.repeat(["<b>north</b>", "south"], [25, 15])
    grouped.fit(problem.model, problem.X_train, problem.y_train, groups=names)
    problem.attributor = grouped
    report = report_of(problem)
    means = grouped.score(problem.X_query, problem.y_query).mean(axis=0)
    order = np.argsort(-means)
    assert report._content["groups"].rows == [
        [["<b>north</b>", "south"][g], ["25", "15"][g], f"{means[g]:.4g}"] for g in order
    ]
    page = parse(report.to_html())
    drawn = str(report._content["groups"].picture)  # sizes, and what a bar to the right means
    assert "south (15 rows)" in drawn and "positive: a proponent" in drawn
    assert "Groups of training examples" in page.texts and "<b>north</b>" in page.texts
    problem.attributor = grouped.attributor_
    alone = report_of(problem)
    assert alone._content["groups"] is None
    assert alone.top_examples.to_frame().equals(report.top_examples.to_frame())


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.LambdaPathWarning")  # of four groups
def test_searches_around_groups_are_refused_with_the_way_out(problem):
    grouped = GroupAttributor(InfluenceFunction("fisher"), RandomGrouper(4, random_state=0))
    around = SurrogateLambdaSearchCV(grouped, random_state=0)
    around.fit(problem.model, problem.X_train, problem.y_train)
    problem.attributor = around
    with pytest.raises(TypeError, match="Accepted is a GroupAttributor without property="):
        report_of(problem)
    problem.attributor = around.best_attributor_.attributor_
    groups = GroupScoresDisplay.from_estimator(around, problem.X_query, problem.y_query)
    assert report_of(problem, evaluation={"groups": groups})._content["evaluation"].figures


def test_evaluation(problem, parse, rng):
    masks = rng.random((6, 40)) > 0.5
    lds = linear_datamodeling_score(rng.random((6, 20)), masks, problem.scores)
    gold = rng.standard_normal((3, 4, 6))
    agreement = attribution_agreement(gold, gold + 0.5 * rng.standard_normal(gold.shape))
    figure, ax = matplotlib.pyplot.subplots()
    ax.plot([0, 1])
    evaluation = {"LDS": lds, "by hand": 0.25, "mine": agreement, "curve": figure}
    report = report_of(problem, evaluation=evaluation)
    matplotlib.pyplot.close(figure)
    found = report._content["evaluation"]
    values = (f"{lds.mean:.4g}", f"{lds.standard_error:.4g}", "not known", "20")
    assert found.measures == [("LDS (spearman)", *values), ("by hand", "0.25", "", "", "")]
    assert [row[:2] for row in found.agreement] == [("mine", str(h)) for h in (1, 2, 3)]
    assert found.agreement[0][2].startswith(f"{agreement.cosine[0]:.4g}\N{NO-BREAK SPACE}±")
    page = parse(report.to_html())
    assert {"by hand", "mine", "curve"} <= set(page.texts)
    assert png(found.figures[0][1]).ndim == 3


def test_without_matplotlib_tables_remain(problem, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setattr("influencekit.report._path_section.find_spec", lambda name: None)
    path = report_of(problem, lambda_path="auto")._content["path"]
    assert path.picture is None and path.tables[0][2]
    with pytest.raises(ImportError, match=r"`pip install matplotlib`"):
        report_of(problem, image_shape=(3, 4))


def test_drawing_leaves_settings_and_figures_alone(problem):
    before, open_before = dict(matplotlib.rcParams), matplotlib.pyplot.get_fignums()
    with matplotlib.style.context("dark_background"):
        dark = report_of(problem, lambda_path="auto").to_html()
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.pyplot.get_fignums() == open_before
    assert dark == report_of(problem, lambda_path="auto").to_html()


def test_notebooks_get_a_frame_of_its_own(problem, parse):
    report = report_of(problem)
    frame = parse(report._repr_html_())
    assert frame.elements == [("iframe", "title", "srcdoc", "sandbox", "style")]
    assert frame.values("iframe", "srcdoc") == [report.to_html()]
    assert repr(report).startswith("AttributionReport('Attribution report', test examples [")


def test_cautions_follow_the_model(problem):
    assert report_of(problem)._content["cautions"] == []
    problem.attributor.fitted_[0].gradient_ratio = 0.7
    problem.attributor.train_rows_ = np.arange(30)
    first, second = report_of(problem)._content["cautions"]
    assert "not at a stationary point" in first and "0.7" in first
    assert "held out 10 of" in second


def test_page_says_whether_scores_are_predicted(problem):
    assert "predictions" in report_of(problem)._content["nature"]
    problem.attributor = RandomBaseline(random_state=0).fit(
        problem.model, problem.X_train, problem.y_train
    )
    assert "baseline" in report_of(problem)._content["nature"]
    assert "was not measured for this page" in " ".join(report_of(problem).to_html().split())
    measured = report_of(problem, evaluation={"LDS": 0.5}).to_html()
    assert "was not measured for this page" not in " ".join(measured.split())


def test_errors_name_the_argument(problem, tmp_path):
    def fails(kind, message, **changes):
        with pytest.raises(kind, match=message):
            report_of(problem, **changes)

    fails(ValueError, "k: got 0", k=0)
    fails(ValueError, "n_shown: got 0", n_shown=0)
    fails(ValueError, "`rows` must be integer positions", rows=[20])
    fails(ValueError, "X_train: got 39 examples; accepted are 40", X_train=problem.X_train[:39])
    fails(ValueError, r"y_train: got shape \(3,\)", y_train=[1, 2, 3])
    fails(ValueError, r"features: \['z'\] are not columns", features=["z"])
    fails(ValueError, "features: got 'x0'", features="x0")
    fails(ValueError, "features: got .* kind 'image'", features=["x0"], image_shape=(3, 4))
    fails(ValueError, "`image_shape`.*In a report", image_shape=(5, 5))
    fails(ValueError, "target_names: got", target_names=["a", "b"])
    with pytest.raises(ValueError, match="got 1 names, but there is a label 1"):
        Names(["a"], None).check_covers(np.array([0, 1]))
    fails(TypeError, "examples: got", examples="text")
    fails(TypeError, r"examples\[0\]: got int", examples=(3, 4))
    fails(ValueError, r"examples\[1\]: got 2 examples", examples=(problem.X_train, ["a", "b"]))
    fails(TypeError, "evaluation: 'a' is a str", evaluation={"a": "good"})
    fails(TypeError, "evaluation: got list", evaluation=[1])
    fails(TypeError, "lambda_path: got 3", lambda_path=3)
    fails(TypeError, "date: got int", date=3)
    fails(TypeError, "title: got int", title=3)
    with pytest.raises(TypeError, match="attributor: got LogisticRegression"):
        make(problem.model, problem.X_query)
    with pytest.raises(NotFittedError):
        make(InfluenceFunction(), problem.X_query)
    report = report_of(problem)
    with pytest.raises(ValueError, match="has no folder"):
        report.save(tmp_path / "missing" / "report.html")
    with pytest.raises(ValueError, match="is a folder"):
        report.save(tmp_path)


def test_templates_are_part_of_the_package():
    folder = Path(sys.modules["influencekit.report"].__file__).parent / "templates"
    assert {p.name for p in folder.iterdir()} == {
        "cases.html",
        "frame.html",
        "report.html",
        "style.css",
    }
