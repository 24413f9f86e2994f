"""From parquet files to an index, answers and a page by the command line: seconds and peaks?

All rows of ACSIncome, a Pipeline of OneHotEncoder(min_frequency=20) and an MLP, 256 numbers a row,
float16. Each command is a process of its own; "start" is one that only imports.
"""

import tempfile
from pathlib import Path

from benchmarks.harness import Size, Study, Table, ready
from benchmarks.harness.tables import number
from benchmarks.measures.commands import cost_of_command
from benchmarks.problems.files import acs_files

#: Rows of the paper calculation; US dollars of a core for an hour and of a GB for a month.
MANY, CORE_HOUR, GB_MONTH = 1e9, 0.04, 0.02


def row(dtype, n, n_model, shard_rows, curvature_rows, dim, max_memory, n_queries, processes):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = acs_files(folder, n, n_model, n_queries, processes)
        method = {"curvature": "fisher", "projection_dim": dim, "projection": "factored",
                  "random_state": 0, "max_memory": max_memory}  # fmt: skip
        index = ["index", *train, "--to", f"{folder}/index", "--dtype", dtype, "--max-memory",
                 max_memory, "--shard-rows", str(shard_rows), "--curvature-rows",
                 str(curvature_rows)]  # fmt: skip
        index += [word for pair in method.items() for word in ("--set", f"{pair[0]}={pair[1]}")]
        asked = [*train[:-2], "--index", f"{folder}/index", "--queries", f"{folder}/queries.csv"]
        query, page = ["query", *asked, "--to", f"{folder}/top.csv"], f"{folder}/page.html"
        ready()
        steps = {
            "start": ["--version"],
            "index --slice 1/2": [*index, "--slice", "1/2"],
            "index --slice 2/2": [*index, "--slice", "2/2"], "index": index, "query": query,
            "query, rows shown": [*query, *train[-2:]],
            "report": ["report", *asked, *train[-2:], "--to", page],
        }  # fmt: skip
        rows = [
            {"step": step, **cost_of_command(words, processes)} for step, words in steps.items()
        ]
        size = sum(p.stat().st_size for p in (folder / "index").rglob("*") if p.is_file())
    return [{**one, "n": n, "bytes a row": size / n} for one in rows]


def tables(rows):
    heads = ["seconds", "CPU seconds", "peak MB"]
    cost = {r["step"]: r["CPU seconds"] for r in rows}
    n, size = rows[0]["n"], rows[0]["bytes a row"]
    own = [cost[step] - cost["start"] for step in cost if step.startswith("index")]
    hours = max(1e-9, sum(own)) / n * MANY / 3600
    paper = [["rows/s of a core", number(MANY / hours / 3600)], ["core hours", number(hours)],
             ["dollars for them", number(hours * CORE_HOUR)],
             ["TB of files", number(size * MANY / 1e12)],
             ["dollars a month for these", number(size * MANY / 1e9 * GB_MONTH)],
             ["minutes to send them at 10 Gbit/s", number(size * MANY * 8 / 1e10 / 60)],
             ["hours on 100 cores", number(hours / 100)]]  # fmt: skip
    lines = [[r["step"], *(number(r[k]) for k in heads)] for r in rows]
    return {"steps": Table(["command", *heads], lines),
            "paper": Table(["for 1,000,000,000 rows", "on paper"], paper)}  # fmt: skip


STUDY = Study(
    __doc__, row, {"dtype": ["float16"]},
    {"n": 665_800, "n_model": 60_000, "shard_rows": 16_384, "curvature_rows": 20_000, "dim": 256,
     "max_memory": "50MB", "n_queries": 100, "processes": True},
    Size({"dtype": ["int8"]}, {"n": 90, "n_model": 60, "shard_rows": 40, "curvature_rows": 60,
                               "dim": 8, "n_queries": 2, "processes": False}),
    tables=tables, needs=("acs_income_2018",), fresh=True,
)  # fmt: skip
