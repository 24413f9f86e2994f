"""Plain American English: phrases that have to be read twice stay out of texts and pages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Phrases, and what to write instead.
HARD_TO_READ = {
    r"(?<![Tt]here )\b(?:is|are) no (?!longer|more\b|less\b|further|better|faster)": "is not a",
    r"\banew\b": "again",
    r"\bbeside the\b": "next to the; in addition to the",
    r"\bso many\b": "this number of",
    r"\bbut for\b": "except for",
    r"^Of (?:the|an?|all|its|each)\b": "begin with the noun: Seed for the, Weights of the",
    r"\bNone (?:takes|is that of)\b": "None uses",
    r"\bwhich (?:it|they) (?:has|have) not\b": "which it does not have",
    r"\. Nor can\b": "cannot either",
    r"\bby turns\b": "one at a time",
    r"\b[Ww]hat becomes of\b": "how to treat",
    r"\bbrings (?:no|none)\b": "does not have",
    r"\b(?:row|number|label|gradient|pass) an? (?:example|query|row|layer)\b": "for each, per",
}

PAGES = sorted(page.stem for page in (ROOT / "docs").glob("*.md"))
PATTERN = re.compile("|".join(f"(?:{phrase})" for phrase in HARD_TO_READ))


def texts_of(file: Path) -> list[tuple[int, str]]:
    """Lines of a module, without the marks before a docstring, a text or a comment."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [(i, line.strip().lstrip("rf#:\"' ")) for i, line in enumerate(lines, 1)]


def prose_of(page: Path) -> list[tuple[int, str]]:
    """Lines of a page outside of its fenced blocks."""
    text = page.read_text(encoding="utf-8")
    blank = re.sub(r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S)
    return list(enumerate(blank.splitlines(), 1))


@pytest.mark.parametrize("room", sorted(p.name for p in (ROOT / "influencekit").iterdir()))
def test_texts_are_plain(room):
    place = ROOT / "influencekit" / room
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place] * (place.suffix == ".py")
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text}"
        for file in files
        for line, text in texts_of(file)
        if PATTERN.search(text)
    ]
    assert found == []


@pytest.mark.parametrize("page", ["README", *PAGES])
def test_pages_are_plain(page):
    file = ROOT / "README.md" if page == "README" else ROOT / "docs" / f"{page}.md"
    found = [f"{line}: {text}" for line, text in prose_of(file) if PATTERN.search(text)]
    assert found == []


def test_the_phrases_are_found():
    hard = ("an attributor that is no influence function", "None takes all", "solves anew")
    plain = ("is no longer needed", "the random state of the projection", "None uses all")
    assert [bool(PATTERN.search(text)) for text in hard] == [True] * 3
    assert [bool(PATTERN.search(text)) for text in plain] == [False] * 3
    assert len(texts_of(ROOT / "influencekit" / "base.py")) > 100
