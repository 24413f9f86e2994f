"""Messages of the package as they stand in its sources, and the code that they advise."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["Message", "advised", "code_words", "messages"]

PACKAGE = Path(__file__).resolve().parents[2] / "influencekit"
#: Checks for authors of attributors say what was found; they advise nothing.
LEFT_OUT = ("utils/_checks", "utils/estimator_checks")

#: What stands for a field of an f-string: any text.
FIELD = "\0"

#: Words by which a message says what to do.
VERBS = (
    "add|call|cast|choose|drop|encode|end|fit|freeze|give|impute|install|leave|look|lower|make|"
    "merge|name|pass|put|raise|record|refit|register|replace|resample|retrain|say|score|search|select|"
    "set|take|train|turn|unfreeze|use|wrap"
)
#: They begin a sentence or a part of it: "every fit draws other seeds" tells no one to fit.
ADVICE = re.compile(rf"(?:^|[.,;:(]\s+|\b(?:or|and|else|it)\s+)(?:{VERBS})\b", re.IGNORECASE)

#: Parameters, calls, values of parameters, and names with an underscore or an inner capital.
CODE = re.compile(
    r"[A-Za-z_][\w.]*=(?!=)|\.?[A-Za-z_][\w.]*\((?!s\)|\s)|(?<![\w\]])'\w+'"
    r"|\b[A-Za-z]\w*_\w+\b|\b[A-Z][a-z0-9]+[A-Z]\w*"
)


class Message(NamedTuple):
    """A text that stands in a source file, with FIELD in place of what is filled in."""

    place: str
    text: str

    @property
    def pattern(self) -> re.Pattern:
        parts = (re.escape(part) for part in self.text.split(FIELD))
        return re.compile(".*?".join(parts), re.DOTALL)


@cache
def messages() -> tuple[Message, ...]:
    """Texts of three words or more that are raised, warned of, or handed to what does."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE.parent).as_posix()
        if not any(part in name for part in LEFT_OUT):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found += [Message(f"{name}:{node.lineno}", text(node)) for node in texts(tree)]
    return tuple(m for m in found if m.text.count(" ") >= 2)


def texts(tree: ast.AST) -> list[ast.expr]:
    """String expressions outside docstrings, representations and other strings."""
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) or (
            isinstance(node, ast.FunctionDef) and node.name == "__repr__"
        ):
            skipped |= {id(inner) for inner in ast.walk(node) if is_text(inner)}
        elif isinstance(node, ast.JoinedStr):
            skipped |= {id(inner) for inner in ast.walk(node) if inner is not node}
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):  # warnings.warn(...)
            skipped -= {id(inner) for inner in ast.walk(node) if is_text(inner)}
    return [node for node in ast.walk(tree) if is_text(node) and id(node) not in skipped]


def is_text(node: ast.AST) -> bool:
    constant = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return constant or isinstance(node, ast.JoinedStr)


def text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) for part in node.values)
    if isinstance(node, ast.Constant):
        return re.sub(r"%\(\w+\)s", FIELD, node.value)
    return FIELD


def advised(text: str) -> list[str]:
    """Sentences of a message that say what to do, without what they say was got or accepted."""
    sentences = re.split(r"(?<=[.;])\s+", text)
    told = [re.sub(r"\bgot\b.*?(?:;|$)|\baccepted\b.*", "", s) for s in sentences]
    return [s for s in told if ADVICE.search(s)]


def code_words(text: str) -> set[str]:
    """Pieces of code in a text: ``damping=``, ``'ggn'``, ``LoGra(``, ``max_memory``."""
    return {found for found in CODE.findall(text) if FIELD not in found} - {"NaN"}
