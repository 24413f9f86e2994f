"""Which models have ground truth: a data set, a model and sizes."""

from __future__ import annotations

from dataclasses import dataclass

SGD = {"optimizer": "sgd", "optimizer__momentum": 0.9}
ADAMW = {"optimizer": "adamw", "optimizer__weight_decay": 1e-3}
BOOSTING = {"max_iter": 40, "max_leaf_nodes": 8, "learning_rate": 0.1, "random_state": 0}
ACS_LICENSE = "US Census PUMS, public"
LICENSES = {
    "concrete": "CC BY 4.0, I-Cheng Yeh", "randhie": "in statsmodels, public domain",
    "fair": "in statsmodels, with the author's permission",
    "star98": "in statsmodels, with the author's permission",
    "mnist": "MNIST, CC BY-SA 3.0; no pixels here", "cifar2": "CIFAR-10; no pixels here",
    "sst2-tfidf": "SST-2; no texts here", "sst2-words": "SST-2; no texts here",
    "wikitext2": "WikiText-2, CC BY-SA 3.0; no texts here. The pretrained model: MIT",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A ground truth to be made."""

    source: str
    model: dict
    n_train: int
    n_query: int = 40
    n_halves: int = 100
    n_repeats: int = 3
    group: str = "tables"

    @property
    def license(self) -> str:
        if self.source.startswith("acs"):
            return ACS_LICENSE
        return LICENSES.get(self.source, "in scikit-learn, BSD-3-Clause")


def _mlp(n_features: int, hidden: int, classes: int | None, lr: float, epochs: int, how=SGD):
    return {"kind": "mlp", "sizes": [n_features, hidden, classes or 1], "classes": classes,
            "lr": lr, "max_epochs": epochs, "batch_size": 32, **how}  # fmt: skip


def _cnn(shape: list, classes: int, epochs: int, how=SGD, lr=0.02, width=8):
    return {"kind": "cnn", "shape": shape, "n_classes": classes, "width": width,
            "classes": classes, "lr": lr, "max_epochs": epochs, "batch_size": 32,
            **how}  # fmt: skip


#: A leaf has 20 rows or more: boosting does not split so few.
TOO_FEW_TO_SPLIT = 40
#: Rows, features and classes of each table, and how its net is trained.
TABLES = {
    "iris": (100, 4, 3, 0.05, 20, SGD),
    "wine": (120, 13, 3, 0.01, 20, ADAMW),
    "breast-cancer": (300, 30, 2, 0.03, 15, SGD),
    "digits": (400, 64, 10, 0.05, 20, SGD),
    "diabetes": (300, 10, None, 0.01, 30, SGD),
    "linnerud": (15, 3, None, 0.01, 30, SGD),
    "concrete": (400, 8, None, 0.01, 30, ADAMW),
    "randhie": (400, 9, None, 0.01, 15, SGD),
    "fair": (400, 8, 2, 0.03, 15, SGD),
    "star98": (220, 20, None, 0.01, 30, ADAMW),
    "acs-ca": (400, None, 2, 0.02, 12, SGD),
    "acs-fl": (400, None, 2, 0.005, 12, ADAMW),
    "acs-ny": (400, None, 2, 0.02, 12, SGD),
    "acs-tx": (400, None, 2, 0.005, 12, ADAMW),
}


def _tables() -> dict[str, Cell]:
    found = {}
    for source, (n, d, classes, lr, epochs, how) in TABLES.items():
        linear = {"kind": "logistic", "C": 1.0, "max_iter": 2000} if classes else {
            "kind": "ridge", "alpha": 1.0}  # fmt: skip
        trees = {"kind": "boosting" if classes else "boosting-regressor", **BOOSTING}
        trees |= {"max_iter": 10} if source == "digits" else {}
        m = 40 if n > TOO_FEW_TO_SPLIT else n // 3
        found[f"{source}-linear"] = Cell(source, linear, n, m, n_repeats=1)
        found[f"{source}-mlp"] = Cell(source, _mlp(d, 16, classes, lr, epochs, how), n, m)
        if n > TOO_FEW_TO_SPLIT:
            found[f"{source}-boosting"] = Cell(source, trees, n, m, n_halves=60, n_repeats=1)
    return found


IMAGES = {
    "digits-cnn": Cell("digits", _cnn([1, 8, 8], 10, 20), 400, group="images"),
    "mnist-mlp": Cell("mnist", _mlp(196, 8, 10, 0.03, 20), 400, group="images"),
    "mnist-cnn": Cell(
        "mnist", _cnn([1, 14, 14], 10, 15, width=4), 400, n_repeats=2, group="images"
    ),
    "cifar2-mlp": Cell(
        "cifar2", _mlp(768, 16, 2, 0.003, 15, ADAMW), 400, n_repeats=2, group="images"
    ),
    "cifar2-cnn": Cell(
        "cifar2", _cnn([3, 16, 16], 2, 15, ADAMW, 0.003), 400, n_repeats=2, group="images"
    ),
}
TEXTS = {
    "sst2-tfidf-linear": Cell("sst2-tfidf", {"kind": "logistic", "C": 1.0, "max_iter": 2000}, 500,
                              n_repeats=1, group="texts"),
    "sst2-words-net": Cell(
        "sst2-words", {"kind": "words", "n_words": 800, "width": 16, "n_classes": 2, "classes": 2,
                       "lr": 0.01, "max_epochs": 10, "batch_size": 32, **ADAMW}, 500,
        n_repeats=3, group="texts"),
    "wikitext2-llama": Cell(
        "wikitext2", {"kind": "llama", "layers": 2, "lr": 2e-3, "max_epochs": 2, "batch_size": 8},
        120, 30, n_halves=30, n_repeats=2, group="texts"),
}  # fmt: skip
#: What tests are made with.
TINY = {"iris-tiny": Cell("iris", {"kind": "logistic", "C": 1.0, "max_iter": 2000}, 60,
                          8, 12, 1, "tests")}  # fmt: skip
CELLS: dict[str, Cell] = {**_tables(), **IMAGES, **TEXTS}
