"""Linear models without some of their rows: exact steps, error bounds, diagnostics."""
