"""Whether the wheel and the sdist hold what they should, and whether the wheel works.

``check_dist.py contents dist`` looks into the archives; ``check_dist.py fit``, run where the
package is installed and the repository is not on the path, fits and scores.
"""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def contents(folder):
    """Every file of the package is in both; the sdist has tests, docs and examples as well."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    (wheel,) = Path(folder).glob("*.whl")
    (sdist,) = Path(folder).glob("*.tar.gz")
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    package = {name for name in tracked if name.startswith("influencekit/")}
    expect("the wheel lacks", package - in_wheel)
    expect("the sdist lacks", set(tracked) - in_sdist - {".gitignore"})
    foreign = {name for name in in_wheel - package if ".dist-info/" not in name}
    expect("the wheel has what is not in the repository:", foreign)
    expect("the wheel lacks", {"influencekit/py.typed"} - in_wheel)
    print(f"{wheel.name}: {len(in_wheel)} files, {sdist.name}: {len(in_sdist)} entries")


def expect(what, names):
    """End with the names, unless there are none."""
    if names:
        sys.exit(f"{what} {sorted(names)}")


def fit():
    """Three lines with the installed wheel."""
    import influencekit

    if ROOT / "influencekit" in Path(influencekit.__file__).parents:
        sys.exit("this is the repository's package, not the installed one")
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X, y)
    scores = influencekit.InfluenceFunction().fit(model, X, y).score(X[:5], y[:5])
    print(f"influencekit {influencekit.__version__} from the wheel: scores {scores.shape}")


{"contents": contents, "fit": fit}[sys.argv[1]](*sys.argv[2:])
