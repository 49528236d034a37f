# Every command a contributor needs. The virtual environment is made on first use.
VENV ?= .venv
PY := $(VENV)/bin/python

.PHONY: setup demo test check bench lock
.DEFAULT_GOAL := test

$(VENV)/.installed: pyproject.toml requirements-test.lock
	python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --require-hashes -r requirements-test.lock
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# Without npm the tests with a client of another stack are skipped and say so; where npm is, its failure is one.
INTEROP := $(if $(shell command -v npm),tests/interop/node_modules/.installed)

tests/interop/node_modules/.installed: tests/interop/package-lock.json
	cd tests/interop && npm ci --silent --no-audit --no-fund
	touch $@

setup: $(VENV)/.installed

demo: setup
	$(VENV)/bin/enose demo

# Files of tests share the processors; tests within a file share its servers.
PYTEST = $(PY) -m pytest -n logical --dist loadfile

test: setup $(INTEROP)
	$(PYTEST)

check: setup $(INTEROP)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PYTEST)

bench: setup
	$(PY) -m benchmarks

# Both locks also hold what builds the package, so that an installation fetches nothing besides its lock.
COMPILE = $(VENV)/bin/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --allow-unsafe --strip-extras --build-deps-for editable pyproject.toml

lock: setup
	$(PY) -m pip install --quiet pip-tools
	$(COMPILE) --extra postgres --output-file requirements.lock
	$(COMPILE) --constraint requirements.lock --extra postgres --extra parquet --extra test --output-file requirements-test.lock
