"""``python -m influencekit``: attribution from the command line."""

from influencekit.cli._main import main

if __name__ == "__main__":
    raise SystemExit(main())
