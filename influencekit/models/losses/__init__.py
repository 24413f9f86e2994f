"""Losses of examples by natural outputs, and their Hessians."""
