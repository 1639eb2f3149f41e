# Every command here works on a fresh machine with Python 3.11+, make and a package index.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXAMPLE ?= examples/helpdesk
SECONDS ?= 300
STREAMS ?= auto

# The first interpreter that is at least 3.11; override with make PYTHON=...
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

.PHONY: help setup run test interop peers soak bench style types rules docs clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "monsal needs Python 3.11 or newer; none was found on PATH (make PYTHON=/path/to/python3.12)"; exit 69; }
	@echo "setting up $(VENV) with $(PYTHON) (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

setup: $(STAMP) ## make the environment

run: $(STAMP) ## start the example application (EXAMPLE=examples/orders for the other one)
	@$(BIN)/monsal run --dir $(EXAMPLE)

test: $(STAMP) ## all tests that need only the package index (STREAMS=1: one after the other)
	@$(BIN)/python -m tools.second_look --streams=$(STREAMS) tests --ignore=tests/interop --ignore=tests/soak

interop: peers ## tests against foreign programs; installs them from Debian
	@$(BIN)/python -m tools.second_look tests/interop

peers: $(STAMP) ## install what make interop needs
	@tools/install_peers.sh
	@$(BIN)/python -m tools.peers cherrypy magicbus quickrpc jsonrpc salmon exim

soak: $(STAMP) ## seeded long run, and a search for counterexamples: make soak SECONDS=600
	@MONSAL_SEARCH=yes $(BIN)/python -m pytest tests/property
	@MONSAL_SOAK_SECONDS=$(SECONDS) $(BIN)/python -m pytest tests/soak -s

bench: $(STAMP) ## measure, and write bench/RESULTS.md (SUITE=bus for that one only)
	@$(BIN)/python -m bench $(SUITE)

style: $(STAMP) ## ruff format and check
	@$(BIN)/ruff format --check src tests tools bench examples
	@$(BIN)/ruff check src tests tools bench examples

types: $(STAMP) ## mypy --strict
	@$(BIN)/mypy

rules: $(STAMP) ## each contract rule and the tests that show it
	@$(BIN)/python -m tools.rules

docs: $(STAMP) ## check links and names in the documents
	@$(BIN)/python -m tools.docs

clean: ## remove the environment and all caches
	rm -rf $(VENV) .peers .pytest_cache .mypy_cache .ruff_cache .hypothesis
