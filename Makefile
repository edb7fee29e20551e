# What a person runs and what CI runs are the same. Everything stays in this folder, pip's cache aside.
#
#   make run      start the daemon on config/quickstart.toml
#   make test     everything that CI checks
#   make quick    the tests of the lower floors, without root or network, in under a minute
#   make bench    the benchmarks
#   make prefect  the small flows of the tests beside the real Prefect, in an environment of its own (some minutes)
#   make lint     formatter, linter, types, layers;  make fmt mends what can be mended
#   make docs     write docs/configuration.md anew, from the tables of the file's keys
#   make lock     write requirements*.lock anew (UPGRADE=1: to the newest versions);  make clean
#
# PYTHON=... names the Python to make the virtual environment with, WORKERS=... how many test processes run,
# ARGS=... is passed on to the daemon, pytest or the benchmarks.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test quick bench prefect lint fmt docs lock clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
WORKERS ?= auto
UV := uv==0.13.9

# With HOME empty, pip would take "./.cache" for a person's cache.
ifeq ($(strip $(HOME)),)
export XDG_CACHE_HOME ?= $(CURDIR)/$(VENV)/cache
endif
# Another project's environment must not show through.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

help:
	@sed -n 's/^#   //p' Makefile

# Stamps: each is newer than what it was made from, so nothing is installed twice.
$(VENV)/made:
	@python=$$(.ci/find-python $(PYTHON)) && echo "Making $(VENV) with $$python" && "$$python" -m venv $(VENV)
	@touch $@

# The project itself is built without isolation: its build backend is in the lock, so nothing unlocked is fetched.
define install
	@echo "Installing $(1)"
	@$(PIP) install --require-hashes --requirement $(1)
	@$(PIP) install --no-deps --no-build-isolation --editable .
endef

$(VENV)/installed: requirements.lock pyproject.toml | $(VENV)/made
	$(call install,requirements.lock)
	@touch $@

# A superset of the other lock, with the same versions.
$(VENV)/installed-dev: requirements.lock requirements-dev.lock pyproject.toml | $(VENV)/made
	$(call install,requirements-dev.lock)
	@touch $(VENV)/installed $@

run: $(VENV)/installed
	@exec $(BIN)/tidemill start config/quickstart.toml $(ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

# Each test is run once. Coverage is told of the floors that run no code in threads of their own: a traced CPython 3.11
# never comes back from a call while an exception set from outside waits for a thread that blocks (3.12 does).
COVERED := core config store telemetry services
COVERED_TESTS := $(COVERED:%=tests/%/)
OTHER_TESTS := $(filter-out $(COVERED_TESTS) %__pycache__/,$(wildcard tests/*/)) $(wildcard tests/test_*.py)

# Tests with real processes may run out of time on a busy machine: what fails is tried once more, alone. Its first failure
# stays in the output, to be looked into; a second one counts.
define pytest
	$(BIN)/pytest -n $(WORKERS) $(1) $(ARGS) $(2) || { echo "FAILED ABOVE, AND TRIED ONCE MORE, ALONE:" && \
		$(BIN)/pytest -v --last-failed --last-failed-no-failures none $(ARGS) $(2); }
endef

test: lint
	$(call pytest,--durations 10,$(OTHER_TESTS))
	$(call pytest,--durations 3 -m "slow or root",$(COVERED_TESTS))
	$(call pytest,-q -m "not slow and not root" --cov-branch --cov-report term $(COVERED:%=--cov tidemill.%),$(COVERED_TESTS))

# The floors up to the built-in flows; services and what stands on them take minutes.
QUICK_TESTS := $(addprefix tests/,core config store sdk telemetry flows) $(wildcard tests/test_*.py)

quick: $(VENV)/installed-dev
	$(BIN)/pytest -q -n $(WORKERS) -m "not slow and not thorough and not network and not root" $(ARGS) $(QUICK_TESTS)

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks $(ARGS)

$(VENV)/prefect: tests/sdk/tutorials/prefect_venv.py | $(VENV)/installed-dev
	$(BIN)/python tests/sdk/tutorials/prefect_venv.py $@

prefect: $(VENV)/prefect
	TIDEMILL_PREFECT_PYTHON=$(CURDIR)/$(VENV)/prefect/bin/python $(BIN)/pytest -q -n $(WORKERS) tests/sdk -k prefect $(ARGS)

fmt: $(VENV)/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# In two steps: a page that cannot be made leaves the old one.
docs: $(VENV)/installed-dev
	$(BIN)/python -m tidemill.config.reference > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md

# One lock for every Python from 3.11 on, without names of registries or folders.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)

lock: $(VENV)/made
	$(PIP) install $(UV)
	$(COMPILE) pyproject.toml --group build --output-file requirements.lock
	$(COMPILE) pyproject.toml --group dev --constraints requirements.lock --output-file requirements-dev.lock

clean:
	rm -rf $(VENV) build dist .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
