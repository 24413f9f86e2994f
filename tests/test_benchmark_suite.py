"""The program behind the benchmark page: cells, resuming, and the numbers that it prints."""

import importlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

# benchmarks/ is a folder of scripts, not of a package
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
run_all = pytest.importorskip("run_all", reason="benchmarks/ is not part of this tree")
machine, plan, process, tables = (
    importlib.import_module(f"suite.{name}") for name in ("machine", "plan", "process", "tables")
)

OURS = tables.OURS


def make_cell(
    folder, code: str, limit: float = 60, key: str = "peers/small/graddot/fake"
) -> process.Cell:
    script = folder / f"{key.replace('/', '_')}.py"
    script.write_text(code)
    return process.Cell(key, sys.executable, script, ["--seed", "0"], limit)


def run(cell: process.Cell) -> dict:
    return process.run_cell(cell, 1, dict(os.environ))


# ---- one cell ---------------------------------------------------------------------------------


def test_a_cell_returns_its_last_line(tmp_path):
    code = "print('noise')\nprint('ready to fit', flush=True)\nprint('{\"seconds\": 1.5}')"
    result = run(make_cell(tmp_path, code))
    assert (result["status"], result["seconds"]) == ("ok", 1.5)
    assert result["spec"] == {"options": ["--seed", "0"], "limit": 60, "threads": 1}
    assert result["wall"] > 0


def test_the_limit_counts_from_the_moment_it_is_ready(tmp_path):
    slow_start = "import time; time.sleep(1)\nprint('{\"seconds\": 0.1}', flush=True)"
    assert run(make_cell(tmp_path, slow_start, limit=0.5))["status"] == "ok"
    slow_work = "import time; print('ready to fit', flush=True); time.sleep(60)"
    result = run(make_cell(tmp_path, slow_work, limit=0.5))
    assert result["status"] == "> 0.5 s"
    assert result["wall"] < 30


def test_a_failed_cell_says_why(tmp_path):
    assert run(make_cell(tmp_path, "raise ValueError('boom')"))["status"] == (
        "failed: ValueError: boom"
    )
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run(make_cell(tmp_path, killed))["status"] == "killed by signal 9"


# ---- the whole run ----------------------------------------------------------------------------


@pytest.fixture
def whole_run(tmp_path, monkeypatch):
    """``run_all.run`` on three cells that leave a mark each time they run."""
    about = {"cpu": "x", "cores": 2, "versions": {}, "commit": None, "uncommitted": False}
    monkeypatch.setattr(machine, "facts", lambda python: dict(about))
    marks = tmp_path / "marks"
    code = f"open({str(marks)!r}, 'a').write('%s ')\nprint('{{\"seconds\": 1}}')"
    cells = [make_cell(tmp_path, code % i, key=f"scaling/m{i}/x") for i in range(3)]
    monkeypatch.setattr(plan, "cells", lambda *args: cells)

    def start(*options):
        folder = ["--results", str(tmp_path / "results"), "--threads", "1"]
        args = run_all.parse(["--only", "scaling", *folder, *options])
        run_all.run(args, args.results / "quick.json")
        return json.loads((args.results / "quick.json").read_text())["cells"]

    return SimpleNamespace(start=start, cells=cells, about=about, marks=marks)


def test_finished_cells_are_kept(whole_run):
    whole_run.start()
    assert whole_run.marks.read_text() == "0 1 2 "
    whole_run.start()
    assert whole_run.marks.read_text() == "0 1 2 "
    whole_run.cells[1].options = ["--seed", "1"]
    whole_run.start()
    assert whole_run.marks.read_text() == "0 1 2 1 "
    whole_run.start("--fresh")
    assert whole_run.marks.read_text() == "0 1 2 1 0 1 2 "


def test_a_run_goes_on_where_its_time_was_used_up(whole_run):
    cells = whole_run.start("--budget", "1e-9")
    assert {cell["status"] for cell in cells.values()} == {plan.OUT_OF_TIME}
    assert {cell["status"] for cell in whole_run.start().values()} == {"ok"}


def test_results_of_other_versions_are_not_mixed(whole_run):
    whole_run.start()
    whole_run.about["versions"] = {"torch": "another"}
    with pytest.raises(SystemExit, match="another machine or other versions"):
        whole_run.start()


def test_what_was_too_slow_is_not_tried_on_the_larger_net():
    cells = {"peers/small/cg/fake": {"status": "> 60 s"}, "peers/small/cg/ours": {"status": "ok"}}
    assert "> 60 s" in run_all.too_slow_before("peers/large/cg/fake", cells)
    assert run_all.too_slow_before("peers/large/cg/ours", cells) is None
    assert run_all.too_slow_before("peers/small/cg/fake", cells) is None


@pytest.mark.parametrize("kind", [plan.QUICK, plan.FULL], ids=["quick", "full"])
def test_every_method_of_a_plan_has_a_name_on_the_page(kind):
    named = {name for _, *names in tables.METHODS for name in names}
    for section in ("peers", "lds", "agreement"):
        assert set(kind[section].split()) <= named
    assert set(kind["scaling"].split()) <= set(tables.SERIES)
    methods = " ".join(kind[section] for section in ("peers", "lds", "agreement")).split()
    libraries = {OURS: {"methods": methods}, "other": {"methods": methods}}
    keys = [cell.key for cell in plan.cells(kind, plan.SECTIONS, libraries, "", "", [])]
    assert len(keys) == len(set(keys))


# ---- the page ---------------------------------------------------------------------------------


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
        "plan": plan.QUICK,
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
            f"peers/small/arnoldi/{OURS}": {"status": plan.OUT_OF_TIME},
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
    run_all.render(document, page)
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
    assert f"1 cells | {plan.OUT_OF_TIME}" in text
    assert "`peers/small/ekfac/dattri` | > 20 s" in text
    assert "captum | did not install: no wheel" in text
    assert f"32{tables.MARK}" in text and "Beside 3 of 11 timed cells" in text.replace("\n", " ")
    named = {line.split("](")[1][:-1] for line in text.splitlines() if line.startswith("![")}
    assert len(named) == 4
    assert all((tmp_path / name).stat().st_size > 1000 for name in named)
