"""Errors begin with the name of what they are about: an argument, a parameter, an option."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "influencekit"
#: Packages that fit and score.
PACKAGES = (
    "applications",
    "attributors",
    "curvature",
    "damping",
    "gradients",
    "groups",
    "models",
)
#: Errors that a user reads. Those of other kinds are for the library itself, or have own words.
READ = {"ValueError", "TypeError", "ResourceError"}
VALUE = "…"
NAMED = re.compile(rf"^[A-Za-z_{VALUE}][\w .()\[\]'\"=,/{VALUE}-]{{0,60}}: ")
#: Other beginnings, with the reason.
OTHERS = {
    f"{VALUE}.": "what a class of the user's returned, which the message names",
    f"X has {VALUE} features, but": "scikit-learn's words, which its checks ask for",
    f"{VALUE} rows of {VALUE} examples": "caught where it is raised",
    "SubsetPosterior fits its prior": "a part of the inner form, which no fit reaches",
    "GroupAttributor fits the attributor": "a part of the inner form, which no fit reaches",
    f"{VALUE} does not define class prob": "a loss of the user's, which the message names",
    f"{VALUE} has no classes": "a loss of the user's, which the message names",
    "Class shares of trees": "caught where it is raised",
}


def text_of(node: ast.expr) -> str | None:
    """Literal words of a message, with a sign for each value; None if it is not literal."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or VALUE for part in node.values)
    return None


def messages(file: Path) -> list[tuple[int, str]]:
    """Line and words of each error of a module."""
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    raised = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id in READ and c.args]
    return [(c.lineno, text) for c in raised if (text := text_of(c.args[0]))]


@pytest.mark.parametrize("package", PACKAGES)
def test_errors_begin_with_the_name_of_an_argument(package):
    found = [(f, *m) for f in sorted((ROOT / package).rglob("*.py")) for m in messages(f)]
    unnamed = [
        f"{file.relative_to(ROOT)}:{line}: {text[:80]}"
        for file, line, text in found
        if not NAMED.match(text) and not text.startswith(tuple(OTHERS))
    ]
    assert found
    assert not unnamed, "\n".join(unnamed)


def test_a_message_without_a_name_is_found():
    assert NAMED.match(f"damping: at {VALUE}, LiSSA needs")
    assert NAMED.match(f"curvature='{VALUE}': the Hessian")
    assert not NAMED.match(f"LiSSA needs about {VALUE} terms to bring the residual below {VALUE}")
