# agentd: everything a checkout can do. `make help` lists it.
#
# `make demo` and `make test` install what they need on a fresh Debian 12 or 13 machine (as root or
# through sudo), once. Afterwards they work offline.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# A bare container has no locale, no HOME and no terminal; none of it may matter.
export LC_ALL := C.UTF-8
export PIP_ROOT_USER_ACTION := ignore

PY := .venv/bin/python
# What is linted and typed; folders that a checkout does not have are left out.
SOURCES := $(wildcard agentd live_emulator rig tests benchmarks scripts)
TYPED := $(wildcard agentd live_emulator rig tests benchmarks) $(wildcard scripts/*.py)
PYTEST_ARGS ?=

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup setup-runtime
setup: ## install everything that development needs
	@scripts/setup dev
setup-runtime:
	@scripts/setup runtime

.PHONY: demo
demo: setup-runtime ## a conversation with a local Live API server: no key, no sound card, no account
	.venv/bin/agentd demo

.PHONY: test
test: setup ## lint, types, tests and coverage of the pure core
	@$(MAKE) lint typecheck
	@$(MAKE) pytest PYTEST_ARGS="--cov --cov-report= $(PYTEST_ARGS)"
	@$(MAKE) coverage-core

.PHONY: lint
lint: setup ## ruff: rules and format
	$(PY) -m ruff check $(SOURCES)
	$(PY) -m ruff format --check $(SOURCES)

.PHONY: format
format: setup ## let ruff fix what it can
	$(PY) -m ruff check --fix $(SOURCES)
	$(PY) -m ruff format $(SOURCES)

.PHONY: typecheck
typecheck: setup ## mypy --strict
	$(PY) -m mypy --strict $(TYPED)

# Most of the minutes are sound in real time, which waits more than it works: three files at once keep
# two cores busy. Each has a sound server of its own, and no test asserts on time. When one of the
# three dies, the run ends: pytest-xdist replaces it and may then wait for ever.
WORKERS ?= 3
.PHONY: pytest
pytest: setup ## tests alone; PYTEST_ARGS="-k gate -x" WORKERS=0
	$(PY) -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart=0 $(PYTEST_ARGS) </dev/null

.PHONY: coverage
coverage: setup ## tests, then coverage of everything, also as htmlcov/
	@$(MAKE) pytest PYTEST_ARGS="--cov --cov-report=term --cov-report=html $(PYTEST_ARGS)"
	@$(MAKE) coverage-core

.PHONY: coverage-core
coverage-core: setup
	$(PY) scripts/coverage_core.py

.PHONY: bench
bench: setup ## measure against the field (docs/developer/performance.md)
	$(PY) -m benchmarks $(BENCH_ARGS)

.PHONY: soak
soak: setup ## hours of conversation under faults; SOAK_ARGS="--hours 8"
	$(PY) -m benchmarks.soak $(SOAK_ARGS)

.PHONY: continuity
continuity: setup ## every fault of a connection, at length, with a table of what it cost
	AGENTD_CONTINUITY=full $(PY) -m pytest tests/continuity $(PYTEST_ARGS) </dev/null

# The same cases again: SEED=…. A part of it with seeds that never change runs in `make test`.
SECONDS ?= 600
.PHONY: attack attack-guided attack-stops
attack: setup ## hostile services, files, sockets and machines, for so long; SECONDS=600 SEED=1 ATTACK_ARGS="--list"
	$(PY) -m tests.attack --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ATTACK_ARGS)

attack-stops: setup ## how long the heaviest frames stop everything, in instructions; needs valgrind
	$(PY) -m tests.attack.stops docs/measured/stops.md

# atheris is no dependency of anything: an environment of its own, beside what the tests have.
GUIDED := .cache/attack
attack-guided: setup ## coverage-guided (atheris); MODE=frames SECONDS=600, see tests/attack/guided.py
	@[ -x $(GUIDED)/bin/python ] || $(PY) -m venv $(GUIDED)
	@$(GUIDED)/bin/python -c 'import atheris' 2>/dev/null || \
		$(GUIDED)/bin/pip install -q -r requirements/attack.txt
	PYTHONPATH="$(CURDIR):$$($(PY) -c 'import sys; print(":".join(p for p in sys.path if "packages" in p))')" \
		nice -n 19 $(GUIDED)/bin/python -m tests.attack.guided $(MODE) -max_total_time=$(SECONDS)

.PHONY: test-clients
test-clients: setup ## other people's Live clients, from PyPI and npm, on the emulator; CLIENTS="2.19 @google"
	$(PY) -m tests.clients $(if $(RECORDINGS),--recordings $(RECORDINGS),$(CLIENTS))

# The oldest SDK that pyproject.toml allows, put before the one of the environment.
FLOOR := .cache/floor
.PHONY: test-floor
test-floor: setup ## the session's tests with the oldest google-genai that is allowed
	oldest=$$($(PY) -c 'import re; print(re.search(r"google-genai>=([0-9.]+)", open("pyproject.toml").read())[1])'); \
	$(PY) -m pip install -q --no-deps --upgrade --target $(FLOOR) "google-genai==$$oldest.*,<=$$oldest.99"; \
	export PYTHONPATH=$(FLOOR); $(PY) -c "import google.genai as g; print('google-genai', g.__version__); assert g.__version__.startswith('$$oldest.')"; \
	$(PY) -m pytest -n $(WORKERS) --dist loadfile $(or $(PYTEST_ARGS),tests/live) </dev/null

.PHONY: acoustic
acoustic: setup ## echo, on the sound rig with a room between speaker and microphone, and in 24 rooms
	AGENTD_ACOUSTIC=1 $(PY) -m pytest tests/e2e/test_echo.py $(PYTEST_ARGS) </dev/null
	AGENTD_ACOUSTIC=1 $(PY) -m pytest -n 2 tests/audio/test_acoustics.py $(PYTEST_ARGS) </dev/null

.PHONY: docs
docs: setup ## write anew what comes from the source: configuration, event table, picture of the lights
	.venv/bin/agentd config schema --format markdown > docs/operator/configuration.md
	.venv/bin/agentd config schema --format toml > config/agentd.toml
	$(PY) scripts/events_table.py
	$(PY) scripts/causes_table.py
	$(PY) scripts/plot_patterns.py

.PHONY: picture
picture: setup ## run the demo and write what its terminal showed as the picture in README.md
	$(PY) scripts/picture_of_demo.py

.PHONY: test-fresh
test-fresh: ## as a stranger would, in a new Debian root: clone, test, demo; SUITES=…; EACH=1: every command alone
	scripts/fresh-root $(if $(EACH),--each) $(SUITES)

# uv resolves for every Python and architecture at once. What Debian provides is left out: a lock is
# installed without dependencies into an environment that sees Debian's packages.
UV := .cache/uv/bin/uv
FROM_DEBIAN := pyaudio cryptography cffi pycparser gpiozero colorzero
COMPILE = $(UV) pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" \
	$(foreach p,$(FROM_DEBIAN),--no-emit-package $(p))
.PHONY: lock
lock: ## resolve requirements/*.lock anew; LOCK_ARGS="--upgrade" to move forward
	@[ -x $(UV) ] || { /usr/bin/python3 -m venv .cache/uv && .cache/uv/bin/pip install -q uv; }
	$(COMPILE) $(LOCK_ARGS) --extra build --extra demo --extra gpio -o requirements/runtime.lock
	$(COMPILE) $(LOCK_ARGS) --extra dev -c requirements/runtime.lock -o requirements/dev.lock

-include packaging/package.mk packaging/machine.mk

.PHONY: clean
clean: ## remove caches and results; the environment and the roots stay
	rm -rf build dist htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf *.egg-info
	find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## remove the environment as well
	rm -rf .venv .cache
