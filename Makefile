# Everything that is done to this repository by hand is one of these targets; `make` alone lists them.
# They need a Debian 12 (or any other Linux) with make and python3, and work without an index once set up.
#
#   PYTHON   the interpreter, 3.11 to 3.13; each version has a virtual environment of its own
#   ARGS     further arguments for the daemon (run) or for pytest (test, check, soak)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
# Tests start more than a hundred daemons, each of which would compile itself anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
ARGS ?=
CONFIG ?= config/econeura.toml
PREFIX ?= /opt/econeura-daemon

VERSION := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(VERSION))
BIN := $(VENV)/bin
SOURCES := econeura_daemon tests benchmarks
# A worker for each processor, and no more than four: each has a PostgreSQL of its own. ARGS=-n0 runs all in one process.
PARALLEL := -n auto --maxprocesses 4 --dist worksteal

# Wheels only: a bare Debian has no compiler, and a wheel that is missing is better said than compiled.
INSTALL := -m pip install --quiet --disable-pip-version-check --no-input
LOCKED := --only-binary :all: --require-hashes -r
PROJECT := --no-deps --no-build-isolation

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):.* ## (.*)/\1|\2/p' Makefile | while IFS='|' read -r name does; do printf '  make %-9s %s\n' "$$name" "$$does"; done

.PHONY: run
run: $(VENV)/.run ## start the daemon with config/econeura.toml and a store in your state directory
	@exec $(BIN)/econeura-daemon serve --config $(CONFIG) $(ARGS)

.PHONY: demo
demo: $(VENV)/.run ## show the four workflows happening: a daemon, two workers services, a receiver (ARGS=1: the first)
	@exec $(BIN)/python -m benchmarks.demo $(ARGS)

.PHONY: test
test: $(VENV)/.dev test-packages lint types layers ## run everything, with coverage of subprocesses too
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(PARALLEL) $(ARGS) 2>&1 | tee .coverage-pytest.log
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report
	@tail -n 1 .coverage-pytest.log  # the count of tests closes the run, below the table

.PHONY: check
check: $(VENV)/.dev lint types layers ## the fast part of it: no PostgreSQL, no real processes, under two minutes
	@$(BIN)/pytest -q $(PARALLEL) -m "not slow and not postgres" --ignore=tests/system $(ARGS)

.PHONY: soak
soak: $(VENV)/.dev test-packages ## the same tests with their long counts: hours of kills, many more examples
	@$(BIN)/pytest --soak --timeout=0 $(ARGS)

.PHONY: bench
bench: $(VENV)/.dev ## measure against the programs one would otherwise write
	@$(BIN)/python -m benchmarks.webhooks $(ARGS)

.PHONY: fmt
fmt: $(VENV)/.dev ## format, and mend what can be mended
	@$(BIN)/ruff check --quiet --fix-only $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

.PHONY: lint
lint: $(VENV)/.dev ## format and rules
	@$(BIN)/ruff format --check $(SOURCES) || { echo "Not formatted: make fmt" >&2; exit 1; }
	@$(BIN)/ruff check $(SOURCES)

.PHONY: types
types: $(VENV)/.dev ## mypy, strict
	@$(BIN)/mypy

.PHONY: layers
layers: $(VENV)/.dev ## a package imports only what stands below it
	@$(BIN)/lint-imports

.PHONY: lock
lock: .venv-lock/bin/uv ## resolve the dependencies anew into requirements*.lock (ARGS=--upgrade for newer ones)
	@$(LOCK) --extra postgres --extra worker --output-file requirements.lock pyproject.toml - <<< '$(BUILD)'
	@$(LOCK) --all-extras --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml - <<< '$(BUILD)'

# One pin a package for every supported Python (`fewest`), every platform's hashes, no address of an index.
LOCK = .venv-lock/bin/uv pip compile --quiet --no-config --universal --fork-strategy fewest --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --custom-compile-command 'make lock' $(ARGS)
BUILD := setuptools>=77

.venv-lock/bin/uv:
	@"$(PYTHON)" -m venv .venv-lock
	@.venv-lock/bin/python $(INSTALL) 'uv==0.13.9'

.PHONY: install
install: ## as root: install below /opt/econeura-daemon, with the systemd units; see docs/operating.md
	$(need-venv)
	@"$(PYTHON)" -m venv --clear '$(PREFIX)'
	@'$(PREFIX)'/bin/python $(INSTALL) $(LOCKED) requirements.lock
	@rm -rf build  # setuptools would install what an earlier version left there
	@'$(PREFIX)'/bin/python $(INSTALL) $(PROJECT) .
	@rm -rf build
	@install -d /etc/econeura
	@for name in econeura.toml econeura.env; do \
		[ -e /etc/econeura/$$name ] || install -m 0644 config/$$name /etc/econeura/$$name; done
	@install -m 0644 -t /etc/systemd/system systemd/econeura-daemon.service \
		systemd/econeura-daemon.socket systemd/econeura-worker.service
	@ln -sf '$(PREFIX)/bin/econeura-daemon' /usr/local/bin/econeura-daemon

.PHONY: clean
clean: ## remove the virtual environments and everything that tools left
	@rm -rf .venv .venv-* build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* htmlcov
	@find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are touched last, so an interrupted set-up is begun anew; a changed lock starts from an empty environment.
$(VENV)/.run: requirements.lock pyproject.toml
	$(need-venv)
	@echo "Setting up $(VENV), once ..."
	@"$(PYTHON)" -m venv --clear $(VENV)
	@$(BIN)/python $(INSTALL) $(LOCKED) requirements.lock
	@$(BIN)/python $(INSTALL) $(PROJECT) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@echo "Adding what tests and tools need to $(VENV), once ..."
	@$(BIN)/python $(INSTALL) $(LOCKED) requirements-dev.lock
	@touch $@

.PHONY: test-packages
test-packages:
	$(call need,ls /usr/lib/postgresql/*/bin/initdb && command -v systemd-analyze && command -v curl,curl postgresql systemd)
	$(call need,"$(PYTHON)" tests/support/cpython_mails.py,libpython$(VERSION)-testsuite)

# $(call need,a test,packages): install Debian packages if the test fails and we may, else say the one command.
define need
@if ! { $(1); } > /dev/null 2>&1; then \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "Installing $(2) ..."; \
		{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
			-o DPkg::Lock::Timeout=120 install $(2); } < /dev/null > /dev/null; \
	else \
		printf 'This needs the Debian packages: %s. Type this, then make again:\n\n  sudo apt-get update && sudo apt-get install -y %s\n\n' \
			"$(2)" "$(2)" >&2; exit 1; \
	fi; fi
endef

define need-venv
@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null \
	|| { echo "This needs Python 3.11 or later; choose one: make PYTHON=python3.13 ..." >&2; exit 1; }
$(call need,"$(PYTHON)" -c 'import ensurepip$(comma) venv',python$(VERSION)-venv)
endef
comma := ,
