"""Names and texts of the user's are drawn character by character, whatever they hold.

A picture is written as SVG with its texts as texts, and every name must be found among them:
a formula, an escape that was left standing, or a curve missing in the legend would not be.
"""

from io import BytesIO
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import influencekit.displays
from influencekit.applications._removal import RemovalCurve
from influencekit.displays import (
    AgreementDisplay,
    GroupScoresDisplay,
    InfluencePlotDisplay,
    LambdaPathDisplay,
    RemovalCurveDisplay,
    SensitivityDisplay,
    TopExamplesDisplay,
)

NAMES = [
    "$",
    "a$b$",
    "$x^2",
    r"\$",
    r"$\frac{$",
    r"\$a$",
    "100$ & more_",
    "_own",
    "__",
    "<b>&amp;",
    "%s {x} ^ ~ #",
]


def drawn(figure):
    """Texts of the picture, without blanks at their ends."""
    figure.canvas.draw()
    stream = BytesIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(stream, format="svg")
    root = ElementTree.fromstring(stream.getvalue())
    texts = root.iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()).strip() for text in texts]


def agreement():
    curves = {name: [0.5, 0.4, 0.3] for name in NAMES}
    AgreementDisplay([1, 2, 4], curves, xlabel="$x$ axis", ylabel="_$y_2$").plot()
    return [*NAMES, "$x$ axis", "_$y_2$"]


def groups():
    GroupScoresDisplay(np.arange(len(NAMES)) + 1.0, NAMES, label="$of$ all").plot()
    return [*NAMES, "$of$ all"]


def influence_plot():
    columns = {"hat_diag": 0.1, "student_resid": 1.0, "cooks_d": 1.0}
    InfluencePlotDisplay(pd.DataFrame(columns, index=NAMES)).plot(most=len(NAMES))
    return NAMES


def removal():
    curves = {name: np.full((2, 3), 0.5) for name in NAMES}
    curve = RemovalCurve([0.1, 0.2], curves, np.full((2, 3), 0.6), np.full(3, 0.9), output="_$f$")
    RemovalCurveDisplay(curve).plot()
    return [*NAMES, "_$f$ after retraining"]


def lambda_path():
    picks = {name: 10.0**i for i, name in enumerate(NAMES)}
    LambdaPathDisplay(
        10.0 ** np.arange(11), np.full(11, 0.5), picks=picks, indicator="$a_b$"
    ).plot()
    return [*NAMES, "mean $a_b$"]


def study(**hyperparameters):
    index = pd.MultiIndex.from_product(hyperparameters.values(), names=list(hyperparameters))
    return index.to_frame(index=False).assign(lds=0.3, lds_se=0.1)


def sensitivity():
    table = study(attributor=NAMES, damping=[0.1, 1.0])
    SensitivityDisplay(table, "damping").plot()
    return NAMES


def sensitivity_categories():
    SensitivityDisplay(study(attributor=["one"], **{"$q$": NAMES}), "$q$").plot()
    return [*NAMES, "$q$"]


def sensitivity_hue():
    table = study(attributor=["$one$", "_2"], damping=[0.1, 1.0], **{"$q$": NAMES})
    SensitivityDisplay(table, "damping", hue="$q$").plot()
    return [f"{one}, $q$ = {name}" for one in ("$one$", "_2") for name in NAMES]


def heat_map():
    table = study(attributor=["$one$", "_2"], **{"$q$": NAMES, "_p$": NAMES[:3]})
    SensitivityDisplay(table, "$q$", y="_p$").plot()
    return [*NAMES, "$q$", "_p$", "$one$", "_2"]


def examples(X_train, kind):
    n = len(NAMES)
    places = np.arange(n)[None]
    TopExamplesDisplay(
        X_train=X_train,
        X_query=X_train[:1],
        proponents=places,
        proponent_scores=np.arange(n, 0, -1.0)[None],
        opponents=np.full((1, 1), -1),
        opponent_scores=np.full((1, 1), np.nan),
        y_train=np.array(NAMES, dtype=object),
        y_query=np.array(["$t$"], dtype=object),
    ).plot(kind=kind)


def bars():
    rows = pd.DataFrame({"text": NAMES}, index=[f"$r$ {i}" for i in range(len(NAMES))])
    examples(rows, "bars")
    return [*NAMES, *(f"$r$ {i} ({name})" for i, name in enumerate(NAMES)), "$r$ 0 ($t$)"]


def images():
    pixels = np.random.default_rng(0).random((len(NAMES), 2, 2))
    examples(pixels, "images")
    return [*NAMES, "$t$"]


CASES = [
    agreement,
    groups,
    influence_plot,
    removal,
    lambda_path,
    sensitivity,
    sensitivity_categories,
    sensitivity_hue,
    heat_map,
    bars,
    images,
]


#: Displays that draw no name or text of the user's.
WITHOUT = {"ErrorProxyDisplay", "LabelIssuesDisplay"}


def test_every_display_with_names_is_here():
    here = {name for name in influencekit.displays.__all__ if name in globals()}
    assert here == set(influencekit.displays.__all__) - WITHOUT


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_every_character_is_drawn(case):
    wanted = case()
    found = drawn(plt.gcf())
    assert [text for text in wanted if text not in found] == []


def test_a_curve_without_a_name_stays_in_the_legend():
    display = AgreementDisplay([1, 2], {"": [0.5, 0.4], "b": [0.4, 0.3]}).plot()
    assert len(display.ax_.get_legend().get_texts()) == 2
