"""Nets, tables and problems that tests of several rooms share."""
