"""One question a file: a grid, a row function, and the tables that the docs show."""
