"""benchmarks/: every study runs, a run can be ended and goes on, and the docs show its results."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed with the package
pytest.importorskip("benchmarks", reason="benchmarks/ is not part of this tree")
from benchmarks import peers  # noqa: E402
from benchmarks.harness import Size, Study, Table, cell, load, names, pages, results, trace  # noqa: E402
from benchmarks.harness import bench as bench_module  # noqa: E402
from benchmarks.harness import run as run_module  # noqa: E402
from benchmarks.harness.bench import tables  # noqa: E402
from benchmarks.harness.bench.page import render  # noqa: E402
from benchmarks.problems import tensors  # noqa: E402

OURS = tables.OURS
#: Libraries that a machine without their environments does not have.
ELSEWHERE = tuple(name for name in peers.LIBRARIES if name != OURS)


# ---- every study ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmarks")


@pytest.mark.parametrize("name", names())
def test_the_quick_run_of_every_study(name, folder, monkeypatch):
    monkeypatch.delenv("INFLUENCEKIT_DATA", raising=False)
    monkeypatch.setattr(tensors, "FOLDER", folder / "models")
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
        return {"y": scale * np.random.rand(), "z": np.float32(x)}  # noqa: NPY002

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


def test_the_page_of_make_bench_is_drawn_from_its_results(tmp_path):
    document = results.read(results.path_of("benchmarks"))
    if "transcribed" in document:
        pytest.skip("the kept page is transcribed; make bench-full draws another")
    render(document, tmp_path / "page.md")
    page = ROOT / "docs" / "benchmarks.md"
    assert page.read_text(encoding="utf-8") == (tmp_path / "page.md").read_text(encoding="utf-8")


def test_the_measured_parts_are_found():
    shown = {name for part in PARTS for name in part.studies}
    kept = {path.stem for path in results.KEPT.glob("*.json")}
    assert kept == shown and len(PARTS) >= 20


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.page.stem}-{part.studies[0]}")
def test_a_measured_part_names_a_command_that_exists(part):
    text = part.page.read_text(encoding="utf-8")
    named = set(trace.re.findall(r"benchmarks run (\w+)", text))
    assert named <= set(names())
    assert part.studies[0] in named | {"benchmarks"}


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


# ---- the page ---------------------------------------------------------------------------------


PLAN = {
    "limit": 20, "sizes": ["small"], "dampings": ["0.1"], "scaling": ["graddot"],
    "base": {"n": 1000, "m": 100, "width": 64},
}  # fmt: skip


def measured(seconds: float, peak_mb: float | None = 100.0, **facts) -> dict:
    settings = dict.fromkeys(
        ("rank", "krylov_dim", "cg_steps", "lissa_depth", "lissa_batch", "proj_dim"), 1
    )
    return {
        "status": "ok", "seconds": seconds, "peak_mb": peak_mb, "p": 10, "n": 20, "m": 5,
        "dtype": "float32", "settings": {**settings, "damping": 0.1}, "load": 0.5,
        "other_cores": 0.0, **facts,
    }  # fmt: skip


def scaled(n: int, seconds: float) -> dict:
    return {
        "status": "ok", "seconds": seconds, "n": n, "m": 100, "width": 64, "p": 10, "dampings": 1,
        "flops": 1e9 * n, "flops_formula": 1e9 * n, "load": 0.5, "other_cores": 0.9,
    }  # fmt: skip


@pytest.fixture
def document():
    """A small run by hand: other is 10 times slower on GradDot and half as slow on K-FAC."""
    row = {"default": True, "status": "ok", "lds": 0.5, "standard_error": 0.01, "damping": None}
    better = {**row, "default": False, "lds": 0.6, "damping": 0.1}
    lds = {"status": "ok", "p": 10, "rows": [row, better]}
    worse = {"status": "ok", "p": 10, "rows": [{**row, "lds": 0.3}, {**better, "lds": 0.7}]}
    return {
        "kind": "quick",
        "plan": PLAN,
        "threads": 2,
        "finished": "2026-01-01T00:00+00:00",
        "machine": {
            "cpu": "chip", "cores": 2, "memory_gb": None, "system": "os", "commit": "abc",
            "uncommitted": True, "versions": {OURS: "0.1", "torch": "2"},
        },
        "libraries": {
            OURS: {"methods": [], "version": "0.1"},
            "dattri": {"methods": [], "version": "9"},
            "captum": {"methods": [], "reason": "did not install: no wheel"},
        },
        "cells": {
            "peak": {"status": "ok", "size": 4, "flops_per_second": {"float32": 1e11}},
            f"peers/small/graddot/{OURS}": measured(0.5, 100.0),
            "peers/small/graddot/dattri": measured(5.0, 50.0),
            f"peers/small/kfac/{OURS}": measured(2.0, 100.0),
            "peers/small/kfac/dattri": measured(1.0, 400.0),
            f"peers/small/ekfac/{OURS}": measured(1.0),
            "peers/small/ekfac/dattri": {"status": "> 20 s", "load": 0.5},
            f"peers/small/trak_two_sided/{OURS}": measured(0.1),
            "peers/small/trak/dattri": measured(100.0),
            f"peers/small/arnoldi/{OURS}": {"status": run_module.OUT_OF_TIME},
            "lds/truth": {"status": "ok", "n": 9, "m": 5, "subsets": 8, "repeats": 2,
                          "ceiling": 0.9},
            f"lds/kfac/{OURS}": lds,
            "lds/kfac/dattri": worse,
            "agreement": {"status": "ok", "p": 10, "n": 9, "m": 5, "damping": 0.1, "rows": [
                {"method": "graddot", "library": OURS, "pearson": 1.0},
                {"method": "graddot", "library": "dattri", "pearson": 0.5}]},
            **{f"scaling/graddot/n{n}": scaled(n, t) for n, t in
               ((500, 1.0), (1000, 2.0), (4000, 32.0))},
        },
    }  # fmt: skip


def test_ratios_are_of_the_same_work_only(document):
    rows = tables.comparisons(document, "small")
    speed = tables.ratios(rows, "seconds")
    assert speed == {"Gradient products": 10.0, "K-FAC, drawn labels": 0.5}
    assert tables.ratios(rows, "peak_mb") == {"Gradient products": 0.5, "K-FAC, drawn labels": 4.0}


def test_sentences_count_what_was_lost_too(document):
    text = tables.side_by_side_sentence(tables.comparisons(document, "small"))
    assert "in 1 of 2 comparisons" in text
    assert "5.25 in the median" in text
    assert "Another library was faster in: K-FAC, drawn labels (0.5)." in text
    assert "1 passed the limit" in text
    assert "not in: Gradient products (0.5)" in text
    lds = tables.lds_sentence(tables.lds_rows(document))
    assert "At their default dampings influencekit is highest" in lds and "in 1 of 1" in lds
    assert "at the best damping" in lds and lds.endswith(
        "in 0 of 1 methods that others have too, not in K-FAC, drawn labels (0.600 against 0.700)."
    )


def test_exponent_and_share_of_the_peak(document):
    cells = tables.series(document, "n")["graddot"]
    assert tables.slope(cells, "n") == pytest.approx(2.0)
    assert tables.share(cells[0], document["cells"]["peak"]) == pytest.approx(5.0)


def test_the_page_shows_all_of_the_run(document, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    page = tmp_path / "page.md"
    render(document, page)
    text = page.read_text(encoding="utf-8")
    for part in (
        "Side by side",
        "Accuracy",
        "The same scores?",
        "Cost against",
        "Without a result",
    ):
        assert f"## {part}" in text
    assert "| Gradient products | 0.5 (100 MB) | dattri 5 (50 MB) | 10 |" in text
    assert "(commit abc, changed)" in text
    assert f"1 cells | {run_module.OUT_OF_TIME}" in text
    assert "`peers/small/ekfac/dattri` | > 20 s" in text
    assert "captum | did not install: no wheel" in text
    assert f"32{tables.MARK}" in text and "Beside 3 of 11 timed cells" in text.replace("\n", " ")
    named = {line.split("](")[1][:-1] for line in text.splitlines() if line.startswith("![")}
    assert len(named) == 4
    assert all((tmp_path / name).stat().st_size > 1000 for name in named)
