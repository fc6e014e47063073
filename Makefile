# "make test" and "make demo" work from a fresh clone and do all their own set-up: Debian packages
# (as root), a virtual environment, the C shim. PYTHON=... chooses the interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The interpreter is part of the name: another one means another environment.
MADE := $(VENV)/made-with-$(subst /,-,$(PYTHON))
INSTALLED := $(VENV)/installed
NEWER_PEERS := $(VENV)/newer-peers
DOCS_TOOLS := $(VENV)/docs-tools
SHIM_SOURCES := $(wildcard csrc/*.c csrc/*.h csrc/*.py)
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint analyze types docs bench clean system

help:
	@echo "make demo    a container, shown step by step"
	@echo "make test    every test (as root; without root only the pure ones)"
	@echo "make lint    ruff's checks and formatting"
	@echo "make analyze the shim under gcc's static analyser"
	@echo "make types   mypy, strict"
	@echo "make docs    the documentation, into site/"
	@echo "make bench   what a container costs, beside other runtimes (as root; BENCH=--quick)"
	@echo "make setup   only the set-up: Debian packages, $(VENV), the shim"
	@echo "make clean   remove everything that was made here"

demo: setup
	$(BIN)/python examples/demo.py

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

analyze: setup
	$(BIN)/python scripts/analyze.py

types: setup
	$(BIN)/mypy

docs: setup $(DOCS_TOOLS)
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs site

# Without a network there are fewer peers, and the table says which.
bench: setup
	-$(PIP_INSTALL) --editable '.[bench]'
	-[ -x $(NEWER_PEERS)/bin/crun ] || benchmarks/newer-peers.sh $(NEWER_PEERS)
	@# With PYTHONDONTWRITEBYTECODE every start would otherwise compile what it imports.
	$(BIN)/python -m compileall -q libpycontainer
	$(BIN)/python -m benchmarks --peers $(NEWER_PEERS)/bin $(BENCH)

setup: $(INSTALLED)

system:
	@PYTHON=$(PYTHON) scripts/setup-debian.sh

$(MADE): | system
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(INSTALLED): $(MADE) pyproject.toml setup.py libpycontainer/_version.py $(SHIM_SOURCES)
	@# Left by an older build, it would be imported instead of the new one.
	rm -f libpycontainer/_shim*.so
	$(PIP_INSTALL) --editable '.[test,lint,types]'
	$(BIN)/python -m compileall -q libpycontainer
	@touch $@

$(DOCS_TOOLS): $(INSTALLED)
	$(PIP_INSTALL) --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) .tox build dist site *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f libpycontainer/_shim*.so libpycontainer/_shim.[co] csrc/*.o
	find . -name __pycache__ -prune -exec rm -rf {} +
