# The developer commands. `make` alone lists them.
#
# Needs Python >= 3.11 and, for the JavaScript parts, Node >= 20; everything else is installed
# into folders of this repository (.venv, .venv-public, js/node_modules).

PYTHON  ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
HOST    ?= 127.0.0.1
PORT    ?= 9527
# Extra arguments, for example: make test-unit ARGS="-k streams -x"
ARGS    ?=

VENV    := .venv
PUBLIC  := .venv-public
BIN     := $(VENV)/bin
PIP     := -m pip --disable-pip-version-check --no-input install -qq
PYTEST  := $(BIN)/python -m pytest
SOURCES := hypha_rpc server/hypha
LINTED  := hypha_rpc server tests $(wildcard bench examples)

# A stamp tells that its folder is up to date with the files that describe it.
VENV_STAMP   := $(VENV)/.stamp
PUBLIC_STAMP := $(PUBLIC)/.stamp
PUBLIC_NODE_STAMP := tests/interop/.cache/npm/package-lock.json
JS_PACKAGE   := $(wildcard js/package.json)
JS_MODULES   := $(if $(JS_PACKAGE),js/node_modules/.stamp)
JS_DIST      := $(if $(JS_PACKAGE),js/dist/.stamp)
JS_SOURCES   := $(if $(JS_PACKAGE),$(shell find js -path js/node_modules -prune -o -path js/dist -prune -o -type f -print))

# Tests look for the two environments here.
export HYPHA_PYTHON        ?= $(abspath $(BIN)/python)
export HYPHA_PUBLIC_PYTHON ?= $(abspath $(PUBLIC)/bin/python)

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# ------------------------------------------------------------------------------------ use

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(VENV_STAMP) $(JS_DIST) ## Install everything into .venv (and build js/dist)
	@echo "[setup] ready: $(BIN)/python"

.PHONY: serve
serve: setup ## Start a server with the hello-world service on http://HOST:PORT
	@exec $(BIN)/python -m hypha.server --host $(HOST) --port $(PORT) \
		--startup-functions examples/hello_world.py:hypha_startup $(ARGS)

$(VENV_STAMP): pyproject.toml server/pyproject.toml constraints.txt hypha_rpc/_version.py
	@test -n "$(PYTHON)" || { echo "No Python found. Install Python 3.11 or newer." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11. Use: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "[setup] environment in $(VENV) from $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@echo "[setup] installing the build backend"
	@$(BIN)/python $(PIP) -c constraints.txt hatchling editables
	@echo "[setup] installing hypha-rpc, hypha and the developer tools (about a minute the first time)"
	@$(BIN)/python $(PIP) -c constraints.txt --no-build-isolation -e '.[dev]' -e './server[redis,oidc]'
	@touch $@
	@echo "[setup] done"

js/node_modules/.stamp: js/package.json $(wildcard js/package-lock.json)
	@echo "[setup] installing the JavaScript dependencies"
	@cd js && if [ -f package-lock.json ]; then npm ci --silent --no-audit --no-fund; \
		else npm install --silent --no-audit --no-fund; fi
	@touch $@

js/dist/.stamp: $(JS_MODULES) $(JS_SOURCES)
	@echo "[setup] building js/dist"
	@cd js && npm run --silent build
	@touch $@

# ------------------------------------------------------------------------------------ verify

.PHONY: test
test: setup interop-setup check test-js ## Everything that CI runs: checks, then all tests
	@echo "[test] all Python tests"
	@$(PYTEST) $(ARGS)

.PHONY: check
check: check-format check-lint check-imports check-types ## Format, lint, types, import rules (make -k check shows all faults)

.PHONY: check-format
check-format: $(VENV_STAMP)
	@echo "[check] format"
	@$(BIN)/ruff format --check --quiet $(LINTED) || { echo "Run: make format" >&2; exit 1; }

.PHONY: check-lint
check-lint: $(VENV_STAMP)
	@echo "[check] lint"
	@$(BIN)/ruff check --quiet $(LINTED)

.PHONY: check-imports
check-imports: $(VENV_STAMP)
	@echo "[check] import rules"
	@$(BIN)/python tests/house/import_rules.py

.PHONY: check-types
check-types: $(VENV_STAMP)
	@echo "[check] mypy --strict"
	@$(BIN)/mypy
	@echo "[check] basedpyright"
	@$(BIN)/basedpyright

.PHONY: format
format: $(VENV_STAMP) ## Format the code and apply safe fixes
	@$(BIN)/ruff check --quiet --fix-only $(LINTED)
	@$(BIN)/ruff format --quiet $(LINTED)

.PHONY: test-unit
test-unit: $(VENV_STAMP) ## Tests without sockets
	@$(PYTEST) tests/unit $(ARGS)

.PHONY: test-house
test-house: $(VENV_STAMP) ## Import rules, import cost, versions, wheels
	@$(PYTEST) tests/house $(ARGS)

.PHONY: wheels
wheels: $(VENV_STAMP) ## Build both distributions into dist/ and check what is in them
	@rm -rf dist
	@echo "[wheels] building into dist/"
	@$(BIN)/python -m build --no-isolation --outdir dist . > /dev/null
	@$(BIN)/python -m build --no-isolation --outdir dist server > /dev/null
	@ls -l dist
	@$(PYTEST) tests/house -m wheels $(ARGS)

.PHONY: test-transports
test-transports: $(VENV_STAMP) ## The conformance suite of the transports
	@$(PYTEST) tests/transports $(ARGS)

.PHONY: test-integration
test-integration: $(VENV_STAMP) ## Client and server over real sockets
	@$(PYTEST) tests/integration $(ARGS)

.PHONY: interop
interop: setup interop-setup ## Our client and server against the public ones
	@$(PYTEST) tests/interop $(ARGS)

.PHONY: interop-setup
interop-setup: $(PUBLIC_STAMP) $(PUBLIC_NODE_STAMP) ## Install the public packages into .venv-public (and tests/interop/.cache)

$(PUBLIC_NODE_STAMP): tests/interop/package.json tests/interop/package-lock.json
	@echo "[interop-setup] installing the public JavaScript client into $(@D)"
	@mkdir -p $(@D) && cp tests/interop/package.json $(@D) && cd $(@D) && cp ../../package-lock.json . \
		&& npm ci --silent --no-audit --no-fund && touch package-lock.json

$(PUBLIC_STAMP): constraints-public.txt | $(VENV_STAMP)
	@echo "[interop-setup] installing the public packages into $(PUBLIC)"
	@$(PYTHON) -m venv $(PUBLIC)
	@$(PUBLIC)/bin/python $(PIP) -c constraints-public.txt 'hypha[s3]' hypha-rpc sqlmodel PyNaCl
	@touch $@

.PHONY: pyodide
pyodide: $(VENV_STAMP) ## The SDK inside Pyodide, under Node
	@$(PYTEST) tests/pyodide $(ARGS)

.PHONY: test-js
test-js: $(JS_DIST) ## Types, lint and tests of js/
	@if [ -f js/package.json ]; then echo "[test] JavaScript"; cd js && npm run --silent check && npm test --silent; fi

.PHONY: bench
bench: setup interop-setup ## Measure against the public packages (ARGS=--quick)
	@$(BIN)/python bench/run.py $(ARGS)

.PHONY: faults
faults: setup interop-setup ## Break things under our pair and the public pair (ARGS=--quick, ARGS="--only server_restart")
	@$(BIN)/python -m tests.faults.run $(ARGS)

.PHONY: sim
sim: $(VENV_STAMP) ## Histories of a simulated world (HYPHA_HISTORIES=20000), a session cut after every byte (HYPHA_CUT_STRIDE=1)
	@HYPHA_HISTORIES=$${HYPHA_HISTORIES:-20000} $(BIN)/python -m tests.sim.run $(ARGS)
	@HYPHA_CUT_STRIDE=$${HYPHA_CUT_STRIDE:-1} $(BIN)/python -m tests.cut.run
	@HYPHA_CUT_STRIDE=$${HYPHA_CUT_STRIDE:-1} $(BIN)/python -m tests.cut.run --silent

# ------------------------------------------------------------------------------------ maintain

.PHONY: constraints
constraints: ## Resolve all dependencies anew into constraints*.txt (versions only)
	@PYTHON=$(PYTHON) bash .ci/constraints

.PHONY: hooks
hooks: $(VENV_STAMP) ## Run `make check` on changed files before every commit
	@$(BIN)/pre-commit install

.PHONY: clean
clean: ## Remove everything that the commands above made
	rm -rf $(VENV) $(PUBLIC) build dist wheels server/build server/dist js/node_modules js/dist
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/pyodide/.cache tests/pyodide/node_modules tests/interop/.cache
	find . -path ./.git -prune -o \( -name __pycache__ -o -name '*.egg-info' \) -type d -prune -exec rm -rf {} +
