"""What a folder of data must hold: ``python -m benchmarks data FOLDER`` looks."""

from __future__ import annotations

import csv
import gzip
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.harness.study import load, names
from benchmarks.harness.tables import Table

ACS = ["AGEP", "COW", "SCHL", "MAR", "OCCP", "POBP", "RELP", "WKHP", "SEX", "RAC1P"]


@dataclass(frozen=True)
class File:
    """One file below the folder, or a folder.

    Parameters
    ----------
    path : str
    n_rows : int
        Rows, or bytes of a text, of the file that the kept results were measured with.
    arrays : dict
        Keys of an npz file to the shape of one row.
    columns : tuple of str
        Of a table with a head.
    separator : str
    members : tuple of str
        Files of a folder.
    """

    path: str
    n_rows: int = 0
    arrays: dict = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    separator: str = ","
    members: tuple[str, ...] = ()

    @property
    def set(self) -> str:
        return self.path.partition("/")[0]


def _images(shape: tuple) -> dict:
    return {"X_train": shape, "y_train": (), "X_test": shape, "y_test": ()}


FILES = (
    File("mnist/mnist.npz", 60_000, _images((28, 28))),
    File("cifar2/cifar2_cat_dog.npz", 5_000, _images((32, 32, 3))),
    File("acs_income_2018/acs_income_2018_CA.csv.gz", 78_266, columns=(*ACS, "y")),
    File("acs_income_2018/acs_income_2018_40pct.npz", 665_800,
         dict.fromkeys([*ACS, "y", "ST", "row"], ())),
    File("uci_concrete/concrete.csv.gz", 1_030, columns=(
        "cement", "slag", "fly_ash", "water", "superplasticizer", "coarse_aggregate",
        "fine_aggregate", "age", "strength")),
    File("sst2/train.tsv.gz", 67_349, columns=("sentence", "label"), separator="\t"),
    File("tiny_shakespeare/input.txt.gz", 1_115_394),
    File("lm_stories260k", members=("config.json", "generation_config.json", "model.safetensors",
                                    "tokenizer.json", "tokenizer_config.json")),
    File("wikitext2/wiki.valid.tokens.gz", 1_121_681),
)  # fmt: skip
#: Sets that tests and examples read, beside the studies.
ALSO = {"wikitext2": ("a test of language models",), "lm_stories260k": ("a test",),
        "acs_income_2018": ("two examples",), "uci_concrete": ("an example",)}  # fmt: skip


def needed_by(name: str) -> list[str]:
    """Studies that read a set, and what else does."""
    return [study for study in names() if name in load(study).needs] + [*ALSO.get(name, ())]


def looked_at(folder: Path) -> list[tuple[File, list[str], list[str]]]:
    """Every file with what is wrong with it, and with what is only worth knowing."""
    return [(file, *_of(file, folder / file.path)) for file in FILES]


def table(folder: Path) -> tuple[Table, bool]:
    """What a folder holds, and whether that is all."""
    found = looked_at(folder)
    lines = [[file.path, "; ".join([*(wrong or ["ok"]), *notes]), ", ".join(needed_by(file.set))]
             for file, wrong, notes in found]  # fmt: skip
    return Table(["file", "state", "read by"], lines, 3), not any(wrong for _, wrong, _ in found)


def _of(file: File, path: Path) -> tuple[list[str], list[str]]:
    if not path.exists():
        return ["missing"], []
    try:
        if file.members:
            return [f"{m} missing" for m in file.members if not (path / m).exists()], []
        if file.arrays:
            return _arrays(file, path)
        return _table(file, path) if file.columns else ([], _rows(file, _size(path)))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        return [f"unreadable: {error}".partition("\n")[0]], []


def _arrays(file: File, path: Path) -> tuple[list[str], list[str]]:
    with np.load(path, allow_pickle=False) as found:
        shapes = {key: found[key].shape for key in file.arrays if key in found}
    wrong = []
    for key, row in file.arrays.items():
        if key not in shapes:
            wrong.append(f"key {key} missing")
        elif not shapes[key] or shapes[key][1:] != row:
            wrong.append(f"{key} has shape {shapes[key]}, not (n, {', '.join(map(str, row))})")
    first = next(iter(shapes.values()), ())
    return wrong, _rows(file, first[0]) if first and not wrong else []


def _table(file: File, path: Path) -> tuple[list[str], list[str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as opened:
        quoting = csv.QUOTE_NONE if file.separator == "\t" else csv.QUOTE_MINIMAL
        rows: Iterator = csv.reader(opened, delimiter=file.separator, quoting=quoting)
        head = next(rows, [])
        n = sum(1 for _ in rows)
    wrong = [f"column {name} missing" for name in file.columns if name not in head]
    return wrong, [] if wrong else _rows(file, n)


def _size(path: Path) -> int:
    with gzip.open(path, "rb") as opened:
        return len(opened.read())


def _rows(file: File, n: int) -> list[str]:
    if n == file.n_rows:
        return []
    unit = "rows" if file.arrays or file.columns else "bytes"
    return [f"{n:,} {unit}, the kept results have {file.n_rows:,}"]
