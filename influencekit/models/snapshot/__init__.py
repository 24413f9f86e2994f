"""The copy of a model: made, tried, and restricted to layers."""
