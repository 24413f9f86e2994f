"""Attributors in folders: saved safely, and indexes of coordinates that are queried and updated."""

from influencekit.index._saved import load, save

__all__ = ["load", "save"]
