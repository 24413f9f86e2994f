"""Attributors in folders: saved safely, and indexes of coordinates that are queried and updated."""

from influencekit.index._attribution_index import AttributionIndex
from influencekit.index._two_stage import TwoStage
from influencekit.index.files._saved import load, save

__all__ = ["AttributionIndex", "TwoStage", "load", "save"]
