"""Constraints for pip: the oldest versions that pyproject.toml allows, or the newest there are.

``python .ci/versions.py oldest`` turns every floor ``name>=1.2`` into ``name==1.2``; ``newest``
sets none.  torch keeps the pin of ``constraints.txt`` in both, so its floor is not tried here.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"^torch==.*$", re.MULTILINE)


def floors():
    """Requirements of the package and of its extras but for those that the tests do without."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = ["plot", "pandas", "dask", "folktables", "test"]
    for line in project["dependencies"] + [line for name in wanted for line in extras[name]]:
        name, found, version = line.partition(">=")
        if found and name != "torch":
            yield f"{name}=={version}"


print(PIN.search((ROOT / "constraints.txt").read_text())[0])
if sys.argv[1] == "oldest":
    print(*floors(), sep="\n")
