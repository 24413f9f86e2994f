"""Candidates of an index found without reading all rows."""
