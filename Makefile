# Everything is installed into .venv inside this folder; nothing else on the machine is touched.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
COMPILED := build/compiled/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-compiled unit check format compiled bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing dependencies into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(READY) ## Create .venv and install the sidecar with its development tools

demo: $(READY) ## Start an example service, the sidecar before it and some traffic; stays up to play with
	@$(BIN)/sidecar demo

test: $(READY) ## Run the whole test suite, real servers included
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

test-compiled: $(COMPILED) ## Run the tests of the real process again, on the compiled data path
	@SIDECAR_BUILD=build/compiled $(BIN)/python -m pytest -n 2 --dist loadgroup tests/conformance tests/integration tests/faults/test_idempotency_faults.py

unit: $(READY) ## Run the fast tests only: unit, contract, property, conformance
	@$(BIN)/python -m pytest tests/unit tests/contract tests/property tests/conformance

check: $(READY) ## Lint, formatting, types, and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## Format the code and apply the safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

$(COMPILED): $(READY) hatch_build.py $(shell find sidecar -name '*.py' -o -name '*.lua' -o -name '*.html')
	@echo "compiling the data path into build/compiled ..."
	@rm -rf build/compiled build/wheel
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target build/compiled build/wheel/*.whl
	@ls build/compiled/*__mypyc*.so >/dev/null || (echo 'the data path was not compiled: is there a C compiler?'; exit 1)
	@touch $@

compiled: $(COMPILED) ## Build what a wheel holds, with the compiled data path, into build/compiled

bench: $(COMPILED) ## Compare CPU and memory with Envoy, nginx and a plain aiohttp proxy, side by side
	@SIDECAR_BUILD=build/compiled $(BIN)/python -m bench

clean: ## Remove .venv and all caches
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
