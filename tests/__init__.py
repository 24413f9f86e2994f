"""Tests; a package, so that no installed "tests" stands in its place."""
