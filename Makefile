# Two commands do everything on a machine with Python 3.11 or newer, make and git:
#   make demo    simulate a dataset, analyse it, print where the report is
#   make test    run every test that needs only Python
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
# The first interpreter on the PATH that is new enough and can make environments.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
DEMO := demo
PEERS := benchmarks/scratch/peers

.PHONY: help env dev-env demo test coverage test-browser test-container test-cluster test-slow fuzz lint format bench oracles \
	validate mutants lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

env: $(VENV)/.runtime  ## Make .venv from requirements.lock

dev-env: $(VENV)/.dev

# uv installs in seconds; where it cannot be had, or does not reach the index that pip is set up for, pip does the same.
define install
	@echo "installing $(1) into $(VENV)"
	@$(VENV)/bin/uv pip install -q --compile-bytecode --python $(PY) --require-hashes -r $(1) 2>$(VENV)/uv.log \
		|| $(PY) -m pip install -q --disable-pip-version-check --require-hashes -r $(1)
endef

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer with venv and ensurepip on the PATH (Debian: apt-get install python3-venv); or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements-uv.lock || echo "uv is not available here; pip will do"
	@touch $@

$(VENV)/.runtime: requirements.lock $(VENV)/.made
	$(call install,requirements.lock)
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	$(call install,requirements-dev.lock)
	@touch $@

demo: env  ## Simulate the demo dataset, run the app on it, print where the report is
	@$(PY) -m examples.simulate_faces $(DEMO)
	@$(PY) run.py $(DEMO) $(DEMO)/derivatives/bids_group group --model examples/faces_smdl.json

test: dev-env  ## Run every test that needs only Python
	@$(PY) -m pytest -n 2 --dist worksteal

# Tests of compiled loops, which are not measured where they are compiled; once more as Python, whose whole numbers warn
# where they wrap around.
KERNEL_TESTS := $(addprefix tests/unit/test_,cluster_maxima.py tfce.py laws.py)

coverage: dev-env  ## Which lines and branches the tests of `make test` reach; the table, and pages in coverage_report
	@rm -rf coverage_report
	@$(PY) -m pytest -n 2 --dist worksteal --cov --cov-report=
	@NUMBA_DISABLE_JIT=1 $(PY) -m pytest -o filterwarnings= --disable-warnings $(KERNEL_TESTS) --cov --cov-append --cov-report=
	@for format in html xml report; do $(VENV)/bin/coverage $$format || exit; done

test-slow: dev-env  ## Kill, stop and starve runs at more moments than `make test` does (some of it as root only)
	@FAULT_MOMENTS=30 $(PY) -m pytest tests/faults

test-browser: $(VENV)/.browser  ## Test the report in Chromium (Debian: apt-get install chromium)
	@$(PY) -m pytest tests/browser

$(VENV)/.browser: requirements-browser.lock $(VENV)/.dev
	$(call install,requirements-browser.lock)
	@touch $@

test-container: $(VENV)/.container  ## Build the image, test it with Docker and Apptainer (as root; Debian: see .ci/run)
	@$(PY) -m pytest tests/container

$(VENV)/.container: requirements-container.lock $(VENV)/.dev
	$(call install,requirements-container.lock)
	@touch $@

test-cluster: $(VENV)/.cluster  ## Test Dask and a real Slurm of two nodes (Debian: apt-get install slurm-wlm munge)
	@$(PY) -m pytest tests/cluster

$(VENV)/.cluster: requirements-cluster.lock $(VENV)/.dev
	$(call install,requirements-cluster.lock)
	@touch $@

# Processor seconds for each reader of files, and examples of each law.
FUZZ_SECONDS ?= 60
FUZZ_EXAMPLES ?= 500

fuzz: dev-env  ## Hand thousands of unsound files to every reader, and random specs, datasets, designs and maps; minutes
	@$(PY) -m tests.hostile.fuzz --seconds $(FUZZ_SECONDS)
	@FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(PY) -m pytest tests/hostile/test_random_*.py

lint: dev-env  ## ruff, mypy, hadolint
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/hadolint Dockerfile

format: dev-env  ## Let ruff format the code
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

bench: dev-env $(PEERS)/.made  ## Time and memory of the demo and of permutation, and of the peers on the same maps
	@$(PY) -m benchmarks.run
	@$(PY) -m benchmarks.permutation

$(PEERS)/.made: benchmarks/requirements-peers.lock $(VENV)/.dev
	@mkdir -p benchmarks/scratch && $(PY) -m venv --without-pip --clear $(PEERS)
	@$(VENV)/bin/uv pip install -q --compile-bytecode --python $(PEERS)/bin/python --require-hashes -r $<
	@touch $@

oracles: dev-env  ## Compare with other programs, in one table
	@$(PY) -m validation.oracles

validate: dev-env  ## Error rates and power on simulated maps, and on real ones (REAL_DATA="DIR ..."); hours, goes on
	@$(PY) -m validation.rates
	@$(PY) -m validation.alarms
	@$(PY) -m validation.power
	@$(if $(REAL_DATA),$(PY) -m validation.real_nulls $(REAL_DATA))
	@$(PY) -m validation.report
	@$(PY) -m validation.nuisance
	@$(PY) -m validation.tails

mutants: $(VENV)/.mutation  ## Change 300 places of the code, one at a time: do the tests notice? An hour or two, goes on
	@$(PY) -m validation.mutants

$(VENV)/.mutation: requirements-mutation.lock $(VENV)/.dev
	$(call install,requirements-mutation.lock)
	@touch $@

COMPILE = $(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock"

lock: $(VENV)/.made  ## Compile the lock files (add UPGRADE=--upgrade for newer versions)
	@echo 'uv' | $(COMPILE) $(UPGRADE) -o requirements-uv.lock -
	@$(COMPILE) $(UPGRADE) -o requirements.lock pyproject.toml
	@$(COMPILE) $(UPGRADE) -c requirements.lock --group dev -o requirements-dev.lock
	@$(COMPILE) $(UPGRADE) -c requirements.lock -c requirements-dev.lock --group browser -o requirements-browser.lock
	@$(COMPILE) $(UPGRADE) -c requirements.lock -c requirements-dev.lock --group container -o requirements-container.lock
	@$(COMPILE) $(UPGRADE) -c requirements.lock -c requirements-dev.lock --group mutation -o requirements-mutation.lock
	@$(COMPILE) $(UPGRADE) -c requirements.lock --extra cluster -o requirements-cluster.lock pyproject.toml
	@$(COMPILE) $(UPGRADE) -c requirements.lock -o benchmarks/requirements-peers.lock benchmarks/requirements-peers.in

clean:  ## Remove the environment, the demo and caches
	rm -rf $(VENV) $(DEMO) benchmarks/scratch coverage_report .pytest_cache .mypy_cache .ruff_cache .hypothesis
