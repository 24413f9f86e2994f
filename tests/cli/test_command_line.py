"""The command line: its tables are those of the calls, and bad input ends in one line."""

import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from influencekit import GradDot, InfluenceFunction, linear_datamodeling_score, retrain_on_subsets
from influencekit.cli._main import main, parser

pd = pytest.importorskip("pandas", reason="pandas is not installed")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "command_line.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model and tables."""
    folder = tmp_path_factory.mktemp("files")
    table = load_iris(as_frame=True).frame
    train, queries = table[::2], table[1:20:4]
    train.to_csv(folder / "train.csv", index=False)
    queries.to_csv(folder / "queries.csv", index=False)
    queries.to_json(folder / "queries.jsonl", orient="records", lines=True)
    X, y = train.drop(columns="target"), train["target"]
    joblib.dump(LogisticRegression(max_iter=500).fit(X, y), folder / "named.joblib")
    plain = LogisticRegression(max_iter=500).fit(X.to_numpy(), y)
    joblib.dump(plain, folder / "plain.joblib")
    np.savez(folder / "train.npz", X=X.to_numpy(), y=y.to_numpy())
    np.savez(folder / "queries.npz", X=queries.drop(columns="target").to_numpy())
    (folder / "own_model.py").write_text(
        "import joblib\n\n\ndef load():\n    return joblib.load('plain.joblib')\n"
    )
    return folder


@pytest.fixture(autouse=True)
def _inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))


def words(command, *more, model="named.joblib", queries="queries.csv", train="train.csv"):
    data = ["--train", train, "--queries", queries, "--target", "target"]
    return [command, "--model", model, "--trust", *data, *more]


def expected(folder, attributor, k, **options):
    """The table, from the arrays and the fitted model, without the package's own."""
    train, queries = (pd.read_csv(folder / f"{name}.csv") for name in ("train", "queries"))
    model = joblib.load(folder / "named.joblib")
    scores = attributor.fit(model, train.drop(columns="target"), train["target"]).score(
        queries.drop(columns="target"), queries["target"]
    )
    return np.argsort(-scores, axis=1, kind="stable")[:, :k], scores


@pytest.mark.parametrize("queries", ["queries.csv", "queries.jsonl"])
def test_query_prints_the_top_rows(folder, capsys, queries):
    assert main(words("query", "-k", "3", queries=queries)) == 0
    table = pd.read_csv(StringIO(capsys.readouterr().out))
    rows, scores = expected(folder, InfluenceFunction(), 3)
    up = table[table["side"] == "proponent"]
    assert up["row"].to_numpy().reshape(-1, 3).tolist() == rows.tolist()
    np.testing.assert_allclose(
        up["score"].to_numpy().reshape(-1, 3), np.take_along_axis(scores, rows, 1), rtol=1e-9
    )
    lowest = scores.min(axis=1)
    down = table[(table["side"] == "opponent") & (table["rank"] == 1)]["score"]
    np.testing.assert_allclose(down, lowest, rtol=1e-9)
    assert {"y", "sepal length (cm)"} <= set(table.columns)


def test_method_and_its_parameters(folder, capsys):
    more = ["--method", "InfluenceFunction", "--set", "curvature=fisher", "--set", "damping=0.5"]
    assert main(words("query", "-k", "1", *more)) == 0
    table = pd.read_csv(StringIO(capsys.readouterr().out))
    rows, _ = expected(folder, InfluenceFunction("fisher", damping=0.5), 1)
    assert table[table["side"] == "proponent"]["row"].tolist() == rows[:, 0].tolist()


def test_results_go_to_a_file(folder, capsys):
    for name in ("top.csv", "top.jsonl"):
        assert main(words("query", "--method", "GradDot", "--to", name)) == 0
    assert capsys.readouterr().out == ""
    one, other = pd.read_csv("top.csv"), pd.read_json("top.jsonl", lines=True)
    pd.testing.assert_frame_equal(one, other, check_dtype=False)
    assert len(one) == 2 * 10 * 5


def test_arrays_and_a_module_s_function(folder, capsys):
    arrays = {"train": "train.npz", "queries": "queries.npz", "model": "own_model:load"}
    assert main(words("query", "-k", "2", "--method", "GradDot", **arrays)) == 0
    table = pd.read_csv(StringIO(capsys.readouterr().out))
    truth = np.load("train.npz")
    model = joblib.load("plain.joblib")
    scores = GradDot().fit(model, truth["X"], truth["y"]).score(np.load("queries.npz")["X"])
    best = table[(table["side"] == "proponent") & (table["rank"] == 1)]
    assert best["row"].tolist() == scores.argmax(axis=1).tolist()


def test_names_are_left_out_for_a_model_without_names():
    assert main(words("query", model="plain.joblib")) == 0  # no warning of scikit-learn


def test_lds_is_that_of_the_functions(folder, capsys):
    assert main(words("lds", "--n-subsets", "8", "--method", "GradDot", "--cache", "kept")) == 0
    train, queries = (pd.read_csv(f"{name}.csv") for name in ("train", "queries"))
    data = [train.drop(columns="target"), train["target"]]
    asked = [queries.drop(columns="target"), queries["target"]]
    model = joblib.load("named.joblib")
    truth = retrain_on_subsets(model, *data, *asked, n_subsets=8, random_state=0)
    scores = GradDot().fit(model, *data).score(*asked)
    value = linear_datamodeling_score(truth.outputs, truth.masks, scores).mean
    assert capsys.readouterr().out.startswith(f"LDS {value:.3f} ")
    assert any(Path("kept").iterdir())


def test_report_is_a_page(folder):
    assert main(words("report", "--n-shown", "2", "--to", "page.html")) == 0
    assert "<html" in Path("page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"train": "none.csv"}, "--train: there is no file 'none.csv'"),
        ({"train": "own_model.py"}, "--train: got 'own_model.py'; accepted are files that end in"),
        ({"model": "none.joblib"}, "--model: there is no file 'none.joblib'"),
        ({"model": "own_model:save"}, "--model: the module 'own_model' has no 'save'"),
        ({"model": "no_such_module:x"}, "--model: the module 'no_such_module' cannot be imported"),
        (
            {"more": ["--target", "price"]},
            "--target: train.csv has no column 'price'; it has",
        ),
        ({"more": ["--method", "GradDott"]}, "Did you mean 'GradDot'?"),
        ({"more": ["--set", "damping"]}, "--set: got 'damping'; accepted is parameter=value"),
        ({"more": ["--set", "damping=-1"]}, "damping"),
        ({"more": ["--set", "dampings=1"]}, "dampings"),
        ({"more": ["--to", "top.xls"]}, "--to: got 'top.xls'; accepted are files that end in"),
        ({"more": ["--to", "none/top.csv"]}, "none' does not exist; make it first"),
        ({"more": ["-k", "0"]}, "k: got 0"),
    ],
)
def test_bad_input_ends_in_one_line(capsys, options, said):
    more = options.pop("more", [])
    assert main(words("query", *more, **options)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_file_is_not_unpickled_without_trust(tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    joblib.dump(Trap(), tmp_path / "trap.joblib")
    given = [w for w in words("query", model=str(tmp_path / "trap.joblib")) if w != "--trust"]
    assert main(given) == 1
    assert "add --trust" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "option", "said"),
    [
        ("no_rows.csv", "size,age,word,target\n", "train", "--train: X: got no rows"),
        ("no_rows.csv", "size,age,word,target\n", "queries", "--queries: X: got no rows"),
        ("lacks.csv", "age,target\n1,0\n", "train", "--train: X: "),
        ("lacks.csv", "age,target\n1,0\n", "queries", "--queries: X: "),
        ("nothing.jsonl", "", "train", "--train: nothing.jsonl has no columns"),
    ],
)
def test_errors_about_rows_name_the_option(tmp_path, capsys, name, content, option, said):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert main(words("query", **{option: str(tmp_path / name)})) == 1
    assert f"error: {said}" in capsys.readouterr().err


def test_arrays_without_targets_and_models_without_a_name_are_told(tmp_path, capsys):
    np.savez(tmp_path / "alone.npz", X=np.ones((3, 2)))
    assert main(words("query", train=str(tmp_path / "alone.npz"))) == 1
    assert "alone.npz has no array y, the targets" in capsys.readouterr().err
    assert main(words("query", model=":")) == 1
    assert "error: --model: the module '' cannot be imported" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"hello", b"a,b\n1,2\n", b"\x80\x04."])
@pytest.mark.parametrize("name", ["m.joblib", "t.npz", "t.jsonl", "t.parquet"])
def test_files_that_cannot_be_read_are_named(tmp_path, capsys, name, content):
    bad = tmp_path / name
    bad.write_bytes(content)
    option = "model" if name == "m.joblib" else "train"
    assert main(words("query", **{option: str(bad)})) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("error: ") and "allow_pickle" not in told[0]
    assert name in told[0] or "no rows" in told[0] or "pyarrow" in told[0]


def test_rows_of_another_number_are_not_shown_with_an_index(capsys):
    assert main(index_words("seventy-five")) == 0
    pd.read_csv("train.csv")[:60].to_csv("fewer.csv", index=False)
    assert main(words("query", "--index", "seventy-five", train="fewer.csv")) == 1
    assert "--train: got 60 rows, and the index has 75" in capsys.readouterr().err


def test_arrays_are_not_unpickled(capsys):
    np.savez("objects.npz", X=np.array([{}], dtype=object), y=np.array([1]))
    assert main(words("query", train="objects.npz")) == 1
    assert "error:" in capsys.readouterr().err


def test_wrong_options_are_told_by_the_parser(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["query", "--modell", "x"])
    assert ended.value.code == 2
    assert "required" in capsys.readouterr().err


@pytest.mark.slow
def test_runs_as_a_module():
    found = subprocess.run(
        [sys.executable, "-m", "influencekit", "--version"], capture_output=True, check=True
    )
    assert re.fullmatch(rb"\d+\.\d+.*\s*", found.stdout)


@pytest.mark.parametrize("command", ["", "index", "estimate", "query", "report", "lds"])
def test_the_page_shows_the_help(command, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args([*command.split(), "--help"])
    shown = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert " ".join(capsys.readouterr().out.split()) in shown


METHOD = ["--method", "GradDot", "--set", "max_memory=99MB", "--shard-rows", "20", "--seed", "0"]


def index_words(to, *more):
    given = ["--model", "named.joblib", "--trust", "--train", "train.csv", "--target", "target"]
    return ["index", *given, *METHOD, "--to", to, *more]


def test_an_index_by_slices_is_asked(folder, capsys):
    assert main(index_words("whole")) == 0
    assert "75 rows of 15 numbers" in capsys.readouterr().out
    assert main(index_words("parts", "--slice", "2/2")) == 0
    assert "slice 2/2 is done; missing are 2 shards" in capsys.readouterr().out
    assert main(index_words("parts", "--slice", "1/2")) == 0
    assert main(index_words("parts")) == 0
    for path in Path("whole").glob("*.npy"):
        assert path.read_bytes() == (Path("parts") / path.name).read_bytes()
    capsys.readouterr()
    assert main(words("query", "-k", "3", "--index", "parts")) == 0
    table = pd.read_csv(StringIO(capsys.readouterr().out))
    rows, _ = expected(folder, GradDot(), 3)
    up = table[table["side"] == "proponent"]
    assert up["row"].to_numpy().reshape(-1, 3).tolist() == rows.tolist()
    assert {"y", "sepal length (cm)"} <= set(table.columns)
    bare = [w for w in words("query", "--index", "parts") if w not in ("--train", "train.csv")]
    assert main(bare) == 0
    assert set(pd.read_csv(StringIO(capsys.readouterr().out)).columns) == {
        "query", "side", "rank", "row", "score"
    }  # fmt: skip
    assert main(words("report", "--index", "parts", "--to", "page.html")) == 0


def test_a_folder_is_read_slice_by_slice(folder, capsys):
    given = np.load("train.npz")
    Path("npy").mkdir()
    for i, rows in enumerate(np.split(np.arange(75), [30])):
        np.save(f"npy/X-{i}.npy", given["X"][rows])
        np.save(f"npy/y-{i}.npy", given["y"][rows])
    arrays = {"train": "npy", "queries": "queries.npz", "model": "plain.joblib"}
    assert main(words("query", "-k", "2", "--method", "GradDot", **arrays)) == 1
    assert "target: got 'target'" in capsys.readouterr().err
    given = [w for w in words("query", "-k", "2", **arrays) if w not in ("--target", "target")]
    assert main([*given, "--method", "GradDot"]) == 0
    table = pd.read_csv(StringIO(capsys.readouterr().out))
    best = table[(table["side"] == "proponent") & (table["rank"] == 1)]
    rows, _ = expected(folder, GradDot(), 1)
    assert best["row"].tolist() == rows[:, 0].tolist()
    page = [w for w in words("report", **arrays) if w not in ("--target", "target")]
    assert main([*page, "--to", "slices.html"]) == 0
    assert "<html" in Path("slices.html").read_text(encoding="utf-8")


def test_estimate_prints_one_line(capsys):
    given = [w for w in words("estimate") if w not in ("--queries", "queries.csv")]
    assert main([*given, "--n-queries", "5", "--method", "GradDot"]) == 0
    assert re.fullmatch(
        r"75 rows: about .* for fit and .* for 5 queries, .* of memory, 0 B on disk .*\n",
        capsys.readouterr().out,
    )
    assert main([*given, "--method", "GradDot", "--as-index"]) == 0
    assert "kB on disk" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (index_words("other", "--slice", "2"), "--slice: got '2'; accepted is i/n"),
        (
            index_words("other", "--slice", "3/2"),
            "--slice: got '3/2'; accepted is i/n with i",
        ),
        (index_words("other", "--slice", "٣/٤"), "--slice: got '٣/٤'"),
        (index_words("other", "--n-jobs", "0"), "n_jobs: got 0"),
        (["query", "--model", "named.joblib", "--trust", "--queries", "queries.csv"], "--train"),
    ],
)
def test_bad_slices_end_in_one_line(capsys, given, said):
    assert main(given) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]
