"""Command line: files and a saved model in, tables and pages out."""
