# make demo         train, attribute and check the scores on real data; writes demo_output/
# make test         linters, types, import contracts, tests and doctests
# make coverage     the tests again, with the share of lines that they run; it must not fall
# make docs         the site with the gallery run, in docs/_build/html; warnings are errors
# make docs-quick   the same site, with the pictures of the quick examples only
# make docs-fast    the same site, the gallery shown without its output
# make bench        small benchmarks, ours beside other libraries; benchmarks/results/runs/small/benchmarks.md
# make bench-full   the same on MNIST, with INFLUENCEKIT_DATA, for an hour; writes docs/benchmarks.md
# make dist         wheel and sdist in dist/, installed and tried in an environment of their own
# make test-slow    tests marked slow, with XGBoost and LightGBM (constraints-slow.txt)
# make test-device  tests that take a device, on this machine's GPU; on the CPU where there is none
# make soak         random cases against laws for 10 minutes; SOAK_SECONDS, SOAK_SEED, SOAK_CASES, SOAK_LOG
# make test-oldest  the tests with the oldest versions that pyproject.toml allows, torch apart
# make test-newest  the tests with the newest versions to be had, torch apart
# All make .venv (or an environment of their own) on the first call; a later call finds it ready.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
RESULTS := benchmarks/results/runs

BIN := $(VENV)/bin
PIP := -m pip install -qq --no-input --disable-pip-version-check
# constraints.txt pins what the tests ran with, torch among it
INSTALL := $(BIN)/python $(PIP) -c constraints.txt
INSTALLED_BY := pyproject.toml constraints.txt
# One thread a worker: more would have the workers wait for each other.
PYTEST := -m pytest -q -n $(WORKERS)
SPHINX := $(BIN)/sphinx-build -W --keep-going -c docs

.PHONY: demo test coverage lint format docs docs-quick docs-fast bench bench-full dist test-slow test-device soak \
	test-oldest test-newest clean
.DEFAULT_GOAL := test
.DELETE_ON_ERROR:

export MPLBACKEND := Agg

$(VENV)/.stamp-venv:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-demo: $(VENV)/.stamp-venv $(INSTALLED_BY)
	@echo "Installing influencekit into $(VENV) (the first time takes minutes)"
	$(INSTALL) -e ".[plot,pandas]"
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-venv $(INSTALLED_BY)
	@echo "Installing influencekit and its tools into $(VENV) (the first time takes minutes)"
	$(INSTALL) -e ".[test,lint]"
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-venv $(INSTALLED_BY)
	@echo "Installing influencekit and Sphinx into $(VENV) (the first time takes minutes)"
	$(INSTALL) -e ".[docs]"
	@touch $@

demo: $(VENV)/.stamp-demo
	$(BIN)/python examples/demo_digits.py --output-dir demo_output

lint: $(VENV)/.stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

# Fails below fail_under of pyproject.toml.  It takes longer than make test and is no part of it.
coverage: $(VENV)/.stamp-dev
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) --cov --cov-report=term:skip-covered

format: $(VENV)/.stamp-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A page of the reference whose object is gone would stay: they are all made anew.
docs: $(VENV)/.stamp-docs
	rm -rf docs/api/generated
	$(SPHINX) . docs/_build/html
	@echo "Open docs/_build/html/index.html"

# Examples that take a few seconds each.
QUICK := plot_(fairness_audit|influence_diagnostics|influential_set|many_rows|regression_leave_one_out|top_tables)
docs-quick: $(VENV)/.stamp-docs
	rm -rf docs/api/generated
	$(SPHINX) -q -D "sphinx_gallery_conf.filename_pattern=$(QUICK)" . docs/_build/html-quick
	@echo "Open docs/_build/html-quick/index.html"

docs-fast: $(VENV)/.stamp-docs
	rm -rf docs/api/generated
	$(SPHINX) -q -D plot_gallery=0 . docs/_build/html-fast
	@echo "Open docs/_build/html-fast/index.html"

# Times are only fair on a machine that does nothing else.
bench: $(VENV)/.stamp-demo
	$(BIN)/python -m benchmarks bench --results $(RESULTS)

bench-full: $(VENV)/.stamp-demo
	$(BIN)/python -m benchmarks bench --full --results $(RESULTS)

dist: $(VENV)/.stamp-venv
	$(INSTALL) build
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/python .ci/check_dist.py contents dist
	$(PYTHON) -m venv build/clean
	build/clean/bin/python $(PIP) -c constraints.txt dist/*.whl
	cd build && clean/bin/python ../.ci/check_dist.py fit

test-slow: .venv-slow/.stamp
	OMP_NUM_THREADS=1 .venv-slow/bin/python $(PYTEST) -m slow tests

# The first lines of the report name the device.
test-device: $(VENV)/.stamp-dev
	INFLUENCEKIT_DEVICE=auto OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "" tests/test_device.py

# A line of JSON for each failure; python -m tests.soak --seed N repeats its case. A long one:
# make soak SOAK_SEED=700000 SOAK_CASES=2000 SOAK_LOG=soak.log, which goes on where it ended.
soak: $(VENV)/.stamp-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.soak

.venv-slow/.stamp: $(INSTALLED_BY) constraints-slow.txt
	$(PYTHON) -m venv .venv-slow
	.venv-slow/bin/python $(PIP) -c constraints.txt -c constraints-slow.txt -e ".[test,language]" \
		xgboost-cpu lightgbm
	@touch $@

# Environments of their own.  torch stays at its pin: another build of it may be gigabytes.
test-oldest test-newest: test-%: .venv-%/.stamp
	OMP_NUM_THREADS=1 .venv-$*/bin/python $(PYTEST)

.venv-%/.stamp: $(INSTALLED_BY) .ci/versions.py
	$(PYTHON) -m venv .venv-$*
	$(PYTHON) .ci/versions.py $* > .venv-$*/constraints.txt
	.venv-$*/bin/python $(PIP) --upgrade -c .venv-$*/constraints.txt -e ".[test]"
	@touch $@

clean:
	rm -rf build dist demo_output docs/_build docs/auto_examples docs/api/generated
	rm -rf $(RESULTS) *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find influencekit tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
