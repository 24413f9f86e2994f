"""A user's code with edits that change a training, and edits that change nothing."""

#: What a user keeps in a module of helpers, or in a notebook's first cell.
HELPERS = """
import torch
from torch import nn

SCALE = 2.0
UNUSED = 1
TABLE = {"shift": 0.5, "names": ("a", "b")}


def squash(x):
    return torch.tanh(x) * SCALE


def shifted(x):
    return squash(x) + TABLE["shift"]


class Gain(nn.Module):
    factor = 1.5

    def forward(self, x):
        return shifted(x) * self.factor


class Base(nn.Module):
    def head(self, hidden):
        return self.out(hidden) * 1.0


def strength(n_rows):
    return 10.0 / n_rows
"""

#: What a user trains, in the module or cell after it.
MAIN = """
from sklearn.linear_model import LogisticRegression
from torch.utils.data import Dataset


class Net(Base):
    def __init__(self, width=4):
        super().__init__()
        self.first = nn.Linear(5, width, dtype=torch.float64)
        self.gain = Gain()
        self.out = nn.Linear(width, 3, dtype=torch.float64)

    def forward(self, X):
        hidden = self.gain(self.first(X))
        return self.head(hidden)


class Rows(Dataset):
    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i] * 1.0, self.y[i]


class Criterion(nn.CrossEntropyLoss):
    def forward(self, predicted, true):
        return super().forward(predicted * 1.0, true)


def make_output(power):
    def output(outputs, targets):
        largest = outputs.max(dim=1).values
        return largest**power * 1.0

    return output


output = make_output(3)


def retrain(X, y, seed, tol=1e-3):
    penalty = strength(len(X))
    return LogisticRegression(C=penalty * 1.0, tol=tol).fit(X, y)
"""

#: Name: (what is trained, where, old text, new text).
HARMFUL = {
    "the net's own forward": ("net", "main", "hidden = self.gain", "hidden = 2 * self.gain"),
    "a helper function": ("net", "helpers", 'squash(x) + TABLE["shift"]', "squash(x) - 0.5"),
    "a helper of a helper": ("net", "helpers", "torch.tanh(x)", "torch.sin(x)"),
    "a helper layer": ("net", "helpers", "shifted(x) * self", "shifted(-x) * self"),
    "a module's constant": ("net", "helpers", "SCALE = 2.0", "SCALE = 3.0"),
    "an entry of a module's table": ("net", "helpers", '"shift": 0.5', '"shift": 0.25'),
    "a class attribute": ("net", "helpers", "factor = 1.5", "factor = 1.25"),
    "a base class": ("net", "helpers", "self.out(hidden) * 1.0", "self.out(hidden) * 2.0"),
    "a default": ("net", "main", "width=4", "width=5"),
    "a Dataset's constant": ("net", "main", "self.X[i] * 1.0", "self.X[i] * 2.0"),
    "the loss's constant": ("net", "main", "predicted * 1.0", "predicted * 2.0"),
    "the output's constant": ("net", "main", "largest**power * 1.0", "largest**power * 2.0"),
    "what the output closes over": ("net", "main", "make_output(3)", "make_output(2)"),
    "the training function's constant": ("retrain", "main", "penalty * 1.0", "penalty * 2.0"),
    "the training function's helper": ("retrain", "helpers", "10.0 / n_rows", "9.0 / n_rows"),
}

HARMLESS = {
    "a comment": ("net", "helpers", "SCALE = 2.0", "SCALE = 2.0  # twice"),
    "a comment inside": ("net", "main", "hidden = self", "# layers\n        hidden = self"),
    "a class's docstring": (
        "net",
        "main",
        "class Net(Base):",
        'class Net(Base):\n    """A net."""',
    ),
    "a method's docstring": (
        "net",
        "main",
        "        super().__init__()\n        self.first",
        '        """Make layers."""\n        super().__init__()\n        self.first',
    ),
    "an inner function's docstring": (
        "net",
        "main",
        "        largest = ",
        '        """The largest."""\n        largest = ',
    ),
    "moved lines": ("net", "helpers", "\nSCALE", "\n\n\n\n\nSCALE"),
    "moved lines inside": (
        "net",
        "main",
        "        return self.head",
        "\n\n        return self.head",
    ),
    "another order": (
        "net",
        "helpers",
        HELPERS[HELPERS.index("def squash") : HELPERS.index("class Gain")],
        HELPERS[HELPERS.index("def shifted") : HELPERS.index("class Gain")]
        + HELPERS[HELPERS.index("def squash") : HELPERS.index("def shifted")],
    ),
    "broken lines": ("net", "main", "self.gain(self.first(X))", "self.gain(\n self.first(\n X))"),
    "a local's name": ("retrain", "main", "penalty", "inverse"),
    "type hints": ("net", "helpers", "def squash(x):", "def squash(x: object) -> object:"),
    "an unused constant": ("net", "helpers", "UNUSED = 1", "UNUSED = 2"),
    "a new function": ("net", "helpers", "class Gain", "def new(x):\n    return 1\n\n\nclass Gain"),
    "a new import": ("retrain", "main", "from sklearn", "import os\nfrom sklearn"),
    "an unused method's module": ("retrain", "helpers", "torch.tanh(x)", "torch.sin(x)"),
}
