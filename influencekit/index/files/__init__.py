"""Fitted objects as arrays and one JSON manifest, which is checked before it is believed."""
