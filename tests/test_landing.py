"""The landing page: its chart shows what was measured and nothing else."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "benchmarks" / "results"


@pytest.fixture(scope="module")
def pictures():
    spec = importlib.util.spec_from_file_location("landing_pictures", ROOT / "docs/_pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_time_of_the_chart_is_a_kept_one(pictures):
    rows = json.loads((KEPT / "peers.json").read_text())["tables"]["small"]["rows"]
    ended = re.findall(r"(\d[\d.]*) \([\d,]+ MB\)", json.dumps(rows))
    assert sorted(pictures.seconds().values()) == sorted(float(taken) for taken in ended)
    assert pictures.seconds()["TRAK, factored projection", "traker"] == 12.2
    assert ("DataInf", "dattri") not in pictures.seconds()  # stopped after a minute


def test_every_score_of_the_chart_is_a_kept_one(pictures):
    good = pictures.accuracy()
    assert good["TRAK, the same dense projection", "dattri"] == [0.301, 0.656]
    assert good["DataInf", "pydvl"] == [None, 0.338]  # it has no damping of its own
    assert good["Hessian", "dattri"] == [None, 0.724]  # it failed at its own


@pytest.mark.parametrize("net", ["mlp", "cnn", "transformer"])
def test_the_chart_of_nets_has_every_method_that_has_a_score(pictures, net):
    rows = json.loads((KEPT / "peers_nets.json").read_text())["cells"].values()
    of_net = [row for cell in rows if cell["cell"]["net"] == net for row in cell.get("rows", [])]
    scored = [[one for one in method["dampings"] if one["status"] == "ok"]
              for row in of_net for method in row["methods"]]  # fmt: skip
    shown = [point for points in pictures.of_net(net).values() for point in points]
    assert len(shown) == sum(map(bool, scored))
    assert max(lds for _, lds in shown) == max(one["lds"] for tried in scored for one in tried)


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_first_pages_have_the_five_doors(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    doors = text.partition("## What do you ask?")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\| \w.*\?", doors, re.MULTILINE)) == 5
    assert {"wrong_answer.png", "libraries.png"} <= set(re.findall(r"images/(\w+\.png)", text))
