"""Parts of ``benchmarks/run_all.py``: what is run, how, and the page that is drawn of it."""
