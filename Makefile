# From nothing but Python 3.11+ and make: every target sets up its own .venv first. `make help` lists them.
# ARGS goes to what the target starts:  make test ARGS="-k cursor -x"   make run ARGS="--once"

PYTHON ?= python3
ARGS ?=
# Each worker takes tests from the others when it has none left. PARALLEL= runs them one by one.
PARALLEL ?= -n auto --dist worksteal
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Wheels only: nobody should need a C compiler, and hashes pin exactly what was tested.
INSTALL := $(PIP) install --require-hashes --only-binary :all: -r
SOURCES = $(shell find agent -name __pycache__ -prune -o -type f -print)

.DEFAULT_GOAL := help
.PHONY: help run test quick lint types bench reliability mutants soak e2e wheel lock service-files clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' Makefile

run: $(VENV)/.runtime ## the agent with a receiver beside it, on this machine's transcripts
	@$(BIN)/python -m agent try $(ARGS)

test: $(VENV)/.dev ## every test, on all processors
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

# What failed last comes first, the first failure ends it, and chance draws little.
QUICK := tests/core tests/providers tests/scanner tests/daemon tests/test_layers.py tests/test_docs.py
quick: $(VENV)/.dev ## the inner loop: style, types, and the tests of what is decided
	@$(BIN)/python -m ruff check
	@$(BIN)/python -m mypy
	@$(BIN)/python -m pytest $(PARALLEL) -q -x --ff --hypothesis-profile=quick $(QUICK) $(ARGS)

lint: $(VENV)/.dev ## style, format and types
	@$(BIN)/python -m ruff check
	@$(BIN)/python -m ruff format --check
	@$(BIN)/python -m mypy

types: $(VENV)/.dev ## types only
	@$(BIN)/python -m mypy $(ARGS)

bench: $(VENV)/.dev ## the yardsticks
	@$(BIN)/python -m tests.bench $(ARGS)

reliability: $(VENV)/.dev ## the attacks on the promises, and docs/reliability.md anew
	@results=$$(mktemp) && trap 'rm -f "$$results"' EXIT && \
	TRANSCRIPTD_SEEDS=$${TRANSCRIPTD_SEEDS:-10000} TRANSCRIPTD_RELIABILITY="$$results" $(BIN)/python -m pytest tests/simulation tests/faults tests/receiver tests/contracts tests/daemon tests/core/test_redaction.py tests/e2e/test_network.py tests/e2e/test_clock.py $(ARGS) && \
	$(BIN)/python -m tests.reliability "$$results"

soak: $(VENV)/.dev ## a million stories in virtual time; stops at the first that ends badly. ARGS="COUNT FIRST"
	@$(BIN)/python -m tests.simulation soak $(ARGS)

mutants: $(VENV)/.dev ## whether the tests notice when a promise is taken out of the code
	@$(BIN)/python -m pytest tests/mutants $(PARALLEL) $(ARGS)

e2e: wheel ## the built wheel and real processes
	@$(BIN)/python -m pytest -m e2e $(ARGS)

wheel: dist/.built ## dist/transcriptd-*.whl

# The pins of the last run are kept where they still fit; `make lock ARGS=--upgrade` takes the newest.
lock: ## packaging/requirements*.txt anew from pyproject.toml
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && \
	$(PYTHON) -m venv "$$tools" && "$$tools/bin/python" -m pip --disable-pip-version-check -q install uv && \
	compile="$$tools/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --no-build \
	  --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links $(ARGS)" && \
	$$compile -o packaging/requirements.txt && \
	$$compile --all-extras -c packaging/requirements.txt -o packaging/requirements-dev.txt

service-files: $(VENV)/.runtime ## service-files/ anew, from what the code renders
	@$(BIN)/python -m agent.services

clean: ## back to a fresh clone
	@rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- what the targets stand on: files that say when a step was done last ----

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "transcriptd needs Python 3.11 or newer; '$(PYTHON)' is" \
	    "$$($(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null || echo missing). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu:" \
	    "sudo apt install python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV), once ..." >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.made packaging/requirements.txt
	@$(INSTALL) packaging/requirements.txt
	@touch $@

# The development pins hold the runtime ones, so whoever has these needs no second round for `run`.
$(VENV)/.pinned: $(VENV)/.made packaging/requirements.txt packaging/requirements-dev.txt
	@$(INSTALL) packaging/requirements-dev.txt
	@touch $@ $(VENV)/.runtime

$(VENV)/.dev: $(VENV)/.pinned pyproject.toml agent/__init__.py
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

dist/.built: $(VENV)/.dev pyproject.toml $(SOURCES)
	@rm -rf dist && mkdir dist
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist . >dist/build.log 2>&1 || { cat dist/build.log >&2; exit 1; }
	@rm dist/build.log && touch $@
