"""The documentation: every Python block runs, every link leads somewhere."""

import ast
import importlib.util
import re
import sys
import warnings
from pathlib import Path

import pytest

from tests._shared.marks import NOT_TRAINED

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
OTHER_PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


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
#: Pages whose blocks take longer than a few seconds.
LONG = {
    "along_the_run", "damping", "evaluating", "further_training", "look_ahead", "reading_scores",
    "million_rows", "new_attributor", "report", "retraining", "saving",
    "scaling", "sensitivity", "trajectories", "values",
}  # fmt: skip


@NOT_TRAINED  # nets of a few epochs, and checkpoints along a training
@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=[pytest.mark.slow] * (p.stem in LONG), id=p.stem) for p in RUNNABLE],
)
def test_blocks_run_in_order(page, tmp_path, monkeypatch, capsys):
    for needed in NEEDS.findall(page.read_text(encoding="utf-8")):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    name = f"docs_page_{page.stem}"
    file = tmp_path / f"{name}.py"
    file.write_text(as_module(page), encoding="utf-8")
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, file))
    monkeypatch.setitem(sys.modules, name, module)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="(?!docs_page_)")
        try:
            exec(compile(file.read_text(encoding="utf-8"), str(page), "exec"), vars(module))
        finally:
            plt.close("all")
    check_shown(page, capsys.readouterr().out)


#: Where a page shows all that its blocks print.
SHOWN = re.compile(r"^```\n\nIt prints:\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def check_shown(page: Path, printed: str) -> None:
    """Same words, and numbers within a twentieth: other machines round otherwise."""
    shown = "".join(SHOWN.findall(page.read_text(encoding="utf-8")))
    if shown:
        assert told(printed) == told(shown), printed
        assert numbers(printed) == pytest.approx(numbers(shown), rel=0.05)


def test_the_readme_shows_what_its_first_block_prints():
    text = README.read_text(encoding="utf-8")
    (_, first), *_ = blocks(README, "python")
    assert "print(" in first
    assert SHOWN.match(text, text.index(first) + len(first))


NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def told(output: str) -> str:
    """What is printed, without its numbers and its spacing."""
    return " ".join(NUMBER.sub("#", output).split())


def numbers(output: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(output)]


#: Files whose advice people follow; here a reader has the sources and no package index has them.
ADVISING = ("*.md", "*.py", "*.ipynb", "*.rst", "*.html", "*.txt", "Makefile")


def test_nothing_is_installed_from_an_index_that_lacks_it():
    """A clone is installed by its path (``pip install ".[plot]"``), not by the package's name."""
    by_name = re.compile(r"""pip3?\s+install\s+(?:[^\s`]+[ ]+)*["'\\]*influencekit\b""")
    assert by_name.search("pip install -U " + "'influencekit[plot]'")
    places = ("influencekit", "docs", "examples", "benchmarks")
    files = [f for place in places for kind in ADVISING for f in (ROOT / place).rglob(kind)]
    files += [f for kind in ADVISING for f in ROOT.glob(kind)]
    assert len(files) > 300
    assert [str(f) for f in files if by_name.search(f.read_text(encoding="utf-8"))] == []


def test_the_pages_are_found():
    assert {"README", "quickstart", "scores", "damping", "models"} <= {p.stem for p in RUNNABLE}
    assert {"retraining", "new_attributor", "language_models"} <= {p.stem for p in RUNNABLE}
    assert {p.stem for p in RUNNABLE if NEEDS.search(p.read_text())} == {
        "language_models",
        "lightning",
    }


@pytest.mark.parametrize("page", PAGES + OTHER_PAGES, ids=lambda page: page.stem)
def test_every_block_says_whether_it_runs(page):
    fences = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) % 2 == 0
    assert set(fences[0::2]) <= {"python", "text", "sh"}
    assert set(fences[1::2]) <= {""}


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.stem)
def test_what_a_block_shows_is_printed(page):
    """A reader copies blocks into a script, where a value alone on a line is not shown."""
    statements = ast.parse(as_module(page)).body
    values = [node.value for node in statements if isinstance(node, ast.Expr)]
    assert [ast.unparse(v) for v in values if not isinstance(v, (ast.Call, ast.Constant))] == []


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


#: Words of a page that a reader has to read before they can use what it is about.
MOST_WORDS = 800
#: Pages that may be longer, and why.
LONGER = {
    "design": "for those who change the package",
    "background": "formulas and proofs that no guide page needs",
}
#: What is generated from kept results, code, and lists of sources are no words of use.
NOT_USE = re.compile(
    r"^<!-- (?:measured|claims): .*?^<!-- end \w+ -->$|^```.*?^```$|^## References\n.*?(?=^## |\Z)"
    r"|<!--.*?-->",
    re.MULTILINE | re.DOTALL,
)


def words_of_use(text: str) -> int:
    text = re.sub(r"^<!-- table: .*?^<!-- end table -->$", "", text, flags=re.M | re.S)
    return sum(bool(re.search(r"\w", word)) for word in NOT_USE.sub("", text).split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_part_that_a_reader_uses_is_short(page):
    is_short = words_of_use(page.read_text(encoding="utf-8")) <= MOST_WORDS
    assert is_short != (page.stem in LONGER)


def test_words_of_use_are_those_outside_of_code_results_and_sources():
    text = "# One two\n\n| a | --- |\n\n```python\nx = 1\n```\n\nthree\n\n"
    text += "<!-- measured: some -->\nfour\n<!-- table: a / b -->\nfive\n<!-- end table -->\n"
    text += "<!-- end measured -->\n\nsix\n\n## References\n\n- seven\n"
    assert words_of_use(text) == 5
