# make demo    train, attribute and choose a damping on real data; writes demo_output/
# make test    linters, types, import contracts, tests and doctests
# make bench   quick benchmarks on data that comes with scikit-learn; writes benchmarks/results/
# All make .venv on the first call; a later call finds it ready.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
RESULTS := benchmarks/results

BIN := $(VENV)/bin
# constraints.txt pins what the tests ran with, torch among it
INSTALL := $(BIN)/python -m pip install -qq --no-input --disable-pip-version-check -c constraints.txt
INSTALLED_BY := pyproject.toml constraints.txt

.PHONY: demo test lint format bench clean
.DEFAULT_GOAL := test
.DELETE_ON_ERROR:

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

demo: $(VENV)/.stamp-demo
	$(BIN)/python examples/demo_digits.py --output-dir demo_output

lint: $(VENV)/.stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One thread a worker: more would have the workers wait for each other.
test: lint
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m pytest -q -n $(WORKERS)

format: $(VENV)/.stamp-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Times are only fair on a machine that does nothing else.
bench: $(VENV)/.stamp-demo
	mkdir -p $(RESULTS)
	$(BIN)/python benchmarks/bench_damping_path.py --json $(RESULTS)/damping_path.json
	$(BIN)/python benchmarks/bench_dot_products.py --n 1000 --m 200 --json $(RESULTS)/dot_products.json
	$(BIN)/python benchmarks/bench_stacked_training.py --models 50 --json > $(RESULTS)/stacked_training.json
	cat $(RESULTS)/stacked_training.json

clean:
	rm -rf build dist demo_output $(RESULTS) *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find influencekit tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
