"""Losses of examples as functions of natural outputs, and their Hessians."""
