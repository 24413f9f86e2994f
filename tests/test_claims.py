"""The papers' claims: verdicts are read from results, and what is not there is said."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed with the package
pytest.importorskip("benchmarks", reason="benchmarks/ is not part of this tree")
from benchmarks.claims import PAPERS  # noqa: E402
from benchmarks.harness import claims, names, results  # noqa: E402
from benchmarks.harness.claims import FAILS, HOLDS, IN_PART, OPEN, Claim  # noqa: E402

ALL = [claim for paper in PAPERS.values() for claim in paper]
TABLE = {"head": ["way", "LDS"], "rows": [["one", ".40 ± .02"], ["other", ".30"]], "left": 1}


def read(found):
    one, other = (found.number("LDS", way, "LDS") for way in ("one", "other"))
    return (HOLDS if one > other else FAILS), f"{one:.2f} against {other:.2f}"


CLAIM = Claim("One is better.", "study", read, "3 seeds")


@pytest.fixture
def keep(tmp_path, monkeypatch):
    """Keep a document as the results of the study."""
    monkeypatch.setattr(results, "path_of", lambda name: tmp_path / f"{name}.json")

    def save(**document):
        about = {"study": "study", "question": "Which?", "command": "python -m benchmarks run x"}
        results.save(tmp_path / "study.json", {**about, **document})

    return save


def test_a_verdict_follows_the_results(keep):
    keep(tables={"LDS": TABLE})
    assert claims.judged(CLAIM)[2:] == ["0.40 against 0.30", "3 seeds", HOLDS]
    keep(tables={"LDS": {**TABLE, "rows": [["one", "-.40"], ["other", ".30"]]}})
    assert claims.judged(CLAIM)[2:] == ["-0.40 against 0.30", "3 seeds", FAILS]


def test_transcribed_results_are_named_with_their_commit(keep):
    keep(tables={"LDS": TABLE})
    assert claims.judged(CLAIM)[1] == "`python -m benchmarks run x`"
    sources = {"LDS": {"commit": "abc1234", "page": "docs/a.md"}}
    keep(tables={"LDS": TABLE}, transcribed={"sources": sources})
    assert claims.judged(CLAIM)[1] == "`python -m benchmarks run x`; transcribed, abc1234"


def test_what_was_not_measured_is_said(keep):
    assert claims.judged(CLAIM)[2:] == ["no kept results", "–", OPEN]
    keep(tables={"LDS": {**TABLE, "rows": TABLE["rows"][:1]}})
    found, _, verdict = claims.judged(CLAIM)[2:]
    assert verdict == OPEN and "'LDS' has no other under LDS" in found
    keep(tables={})
    assert "there is no table 'LDS'" in claims.judged(CLAIM)[2]
    rows = Claim("One.", "study", lambda found: (HOLDS, str(found.row(a=1))), "")
    assert "transcribed and have no rows" in claims.judged(rows)[2]


def test_a_claim_of_all_cases_holds_in_part_from_half_on():
    assert [claims.share(true, 4) for true in (4, 3, 2, 1)] == [HOLDS, IN_PART, IN_PART, FAILS]


def test_a_page_shows_every_claim_of_a_paper():
    text = claims.rendered("<!-- claims: groups -->\nstale\n<!-- end claims -->\n")
    assert "stale" not in text and text.count("\n| ") == 2 + len(PAPERS["groups"])
    assert claims.rendered(text) == text
    with pytest.raises(SystemExit, match=r"no claims of 'trees'\. There are: further training"):
        claims.rendered("<!-- claims: trees -->\n<!-- end claims -->")


def test_every_paper_stands_on_the_page_of_claims():
    page = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    assert [found[2] for found in claims.CLAIMS.finditer(page)] == list(PAPERS)


@pytest.mark.parametrize("claim", ALL, ids=lambda claim: claim.says[:40])
def test_every_claim_names_a_study_and_is_answered(claim):
    assert claim.study in names()
    says, command, found, spread, verdict = claims.judged(claim)
    assert says.endswith(".") and "benchmarks run" in command and spread
    answered = (HOLDS, IN_PART, FAILS) if results.path_of(claim.study).exists() else (OPEN,)
    assert verdict in answered, found
