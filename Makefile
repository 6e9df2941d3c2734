# Everything one does with this project. `make demo` and `make test` need Python 3.11+, make and a package index.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test chaos exhaustive soak bench lint format clean

help:            ## show this
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## make .venv and install everything into it

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "statekit needs Python 3.11 or newer (with venv), and found none. Try: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 2; }
	@echo "installing into $(VENV) with $$($(PYTHON) --version) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

demo: install    ## the proof: memory, sticky and shared under load; writes report/
	$(BIN)/statekit demo

test: install    ## the whole suite, against real servers
	$(BIN)/python -m pytest -n auto -m 'not chaos and not exhaustive'

chaos: install   ## break servers and processes under load; some minutes, on a machine that has nothing else to do
	$(BIN)/python -m pytest tests/chaos -m chaos -n 2 --dist loadfile -rP

exhaustive: install  ## primitives against pure models, many thousands of random schedules; some minutes
	$(BIN)/python -m pytest -n auto -m exhaustive $(if $(ONLY),-k '$(ONLY)')

soak: install    ## everything under load with a random fault every few seconds, ten minutes (SECONDS=60 for one)
	$(BIN)/python -m tests.chaos.soak --seconds $(or $(SECONDS),600)

bench: $(STAMP).bench  ## statekit beside its peers, about ten minutes; writes report/bench.html
	$(BIN)/python -m benchmarks

$(STAMP).bench: $(STAMP)
	@echo "installing the peers into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	@touch $(STAMP).bench

lint: install    ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install  ## let ruff put everything in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:           ## remove what the targets above made
	rm -rf $(VENV) report .mypy_cache .ruff_cache .pytest_cache
