"""The documentation: every Python block runs, every link leads somewhere."""

import importlib.util
import re
import sys
import warnings
from pathlib import Path

import pytest

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHER_PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]

#: What a page takes as given, before its first block.
GIVEN = {
    "README": """
import numpy as np, torch
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn
torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X = X.astype(np.float32)
X_train, y_train, X_test, y_test = X[:300], y[:300], X[300:320], y[300:320]
X_val, y_val = X[320:360], y[320:360]
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    def forward(self, X):
        return self.layers(X)
"""
}


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Line number and text of every fenced block of a language."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: m.start(1)].count("\n") + 1, m[1]) for m in found]


def as_module(page: Path) -> str:
    """The page's Python, each block on the lines that it has in the page."""
    lines: list[str] = []
    for start, code in blocks(page, "python"):
        lines += [""] * (start - 1 - len(lines)) + code.splitlines()
    return "\n".join(lines) + "\n"


#: A comment by which a page says what its blocks need beyond the package.
NEEDS = re.compile(r"^<!-- needs: (\w+) -->$", re.MULTILINE)

RUNNABLE = [page for page in PAGES if blocks(page, "python")]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.stem)
def test_blocks_run_in_order(page, tmp_path, monkeypatch):
    for needed in NEEDS.findall(page.read_text(encoding="utf-8")):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    name = f"docs_page_{page.stem}"
    file = tmp_path / f"{name}.py"
    file.write_text(as_module(page), encoding="utf-8")
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, file))
    monkeypatch.setitem(sys.modules, name, module)
    exec(GIVEN.get(page.stem, ""), vars(module))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="(?!docs_page_)")
        try:
            exec(compile(file.read_text(encoding="utf-8"), str(page), "exec"), vars(module))
        finally:
            plt.close("all")


def test_the_pages_are_found():
    assert {"README", "quickstart", "scores", "damping", "models"} <= {p.stem for p in RUNNABLE}
    assert {"retraining", "new_attributor", "language_models"} <= {p.stem for p in RUNNABLE}
    assert {p.stem for p in RUNNABLE if NEEDS.search(p.read_text())} == {"language_models"}


@pytest.mark.parametrize("page", PAGES + OTHER_PAGES, ids=lambda page: page.stem)
def test_every_block_says_whether_it_runs(page):
    fences = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) % 2 == 0
    assert set(fences[0::2]) <= {"python", "text", "sh"}
    assert set(fences[1::2]) <= {""}


@pytest.mark.parametrize("page", PAGES + OTHER_PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    missing = []
    for target in links(page):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        other = page.parent / path if path else page
        if not other.is_file() or (anchor and anchor not in anchors(other)):
            missing.append(target)
    assert missing == []


def links(page: Path) -> list[str]:
    """Targets of inline and of reference links."""
    text = page.read_text(encoding="utf-8")
    inline = re.findall(r"\]\(([^)\s]+)\)", text)
    return inline + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as code hosts make them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_names_in_the_text_exist():
    """Tests and files that the documentation cites are there."""
    cited = re.compile(r"`((?:tests|benchmarks|examples|influencekit)/[\w/.]+)(?:::(\w+))?`")
    missing, seen = [], 0
    for page in PAGES + OTHER_PAGES:
        for path, name in cited.findall(page.read_text(encoding="utf-8")):
            seen += 1
            file = ROOT / path
            if not file.exists() or (name and f"{name}" not in file.read_text(encoding="utf-8")):
                missing.append(f"{page.name}: {path} {name}")
    assert missing == []
    assert seen > 10
