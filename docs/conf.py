"""Sphinx: ``make docs`` builds the site, ``make docs-fast`` without running the gallery.

The source directory is the root of the repository, so that links between ``docs/``, the files
beside it and the examples are the same on a code host and in the site.
"""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import matplotlib

import influencekit
from influencekit.datasets import get_data_home

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

from _api import public_name  # noqa: E402

matplotlib.use("Agg")

project = "influencekit"
author = "influencekit developers"
copyright = author
version = release = influencekit.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
root_doc = "docs/index"
include_patterns = ["docs/**", "*.md", "benchmarks/**.md"]
exclude_patterns = [".*", "build", "dist", "docs/_*", "influencekit", "tests", "**.py", "**.ipynb"]
exclude_patterns += ["benchmarks/results"]
templates_path = [str(HERE / "_templates")]  # absolute: autosummary would look below the root

# ---- Markdown
myst_heading_anchors = 4

# ---- reference
autodoc_typehints = "none"  # numpydoc's sections have the types
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False  # autodoc lists them

nitpicky = True
OTHERS = "collections|joblib|numpy|optuna|pandas|scipy|sklearn|skorch|torch"
nitpick_ignore_regex = [(r"py:.*", rf"({OTHERS})\..*")]
toc_object_entries_show_parents = "hide"

# ---- gallery
#: Without the data folder that it reads, or a package, an example is shown and not run.
missing = {
    "INFLUENCEKIT_DATA": not get_data_home().is_dir(),
    "from transformers": find_spec("transformers") is None or find_spec("peft") is None,
}
not_run = [
    path.stem.removeprefix("plot_")
    for path in sorted((ROOT / "examples").glob("plot_*.py"))
    if any(lacks and word in path.read_text(encoding="utf-8") for word, lacks in missing.items())
]
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "docs/auto_examples",
    "filename_pattern": rf"plot_(?!({'|'.join(not_run)})\.py)" if not_run else "plot_",
    "ignore_pattern": r"(^|/)(?!plot_)[^/]*\.py$",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "show_signature": False,
    "abort_on_example_error": False,
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
}

# ---- pages
html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_favicon = "_static/logo_light.svg"
html_extra_path = ["_extra"]  # a page at the top that leads to docs/index.html
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {
        "image_light": "_static/logo_light.svg",
        "image_dark": "_static/logo_dark.svg",
        "alt_text": project,
    },
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "back_to_top_button": False,
}
html_sidebars = {"docs/index": [], "docs/quickstart": []}

# ---- links that differ between a code host and the site
#: Pages whose tables are the map: each table below a heading is one list of the site's contents.
MAPS = {"docs/index", "docs/user_guide", "docs/development"}
EXAMPLE = re.compile(r"\]\((?:\.\./)?examples/(?:(plot_\w+)\.py|README\.rst)(#[\w-]+)?\)")


def prepare_page(_app, docname, source):
    """Lead links to examples into the gallery, and add the contents that a map page lists."""
    up = "" if docname.startswith("docs/") else "docs/"
    text = EXAMPLE.sub(lambda m: f"]({up}auto_examples/{m[1] or 'index'}.rst)", source[0])
    if docname in MAPS:
        text = re.sub(r"(?m)^#.*\n(?:(?!#).*\n?)*", add_contents, text)
    source[0] = text


def add_contents(section):
    """A section of a map page with a hidden toctree of the pages that its table lists."""
    heading = section[0].splitlines()[0].lstrip("# ")
    pages = re.findall(r"(?m)^\| \[[^\]]+\]\(([^)#:]+)\)", section[0])
    if not pages:
        return section[0]
    lines = ["", "```{toctree}", ":hidden:", f":caption: {heading}", "", *pages, "```", ""]
    return section[0].rstrip("\n") + "\n".join(["", *lines, ""])


def find_by_public_name(app, env, node, contnode):
    """A name written as its own room sees it, found under the name that the reference has."""
    written = node["reftarget"]
    for target in (written, f"{node.get('py:module')}.{written}", f"influencekit.{written}"):
        name, method = public_name(target), ""
        if name is None and "." in target:
            owner, _, method = target.rpartition(".")
            name = public_name(owner)
        if name is not None:
            full = f"{name}.{method}" if method else name
            python = env.get_domain("py")
            return python.resolve_xref(
                env, node["refdoc"], app.builder, "obj", full, node, contnode
            )
    return None


def skip_foreign(_app, what, _name, obj, _skip, _options):
    """Methods of scikit-learn are documented there: metadata requests, ``set_output``."""
    foreign = getattr(obj, "__module__", None) or ""
    return True if foreign.startswith("sklearn.") and what == "class" else None


def setup(app):
    """Sphinx calls this."""
    for name in not_run:
        print(f"examples/plot_{name}.py is shown and not run: no data or package for it")
    app.connect("source-read", prepare_page)
    app.connect("autodoc-skip-member", skip_foreign)
    app.connect("missing-reference", find_by_public_name)
