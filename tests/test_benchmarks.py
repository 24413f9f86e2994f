"""benchmarks/: every study runs, a run can be ended and goes on, and the docs show its results."""

import gzip
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed with the package
pytest.importorskip("benchmarks", reason="benchmarks/ is not part of this tree")
from benchmarks import peers  # noqa: E402
from benchmarks.__main__ import main  # noqa: E402
from benchmarks.harness import (  # noqa: E402
    Size,
    Study,
    Table,
    cell,
    data_folder,
    load,
    names,
    pages,
    results,
    trace,
)
from benchmarks.harness import bench as bench_module  # noqa: E402
from benchmarks.harness import run as run_module  # noqa: E402
from benchmarks.measures import costs_by_size, libraries  # noqa: E402
from benchmarks.problems import data, nets, tensors  # noqa: E402

OURS = peers.OURS
#: Libraries that a machine without their environments does not have.
ELSEWHERE = tuple(name for name in peers.LIBRARIES if name != OURS)


# ---- every study ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmarks")


#: Studies whose quick runs take longer than a few seconds.
LONG = {
    "acs_income", "adjustments", "along_the_run", "attributors", "cost", "damping_rules",
    "downstream", "error_proxy", "estimates", "parquet",
    "exact_removal", "groups_applications", "groups_cost", "groups_damping", "groups_trak",
    "held_out_margin", "intervals", "language_models", "look_ahead", "low_rank", "posterior",
    "proposition", "scaling",
    "search_choices", "single_run", "values", "weight_decay", "wrong_labels",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in names()]
)
def test_the_quick_run_of_every_study(name, folder, monkeypatch):
    monkeypatch.delenv("INFLUENCEKIT_DATA", raising=False)
    monkeypatch.setattr(tensors, "FOLDER", folder / "models")
    for needed in ("transformers", "peft") if name in ("language_models", "texts") else ():
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    study = load(name)
    options = run_module.Options("quick", folder, say=lambda line: None)
    document = run_module.run(study, options)
    for key, why in results.failures(document).items():
        assert key.endswith(ELSEWHERE) and "ModuleNotFoundError" in why, f"{key}: {why}"
    rows = results.rows_of(document)
    assert rows
    shown = pages.tables_of(document)
    assert all("|" in table.markdown() for table in shown.values())
    assert any(table.rows for table in shown.values())


def test_chosen_values_are_those_of_their_grid_and_new_ones_of_all():
    study = Study("Which?", dict, [{"a": [1, 2], "b": [3]}, {"a": [4], "c": [5]}])
    assert study.cells("full", {"a": [1]}) == [{"a": 1, "b": 3}]
    assert study.cells("full", {"a": [9]}) == [{"a": 9, "b": 3}, {"a": 9, "c": 5}]


def test_a_study_is_a_short_file():
    long = {
        path.stem: lines
        for path in (ROOT / "benchmarks" / "studies").glob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 80
    }
    assert long == {}


@pytest.mark.parametrize("name", names())
def test_cells_have_names_of_their_own(name):
    study = load(name)
    for size in ("full", "quick", *(["small"] if study.small else [])):
        keys = [study.key_of(found) for found in study.cells(size)]
        assert keys and len(keys) == len(set(keys))
        json.dumps(study.cells(size))
    assert study.question.endswith("?")


def test_the_cells_of_make_bench_have_the_names_that_they_always_had():
    keys = {load(s).key_of(c) for s in bench_module.STUDIES for c in load(s).cells("small")}
    assert {
        "peak", "short/dot_products", "short/stacked_training", "short/further_training",
        "scaling/graddot/n500-m100-width64-dampings1", "scaling/xi/n1000-m100-width64-dampings8",
        "scaling/lds_after_gradients/n1000-m100-width64-dampings64", "lds/truth",
        "lds/trak_two_sided/influencekit", "lds/datainf/pydvl", "exact/trak_exact/traker",
        "peers/small/ekfac/kronfluence", "peers/small/arnoldi/captum", "peers/small/trak/dattri",
    } <= keys  # fmt: skip


def test_the_list_of_our_methods_is_that_of_their_file():
    assert set(peers.METHODS[OURS].split()) == set(peers.load(OURS).METHODS)


# ---- a run ------------------------------------------------------------------------------------


class Ended(BaseException):
    """As if the process had been killed."""


@pytest.fixture
def study():
    """Three cells with random rows; ``calls`` says which ran, ``end_at`` where to be killed."""
    calls, end_at = [], []

    def row(x, scale):
        if x in end_at:
            raise Ended
        calls.append(x)
        if x == 3:
            raise ValueError("no scores below /some/folder/file")
        return {"y": scale * np.random.rand(), "z": np.float32(x)}

    found = Study("Does it go on?", row, {"x": [1, 2, 3]}, {"scale": 1.0}, quick=Size())
    return found, calls, end_at


def start(study, folder, **changes):
    options = run_module.Options("full", folder, say=lambda line: None)
    return run_module.run(study, replace(options, **changes))


def test_an_ended_run_goes_on_with_the_same_rows(study, tmp_path):
    study, calls, end_at = study
    whole = start(study, tmp_path / "whole")
    calls.clear()
    end_at.append(2)
    with pytest.raises(Ended):
        start(study, tmp_path / "parts")
    end_at.clear()
    parts = start(study, tmp_path / "parts")
    assert calls == [1, 2, 3]
    assert results.rows_of(parts) == results.rows_of(whole)
    start(study, tmp_path / "parts")
    assert calls == [1, 2, 3]
    start(study, tmp_path / "parts", settings={"scale": 2.0}, only={"x": [2]})
    assert calls == [1, 2, 3, 2]
    assert (
        start(study, tmp_path / "parts", fresh_results=True)["cells"].keys()
        == whole["cells"].keys()
    )
    assert calls == [1, 2, 3, 2, 1, 2, 3]


def test_a_failing_cell_is_shown_with_its_reason(study, tmp_path):
    document = start(study[0], tmp_path)
    assert results.failures(document) == {"x=3": "failed: ValueError: no scores below …/file"}
    assert len(results.rows_of(document)) == 2
    start(study[0], tmp_path, retry=True)
    assert study[1] == [1, 2, 3, 3]


def test_a_document_says_what_was_measured_and_where_without_names(study, tmp_path):
    document = start(study[0], tmp_path, repeats=2)
    assert {"settings", "machine", "threads", "date", "command"} <= document.keys()
    assert document["machine"]["versions"]["numpy"] == np.__version__
    text = json.dumps(document)
    assert os.uname().nodename not in text and str(tmp_path) not in text and str(ROOT) not in text
    first = document["cells"]["x=1"]
    assert min(first["all_seconds"]) == first["seconds"] and len(first["all_seconds"]) == 2
    assert first["cpu_seconds"] >= 0 and "peak_mb" in first


def test_results_of_other_versions_are_not_mixed(study, tmp_path, monkeypatch):
    start(study[0], tmp_path)
    monkeypatch.setattr(run_module.machine, "facts", lambda python: {"versions": {"torch": "0"}})
    with pytest.raises(SystemExit, match="another machine or other versions"):
        start(study[0], tmp_path)


def test_settings_and_axes_are_those_of_the_study(study, tmp_path):
    with pytest.raises(SystemExit, match="no setting"):
        start(study[0], tmp_path, settings={"epochs": 3})
    with pytest.raises(SystemExit, match="no axis"):
        start(study[0], tmp_path, only={"seed": [3]})


def test_a_cell_that_lacked_its_data_runs_once_they_are_there(tmp_path, monkeypatch):
    monkeypatch.delenv("INFLUENCEKIT_DATA", raising=False)
    study = Study("Is it read?", lambda: {"size": data.file("a.csv").stat().st_size}, {})
    why = results.failures(start(study, tmp_path))
    assert "set INFLUENCEKIT_DATA to the folder" in "".join(why.values())
    (tmp_path / "a.csv").write_text("12")
    monkeypatch.setenv("INFLUENCEKIT_DATA", str(tmp_path))
    assert results.rows_of(start(study, tmp_path)) == [{"size": 2}]


@pytest.mark.parametrize("text", ['{"study": "op', "[]", '{"cells": {}}'])
@pytest.mark.parametrize("command", ["run operators --quick", "table operators --quick"])
def test_a_broken_file_is_named_and_left_as_it_is(text, command, tmp_path):
    path = results.path_of("operators", "quick", tmp_path)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(SystemExit, match=r"operators\.json .*left as it is"):
        main([*command.split(), "--results", str(tmp_path)])
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run operators nope --quick", "no study 'nope'. There are: acs_income"),
        ("table nope", "no study 'nope'"),
        ("keep nope", "no study 'nope'"),
        ("draw nope pictures", "no study 'nope'"),
        ("table kinks nope", r"no table 'nope'; it has \['derivative and finite', 'smoothed'"),
        ("keep operators", r"operators.json is not there; python -m benchmarks run makes it"),
        ("run operators --only k", "--only takes NAME=VALUE, not 'k'"),
        ("run operators --set k", "--set takes NAME=VALUE, not 'k'"),
        ("run scaling --results benchmarks/results", "is transcribed and no run"),
        ("peers nope", "no environment 'nope'. There are: bergson"),
    ],
)
def test_a_wrong_word_is_named_before_anything_runs(command, said, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(results, "RUNS", tmp_path)
    monkeypatch.setattr(run_module, "_run_cell", None)
    with pytest.raises(SystemExit, match=said):
        main(command.split())


def test_only_a_whole_run_takes_the_place_of_kept_results(study, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RUNS", tmp_path)
    monkeypatch.setattr(results, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(results, "path_of", lambda name, size="full", folder=tmp_path / "kept":
                        folder / "study.json")  # fmt: skip
    monkeypatch.setattr("benchmarks.harness.load", lambda name: study[0])
    start(study[0], tmp_path, only={"x": [1, 3]})
    with pytest.raises(SystemExit, match="2 cells of the study have no result, such as x=2"):
        main(["keep", "study"])
    assert not (tmp_path / "kept").exists()
    main(["keep", "study", "--partial"])
    assert (tmp_path / "kept" / "study.json").exists()


# ---- a cell in a process of its own -------------------------------------------------------------


def process(code: str, limit: float = 60) -> dict:
    return cell.run_process([sys.executable, "-c", code], limit)


def test_a_process_returns_its_last_line():
    code = f"print('noise'); print('{cell.READY}', flush=True); print('{{\"status\": \"ok\"}}')"
    assert process(code) == {"status": "ok"}


def test_the_limit_counts_from_the_moment_it_is_ready():
    slow_start = 'import time; time.sleep(1); print(\'{"status": "ok"}\', flush=True)'
    assert process(slow_start, 0.5) == {"status": "ok"}
    slow_work = f"import time; print('{cell.READY}', flush=True); time.sleep(60)"
    assert process(slow_work, 0.5) == {"status": "> 0.5 s"}


def test_a_failed_process_says_why():
    assert process("raise ValueError('boom')") == {"status": "failed: ValueError: boom"}
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert process(killed) == {"status": "killed by signal 9"}


def test_a_library_without_its_environment_is_shown_as_failing(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module.environments, "folder", lambda name: tmp_path / name)
    only = {"size": ["small"], "method": ["trak"], "library": ["traker"]}
    options = run_module.Options("full", tmp_path, only=only, say=lambda line: None)
    document = run_module.run(load("peers"), options)
    why = results.failures(document)["peers/small/trak/traker"]
    assert "environment 'peers' is not made; run python -m benchmarks peers" in why


def test_what_was_too_slow_is_not_tried_on_the_larger_net():
    cells = {"peers/small/cg/fake": {"status": "> 60 s"}, "peers/small/cg/ours": {"status": "ok"}}
    assert "> 60 s" in bench_module.too_slow_before("peers/large/cg/fake", cells)
    assert bench_module.too_slow_before("peers/large/cg/ours", cells) is None
    assert bench_module.too_slow_before("peers/small/cg/fake", cells) is None


# ---- the docs show the kept results ------------------------------------------------------------

PARTS = [part for page in pages.pages() for part in pages.parts(page)]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.page.stem}-{part.studies[0]}")
def test_every_figure_of_a_measured_part_is_in_its_results(part):
    assert trace.untraced(part) == []


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: page.stem)
def test_tables_are_written_from_the_results(page):
    text = page.read_text(encoding="utf-8")
    assert pages.rendered(text) == text


def test_the_measured_parts_are_found():
    shown = {name for part in PARTS for name in part.studies}
    kept = {path.stem for path in results.KEPT.glob("*.json")}
    assert shown <= kept and len(PARTS) >= 20


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.page.stem}-{part.studies[0]}")
def test_a_measured_part_names_a_command_that_exists(part):
    text = part.page.read_text(encoding="utf-8")
    named = set(trace.re.findall(r"benchmarks run ([a-z]\w+)", text))
    assert named <= set(names())
    named |= {"peers"} if "make bench-full" in text else set()
    assert part.studies[0] in named


def test_an_invented_figure_is_found():
    part = next(part for part in PARTS if "removal" in part.studies)
    invented = replace(part, text=part.text + "\nAnother method had 47.113.\n")
    assert trace.untraced(invented) == ["47.113"]


@pytest.mark.parametrize(
    ("figure", "value", "known"),
    [(".57", 0.5663, True), (".57", 0.58, False), ("12 %", 0.1234, True), ("1,024", 1024.0, True),
     ("6.9e-04", 6.94e-4, True), ("6.9e-04", 7.2e-4, False)],
)  # fmt: skip
def test_a_figure_is_known_by_its_digits(figure, value, known):
    assert trace._is_known(figure, [value]) is known


def test_what_is_kept_is_small_and_without_machines():
    for path in results.KEPT.glob("*.json"):
        document = results.read(path)
        assert path.stat().st_size < 2**20
        assert document["study"] == path.stem
        assert "transcribed" in document or document["machine"]["versions"]


def test_a_table_has_its_first_columns_to_the_left():
    text = Table(["a", "b"], [["x", "1"]]).markdown()
    assert text.splitlines() == ["| a | b |", "| --- | ---: |", "| x | 1 |"]


# ---- libraries side by side -------------------------------------------------------------------


def measured(method, library, seconds, peak_mb=100.0, **facts):
    about = {"size": "small", "method": method, "library": library, "other_cores": 0.0}
    return {**about, "seconds": seconds, "peak_mb": peak_mb, **facts}


@pytest.fixture
def compared():
    """A run by hand: dattri is 10 times slower on GradDot and half as slow on K-FAC."""
    failed = {"size": "small", "method": "ekfac", "library": "dattri", "failed": "> 20 s"}
    rows = [
        measured("graddot", OURS, 0.5), measured("graddot", "dattri", 5.0, 50.0),
        measured("kfac", OURS, 2.0), measured("kfac", "dattri", 1.0, 400.0, other_cores=0.9),
        measured("ekfac", OURS, 1.0), failed,
        measured("trak_two_sided", OURS, 0.1), measured("trak", "dattri", 100.0),
    ]  # fmt: skip
    return libraries.comparisons(rows, "small"), rows


def test_a_problem_in_another_precision_has_the_same_rows_and_outputs():
    torch.manual_seed(0)
    X, y = torch.randn(5, 4), torch.arange(5) % 3
    model = nets.stack_of_layers([4, 3, 3])
    states = [({k: v + 1 for k, v in model.state_dict().items()}, 0.5)]
    found = tensors.Problem("four", model, X, y, X[:2] - 1, y[:2], states).to(torch.float64)
    tensors_of = [found.X, found.X_test, *found.checkpoints[0][0].values()]
    assert {t.dtype for t in tensors_of} == {torch.float64} and found.dtype == torch.float64
    np.testing.assert_array_equal(found.X_test.numpy(), (X[:2] - 1).double().numpy())
    np.testing.assert_array_equal(found.y_test.numpy(), y[:2].numpy())
    expected = model(X[:2] - 1).detach().double()
    torch.testing.assert_close(found.model(found.X_test).detach(), expected, rtol=0, atol=1e-6)
    assert found.checkpoints[0][1] == 0.5


def test_ratios_are_of_the_same_work_only(compared):
    speed = {"Gradient products": 10.0, "K-FAC, drawn labels": 0.5}
    assert libraries.ratios(compared[0], "seconds") == speed
    memory = {"Gradient products": 0.5, "K-FAC, drawn labels": 4.0}
    assert libraries.ratios(compared[0], "peak_mb") == memory


def test_a_summary_counts_what_was_lost_too(compared):
    seconds, memory = libraries.summary({"small": compared[0]}).rows
    assert seconds == ["small", "seconds", "1 of 2", "5.25", "0.5 (K-FAC, drawn labels)",
                       "10 (Gradient products)", "1", "1 of 4"]  # fmt: skip
    assert memory[2:5] == ["1 of 2", "2.25", "0.5 (Gradient products)"]


def test_a_table_shows_stops_and_busy_machines(compared):
    lines = {line[0]: line[1:] for line in libraries.side_by_side(compared[0]).rows}
    assert lines["Gradient products"] == ["0.5 (100 MB)", "dattri 5 (50 MB)", "10", ""]
    assert lines["K-FAC, drawn labels"][1] == f"dattri 1{libraries.MARK} (400 MB)"
    assert lines["EK-FAC, drawn labels"] == ["1 (100 MB)", "-", "-", "dattri > 20 s"]
    failed = libraries.without_result(compared[1])
    assert failed.rows == [["`small/ekfac/dattri`", "> 20 s"]]


def test_the_best_damping_is_found_among_those_that_gave_scores():
    def tried(damping, lds, default=False):
        known = {"status": "ok", "lds": lds, "standard_error": 0.01}
        return {"damping": damping, "default": default, **(known if lds else {"status": "no"})}

    row = {
        "method": "kfac",
        "library": OURS,
        "dampings": [tried(None, None, True), tried(0.1, 0.6)],
    }
    assert libraries.lds_table([row]).rows == [
        ["K-FAC, drawn labels", OURS, "no", "0.600 ± 0.010", "0.1"]
    ]


def test_a_summary_of_nets_has_the_best_of_ours_and_of_others():
    def cell(library, **methods):
        rows = [{"method": method, "dampings": [
            {"status": "no default"}, {"status": "ok", "lds": lds, "cpu_seconds": taken},
        ]} for method, (lds, taken) in methods.items()]  # fmt: skip
        about = {"net": "mlp", "library": library, "p": 2410, "accuracy": 0.9, "ceiling": 0.8}
        return {**about, "methods": rows}

    rows = [
        cell(OURS, graddot=(0.3, 1.0), ggn=(0.7, 2.0), trak=(0.6, 3.0)),
        cell("dattri", graddot=(0.3, 4.0), trak=(0.65, 2.0)),
        {"net": "mlp", "library": "pydvl", "failed": "> 20 s"},
    ]
    assert libraries.best_of_nets(rows).rows == [[
        "mlp", "2,410", "0.900", "0.800", "Gauss-Newton: 0.700 in 2 s",
        "TRAK, the same dense projection (dattri): 0.650 in 2 s", "1 of 2",
    ]]  # fmt: skip


def test_exponent_and_share_of_the_peak():
    base = {"m": 100, "width": 64, "dampings": 1, "p": 10}
    rows = [{"method": "peak", "n": 1000, **base, "flops_per_second": {"float32": 1e11}}]
    rows += [
        {
            "method": "graddot",
            "n": n,
            **base,
            "seconds": s,
            "flops": 1e9 * n,
            "flops_formula": 1e9 * n,
        }
        for n, s in ((500, 1.0), (1000, 2.0), (4000, 32.0))
    ]
    points = costs_by_size.series(rows, "n")["graddot"]
    assert costs_by_size.slope(points, "n") == pytest.approx(2.0)
    assert costs_by_size.share(points[0], rows) == pytest.approx(5.0)
    (line,) = costs_by_size.table(rows).rows
    assert line == ["n", "GradDot", "500 to 4,000", "1 to 32", "2.00", "500 to 4,000", "500 to 125"]


@pytest.mark.parametrize("name", ["peers", "peers_lds", "scaling"])
def test_pictures_are_drawn_from_rows(name, compared, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from benchmarks.measures.pictures import draw

    tried = [{"damping": 0.1, "default": True, "status": "ok", "lds": 0.5, "standard_error": 0.1}]
    rows = {"peers": compared[1], "scaling": [],
            "peers_lds": [{"method": "kfac", "library": OURS, "dampings": tried}]}  # fmt: skip
    files = draw(name, rows[name], tmp_path)
    assert files and all((tmp_path / file).stat().st_size > 1000 for file in files)


# ---- the folder of data -----------------------------------------------------------------------


@pytest.fixture
def some_data(tmp_path):
    """A folder with a right file, one that lacks a key and has wrong images, and a broken one."""
    for name in ("mnist", "cifar2", "uci_concrete", "sst2"):
        (tmp_path / name).mkdir()
    labels, images = np.zeros(3, np.uint8), np.zeros((3, 28, 28), np.uint8)
    whole = {"X_train": images, "y_train": labels, "X_test": images, "y_test": labels}
    np.savez(tmp_path / "mnist/mnist.npz", **whole)
    wrong = {"X_train": images, "y_train": labels, "X_test": images}
    np.savez(tmp_path / "cifar2/cifar2_cat_dog.npz", **wrong)
    with gzip.open(tmp_path / "uci_concrete/concrete.csv.gz", "wt") as opened:
        opened.write("cement,slag,fly_ash,water,superplasticizer,coarse_aggregate,age,strength\n")
    (tmp_path / "sst2/train.tsv.gz").write_text("no gzip")
    return tmp_path


def test_a_folder_of_data_is_looked_through(some_data, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["data", str(some_data)])
    assert ended.value.code == 1
    lines = {line.split(" | ")[0].strip("| "): line for line in capsys.readouterr().out.split("\n")}
    assert "| ok; 3 rows, the kept results have 60,000 |" in lines["mnist/mnist.npz"]
    assert " noisy_labels," in lines["mnist/mnist.npz"]
    cifar = lines["cifar2/cifar2_cat_dog.npz"]
    assert "key y_test missing" in cifar and "X_test has shape (3, 28, 28), not (n, 32" in cifar
    assert "| column fine_aggregate missing |" in lines["uci_concrete/concrete.csv.gz"]
    assert "| unreadable: " in lines["sst2/train.tsv.gz"]
    readers = "atlas, language_models, sensitivity, texts, trajectory"
    assert f"| missing | {readers}" in lines["lm_stories260k"]


def test_no_folder_of_data_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("INFLUENCEKIT_DATA", raising=False)
    with pytest.raises(SystemExit, match="give one, or set INFLUENCEKIT_DATA"):
        main(["data"])
    with pytest.raises(SystemExit, match="nowhere is no folder"):
        main(["data", str(tmp_path / "nowhere")])


@pytest.mark.slow
def test_the_real_folder_of_data_is_complete(data_home):
    assert data_folder.table(data_home)[1]


def test_the_page_of_data_names_every_file_and_every_set_that_a_study_reads():
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for file in data_folder.FILES:
        assert f"`{file.path}{'/' if file.members else ''}`" in page
        assert all(word in page for word in (*file.arrays, *file.columns, *file.members))
        assert f"{file.n_rows:,}" in page
    sets = {file.set for file in data_folder.FILES}
    assert {name for study in names() for name in load(study).needs} <= sets
