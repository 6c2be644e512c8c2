# One word each: the same for people, for CI and for the docs. A bare `make` lists them.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup setup-run run demo test check format lock clean

CONFIG ?= config.yaml
ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# What every test run uses; .ci/run says the same words (tests/project holds the two together).
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup

# Our own package: no index is asked, the build backend comes from the lock.
INSTALL_SELF := $(PIP) install --no-deps --no-build-isolation --no-index --editable .

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.dev .venv/.self ## make .venv with everything development needs
	@:

setup-run: .venv/.run .venv/.self ## make .venv with what serving needs
	@:

run: setup-run ## serve CONFIG (config.yaml) on SQLite
	@exec $(BIN)/python -m proxy serve --config $(CONFIG)

demo: setup-run ## services that retry, providers that misbehave, one kill -9: then the count
	@exec $(BIN)/python -m proxy demo

test: setup ## all tests; ARGS go to pytest
	@exec $(PYTEST) $(ARGS)

check: setup ## format, lint, layers, types, generated files, fast tests
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports --no-logo >.venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m pytest -q --no-header tests/core tests/config tests/project/test_generated.py

format: setup ## write the code as the formatter wants it
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

# Needs uv (https://docs.astral.sh/uv); nothing else does. Each lock is made by
#   uv pip compile --universal --generate-hashes --python-version 3.11 --no-header
LOCK := uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header
lock: ## fit requirements/*.txt to pyproject.toml
	@$(LOCK) pyproject.toml --output-file requirements/run.txt
	@$(LOCK) --group pyproject.toml:build --output-file requirements/build.txt
	@$(LOCK) pyproject.toml --group dev --output-file requirements/dev.txt

clean: ## remove .venv and what tools left
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A python3.x on PATH may be a shim without a version behind it, or lack venv: each is tried, not trusted.
.venv/bin/python:
	@for python in python3 python3.13 python3.12 python3.11; do \
		if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			echo "setup: .venv from $$($$python --version)"; exec $$python -m venv .venv; \
		fi; \
	done; \
	echo "setup: no Python 3.11 or newer with the venv module was found on PATH" >&2; exit 1

.venv/.run: requirements/run.txt requirements/build.txt | .venv/bin/python
	@echo "setup: locked dependencies for serving"
	@$(PIP) install --require-hashes -r requirements/run.txt -r requirements/build.txt
	@touch $@

.venv/.dev: requirements/dev.txt | .venv/bin/python
	@echo "setup: locked dependencies for development"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@ .venv/.run

.venv/.self: pyproject.toml | .venv/bin/python
	@echo "setup: dedup-proxy itself, editable"
	@$(INSTALL_SELF)
	@touch $@
