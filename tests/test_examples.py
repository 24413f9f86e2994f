"""Examples and notebooks: they compile, ask and answer, and the quick ones run."""

import ast
import http.server
import importlib
import json
import runpy
import socket
import threading
from pathlib import Path

import pytest

pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")

EXAMPLES_DIR = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(EXAMPLES_DIR.glob("plot_*.py"))
NOTEBOOKS = sorted((EXAMPLES_DIR / "notebooks").glob("*.ipynb"))
TAKEAWAY = "What to take home"


def name_of(path: Path) -> str:
    return path.stem


def missing_names(code: str) -> list[str]:
    """Imports of the package, and names taken from it, that do not exist."""
    missing = []
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.ImportFrom) or not node.module.startswith("influencekit"):
            continue
        module = importlib.import_module(node.module)
        missing += [a.name for a in node.names if not hasattr(module, a.name)]
    return missing


def read_cells(notebook: Path, kind: str) -> list[str]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_there_is_a_gallery():
    assert len(EXAMPLES) >= 10
    assert len(NOTEBOOKS) >= 2


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_an_example_asks_and_answers(path):
    code = path.read_text(encoding="utf-8")
    title, underline = ast.get_docstring(ast.parse(code)).splitlines()[:2]
    assert "?" in title
    assert set(underline) == {"="} and len(underline) >= len(title)
    last = code.split("# %%\n")[-1].splitlines()
    assert last[0] == f"# {TAKEAWAY}"
    assert sum(line.startswith("# ") for line in last) > 3
    assert missing_names(code) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_is_valid_and_without_outputs(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    for code in read_cells(path, "code"):
        compile(code, path.name, "exec")
    assert missing_names("\n".join(read_cells(path, "code"))) == []
    texts = read_cells(path, "markdown")
    assert texts[0].startswith("# ")
    assert texts[-1].startswith(f"## {TAKEAWAY}")


@pytest.fixture
def run(monkeypatch):
    """Run an example without a window."""
    pyplot.switch_backend("Agg")
    pyplot.close("all")  # of tests before
    monkeypatch.setattr(pyplot, "show", lambda: None)
    yield lambda name: runpy.run_path(str(EXAMPLES_DIR / f"plot_{name}.py"))
    pyplot.close("all")


def test_ridge_scores_are_leave_one_out(run):
    found = run("regression_leave_one_out")
    assert found["worst"] < 1e-10
    assert len(pyplot.get_fignums()) == 1


def test_a_registered_model_is_at_its_minimum(run):
    found = run("custom_model")
    assert found["influence"].gradient_ratio_ < 1e-6
    assert found["rank"] > 0.95


def test_top_texts_have_the_sign_of_their_side(run):
    pytest.importorskip("pandas", reason="pandas is not installed")
    found = run("top_text")["table"]
    kinds = found.index.get_level_values("kind")
    assert (found.loc[kinds == "proponent", "score"] > 0).all()
    assert (found.loc[kinds == "opponent", "score"] < 0).all()
    assert (kinds == "proponent").any()


@pytest.mark.slow
def test_a_second_call_of_the_search_goes_on(tmp_path, capsys):
    pytest.importorskip("optuna", reason="optuna is not installed")
    main = runpy.run_path(str(EXAMPLES_DIR / "search_hyperparameters.py"))["main"]
    small = ["--folder", str(tmp_path / "search"), "--n-trials", "3", "--n-subsets", "4",
             "--n-train", "100", "--n-query", "20"]  # fmt: skip
    first = main(small)
    retrainings = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    second = main(small)
    assert (first["n_trials"], second["n_trials"]) == (3, 6)
    kept = [path for path in retrainings if path.parent.name != "search"]
    assert kept and all(path.stat().st_mtime_ns == retrainings[path] for path in kept)
    assert set(second["best"]) == {"damping", "projection_dim"}
    assert len(second["lds"]) == 3 and all(-1 <= lds <= 1 for lds in second["lds"].values())
    assert "6 trials; best: {" in capsys.readouterr().out


def test_the_search_says_its_arguments(capsys):
    main = runpy.run_path(str(EXAMPLES_DIR / "search_hyperparameters.py"))["main"]
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert {"--study-name", "--n-jobs", "--folder"} <= set(capsys.readouterr().out.split())


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"features": 4}')

    def log_message(self, *args):
        pass


def test_clients_of_an_index_wait_until_it_is_served():
    health = runpy.run_path(str(EXAMPLES_DIR / "load_index.py"))["health"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SystemExit, match=r"Start examples/serve_index\.py"):
        health(f"http://127.0.0.1:{port}", seconds=0)

    def serve():
        with http.server.HTTPServer(("127.0.0.1", port), Healthy) as server:
            server.timeout = 10
            server.handle_request()

    late = threading.Timer(0.3, serve)
    late.start()
    assert health(f"http://127.0.0.1:{port}", seconds=10) == {"features": 4}
    late.join()
