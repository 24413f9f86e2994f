"""Results as JSON: where they are, how they are written, the rows in them."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
#: Kept in the repository, and what the docs show.
KEPT = ROOT / "benchmarks" / "results"
#: Where runs go until somebody keeps them.
RUNS = ROOT / "benchmarks" / "results" / "runs"
MEND = "Mend it or move it away; it was left as it is."


def path_of(name: str, size: str = "full", folder: Path = KEPT) -> Path:
    return Path(folder) / f"{name}.json" if size == "full" else Path(folder) / size / f"{name}.json"


def read(path: Path) -> dict:
    """A document; the file stays as it is where it is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SystemExit(f"{path} is not there; python -m benchmarks run makes it.") from None
    except ValueError as error:
        raise SystemExit(f"{path} is no JSON ({error}). {MEND}") from None
    if not isinstance(document, dict) or not document.keys() >= {"study", "question"}:
        raise SystemExit(f"{path} holds no results of a study. {MEND}")
    return document


def save(path: Path, document: dict) -> None:
    """All or nothing: a process that is killed meanwhile leaves the last whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def rows_of(document: dict, failed: bool = False) -> list[dict]:
    """All rows, each with the axes of its cell; of cells without a result the reason, if asked."""
    found = []
    for cell in document["cells"].values():
        about = {**cell["cell"], "other_cores": cell.get("other_cores")} if failed else cell["cell"]
        if cell["status"] == "ok":
            found += [{**about, **row} for row in cell["rows"]]
        elif failed:
            found.append({**about, "failed": cell["status"]})
    return found


def failures(document: dict) -> dict[str, str]:
    """Cells without a result, and why."""
    cells = document.get("cells", {}).items()
    return {key: cell["status"] for key, cell in cells if cell["status"] != "ok"}


def jsonable(value):
    """Numpy's numbers and arrays as Python's; what is not finite as None."""
    if isinstance(value, dict):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [jsonable(entry) for entry in value]
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def plain(text: str) -> str:
    """An error's words without the folders of this machine."""
    return re.sub(r"(/[\w.\-]+){2,}", lambda found: f"…/{found[0].rpartition('/')[2]}", text)
