"""Advice of indexes in folders."""

from tests.advice._row import Row

__all__ = ["ROWS"]

_BUILT = "index = AttributionIndex(InfluenceFunction(), 'i').fit(model, X, y); "
_CHANGED = _BUILT + "index.remove_rows([0]); "
_DAMAGED = _BUILT + (
    "from pathlib import Path; path = next(Path('i').glob('factors*')); "
    "path.write_bytes(path.read_bytes()[:-1] + b'?'); "
)
_SEARCH = "LDSSearch(InfluenceFunction(), **quick)"

ROWS = [
    Row(
        "with the data and settings of its build, writes damaged",
        _DAMAGED + "AttributionIndex.open('i', model)",
        {
            "fit(model, X, y) on this folder": (
                "AttributionIndex(InfluenceFunction(), 'i').fit(model, X, y)"
            ),
        },
    ),
    Row(
        "holds an index of another model, other data or other",
        _BUILT + "AttributionIndex(InfluenceFunction(), 'i').fit(model, X[:40], y[:40])",
        {
            "open it with AttributionIndex": "AttributionIndex.open('i', model)",
            "Give another folder": (
                "AttributionIndex(InfluenceFunction(), 'other').fit(model, X[:40], y[:40])"
            ),
        },
    ),
    Row(
        "holds an index that was changed since its build",
        _CHANGED + "AttributionIndex(InfluenceFunction(), 'i').fit(model, X, y)",
        {
            "Open it with AttributionIndex": "AttributionIndex.open('i', model)",
            "another folder": ("AttributionIndex(InfluenceFunction(), 'other').fit(model, X, y)"),
        },
    ),
    Row(
        "accepted is an attributor of single examples. Put the groups around the index",
        (
            "AttributionIndex(GroupAttributor(InfluenceFunction(), LabelGrouper(y)), 'i')"
            ".fit(model, X, y)"
        ),
        {
            "Put the groups around the index: GroupAttributor(AttributionIndex(": (
                "GroupAttributor(AttributionIndex(InfluenceFunction(), 'i'), LabelGrouper(y))"
                ".fit(model, X, y)"
            ),
        },
    ),
    Row(
        "which an index does not have. Of a fitted search",
        f"AttributionIndex({_SEARCH}, 'i').fit(model, X, y)",
        {
            "give its best_attributor_": (
                f"search = {_SEARCH}.fit(*iris, **asked); "
                "AttributionIndex(search.best_attributor_, 'i').fit(model, X, y)"
            ),
        },
    ),
    Row(
        "are not inner products of few numbers of a query and",
        "AttributionIndex(InfluenceFunction('cg'), 'i').fit(model, X, y)",
        {
            "Use save(": "save(InfluenceFunction('cg').fit(model, X, y), 's')",
        },
    ),
]
