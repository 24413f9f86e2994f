"""Colors of the page can be read."""

import re
from pathlib import Path

import pytest

import influencekit.report

STYLE = (Path(influencekit.report.__file__).parent / "templates" / "style.css").read_text()


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


SETTINGS = [dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in STYLE.split(":root")[1:]]


@pytest.mark.parametrize("colors", SETTINGS, ids=["light", "dark", "print"])
def test_texts_stand_out(colors):
    """Contrast of 4.5 or more, as the accessibility guidelines (WCAG 2, AA) ask of text."""
    for text in ("text", "muted", "proponent", "opponent"):
        for ground in ("page", "panel"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)


def test_every_color_is_set_in_every_setting():
    assert len(SETTINGS) == 3 and len({frozenset(colors) for colors in SETTINGS}) == 1
    assert set(re.findall(r"var\(--(\w+)\)", STYLE)) <= set(SETTINGS[0])


def test_folded_parts_are_printed():
    """Browsers keep a closed <details> closed on paper; its content has a name since 2024."""
    _, _, printed = STYLE.partition("@media print")
    rule = re.search(r"details::details-content \{([^}]*)\}", printed)
    assert rule and "content-visibility: visible" in rule[1] and "block-size: auto" in rule[1]
