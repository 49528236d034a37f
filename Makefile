# Every command a contributor needs. The virtual environment is made on first use.
VENV ?= .venv
PY := $(VENV)/bin/python

.PHONY: setup demo test check bench lock
.DEFAULT_GOAL := test

$(VENV)/.installed: pyproject.toml requirements.lock
	python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

tests/interop/node_modules/.installed: tests/interop/package-lock.json
	cd tests/interop && npm ci --silent --no-audit --no-fund
	touch $@

setup: $(VENV)/.installed

demo: setup
	$(VENV)/bin/enose demo

test: setup tests/interop/node_modules/.installed
	$(PY) -m pytest

check: setup tests/interop/node_modules/.installed
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) -m pytest

bench: setup
	$(PY) -m benchmarks

lock:
	$(PY) -m pip install --quiet pip-tools
	$(VENV)/bin/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --allow-unsafe --strip-extras --extra test --output-file requirements.lock pyproject.toml
