"""Several processes on one index: equal answers, and one set of pages between them."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from influencekit import AttributionIndex, GradDot
from tests.index._models import X, net, y

READER = """
import sys, hashlib
sys.path.insert(0, sys.argv[2])
from influencekit import AttributionIndex
from tests.index._models import X_query, net, y_query
index = AttributionIndex.open(sys.argv[1], net())
print(hashlib.sha256(index.score(X_query, y_query).tobytes()).hexdigest(), flush=True)
sys.stdin.read()
"""


def mapped(process, folder):
    """Bytes of the folder's arrays in a process: all, and its share of those mapped by several."""
    sizes, own = {"Rss": 0, "Pss": 0, "Private_Dirty": 0}, False
    for line in Path(f"/proc/{process.pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            own = str(folder) in line and "coordinates-" in line
        name, _, rest = line.partition(":")
        if own and name in sizes:
            sizes[name] += 1024 * int(rest.split()[0])
    return sizes


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the pages are Linux's to count")
def test_processes_give_equal_scores_from_one_set_of_pages(tmp_path):
    n = 300  # copies of the rows, so that there are pages to share
    index = AttributionIndex(GradDot(), tmp_path / "i", dtype="float16")
    index.fit(net(), np.tile(X, (n, 1)), np.tile(y, n))
    root = Path(__file__).resolve().parents[2]
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(tmp_path / "i"), str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    try:
        answers = [reader.stdout.readline() for reader in readers]
        pages = [mapped(reader, tmp_path / "i") for reader in readers]
    finally:
        for reader in readers:
            reader.communicate("", timeout=60)
    size = n * len(X) * index.dim_ * 2
    assert len(answers[0]) > 60
    assert len(set(answers)) == 1
    assert all(own["Rss"] >= size for own in pages)
    assert all(own["Private_Dirty"] == 0 for own in pages)
    assert sum(own["Pss"] for own in pages) <= 1.3 * size
