"""Agreement of the scores that ``run.py`` saved: ours against each peer's, and dense formulas.

``python benchmarks/peers/run.py --sizes tiny --dtype float64 --output FOLDER`` and then
``python benchmarks/peers/compare.py --sizes tiny --dtype float64 --output FOLDER``.

For each method: Pearson's correlation over all scores; the median and smallest correlation of a
test row; the median over rows of the ratio of median absolute scores.  The reference is the dense
float64 formula where the model is small enough, and our scores elsewhere.
"""

from __future__ import annotations

import json

import numpy as np
from run import parse, problem_of, scores_file

# TRAK's kernel is scaled arbitrarily by traker: only its correlation means something.
SCALE_UNKNOWN = {"traker"}


def agreement(reference: np.ndarray, scores: np.ndarray) -> dict:
    """How near scores (m, n) are to a reference; "nan" counts undefined entries."""
    reference, scores = reference.astype(float), scores.astype(float)
    undefined = int((~np.isfinite(scores)).sum())
    if undefined:
        return {"nan": undefined}
    rows = [np.corrcoef(a, b)[0, 1] for a, b in zip(reference, scores, strict=True)]
    ratio = np.median(np.abs(scores), 1) / np.median(np.abs(reference), 1)
    return {
        "pearson": float(np.corrcoef(reference.ravel(), scores.ravel())[0, 1]),
        "row_median": float(np.median(rows)),
        "row_smallest": float(np.min(rows)),
        "ratio": float(np.median(ratio)),
    }


def compare(args) -> list[dict]:
    import _dense
    import torch

    torch.set_num_threads(args.threads)
    found = []
    for size in args.sizes:
        problem = problem_of(args, size)
        exact = problem.to(torch.float64)
        for method in args.methods:
            files = {
                library: path
                for library in args.libraries
                if (path := scores_file(args, library, method, size)).exists()
            }
            if not files:
                continue
            scores = {library: np.load(path) for library, path in files.items()}
            if problem.p <= _dense.LIMIT and method in _dense.METHODS:
                name, reference = "dense", _dense.score(method, exact)[0]
            elif "influencekit" in scores:
                name, reference = "influencekit", scores.pop("influencekit")
            else:
                continue
            for library, values in scores.items():
                row = {"size": size, "method": method, "library": library, "reference": name}
                if library in SCALE_UNKNOWN:
                    row["scale"] = "arbitrary"
                found.append({**row, **agreement(reference, values)})
                print(line_of(found[-1]), flush=True)
    return found


def line_of(row: dict) -> str:
    what = f"| {row['size']} | {row['method']} | {row['library']} | {row['reference']} |"
    if "nan" in row:
        return f"{what} {row['nan']} undefined scores | | | |"
    ratio = row.get("scale") or f"{row['ratio']:.4f}"
    return (
        f"{what} {row['pearson']:.6f} | {row['row_median']:.6f} | {row['row_smallest']:.6f} "
        f"| {ratio} |"
    )


if __name__ == "__main__":
    arguments = parse()
    print("| size | method | library | against | Pearson | row, median | row, least | ratio |")
    print("|---|---|---|---|---:|---:|---:|---:|")
    rows = compare(arguments)
    (arguments.output / "agreement.json").write_text(json.dumps(rows, indent=1))
