# Everything there is to do in a checkout. A first `make` of any target builds the environment it needs in .venv.
#
#   make serve [DIRECTORY=data PORT=6379]   serve a directory over Redis's protocol
#   make test [TESTS=tests/engine]          the tests, or some of them
#   make check                              what a change must pass: format, lint, types, tests, tests under -O
#   make fuzz [SECONDS=60]                  protocol, payloads and arguments: each of the fuzzers for so long
#
# To use an environment of your own: `make test PYTHON=python`. It must hold `pip install -e '.[dev]'`.

VENV ?= .venv
DIRECTORY ?= data
PORT ?= 6379
TESTS ?= tests
# Processes that run the tests.
JOBS ?= 2
# How long each fuzzer goes on.
SECONDS ?= 60

ifeq ($(origin PYTHON), undefined)
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.lamina-installed
endif

.PHONY: help serve test check bench docs install lint format types test-optimized soak fuzz clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))
	@echo "also: install lint format types test-optimized soak bench docs clean"

install: $(INSTALLED)

# The stamp is renewed when pyproject.toml, and so perhaps a dependency, has changed.
$(VENV)/.lamina-installed: pyproject.toml
	@test -x $(VENV)/bin/pip || python3 -m venv $(VENV) || \
		{ echo "make: cannot create $(VENV); on Debian: apt install python3-venv" >&2; exit 1; }
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

serve: $(INSTALLED)
	@mkdir -p $(DIRECTORY)
	$(PYTHON) -m lamina.tools serve --port $(PORT) --dir $(DIRECTORY)

test: $(INSTALLED)
	$(PYTHON) -m pytest -n $(JOBS) $(TESTS)

check: lint types test test-optimized

lint: $(INSTALLED)
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

format: $(INSTALLED)
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

types: $(INSTALLED)
	$(PYTHON) -m mypy

# Asserts of the engine vanish under -O and nothing may depend on them; -bb refuses to compare bytes with str.
# pytest warns that asserts outside test modules are skipped: that is the point here. Hypothesis compares what it
# has drawn, bytes among it.
test-optimized: $(INSTALLED)
	PYTHONOPTIMIZE=1 $(PYTHON) -bb -m pytest -p no:cacheprovider tests/engine \
		-W 'ignore:assertions not in test modules or plugins will be ignored' \
		-W 'ignore::BytesWarning:hypothesis.internal.cache'

soak: $(INSTALLED)
	$(PYTHON) -m pytest -m slow --timeout 7200 -n $(JOBS) $(TESTS)

fuzz: $(INSTALLED)
	LAMINA_FUZZ_SECONDS=$(SECONDS) $(PYTHON) -m pytest -m fuzz -n $(JOBS) tests/fuzz

bench: $(INSTALLED)
	$(PYTHON) benchmarks/embedded.py
	$(PYTHON) benchmarks/load.py
	$(PYTHON) benchmarks/server.py

docs: $(INSTALLED)
	$(PYTHON) benchmarks/plot.py
	$(PYTHON) -m lamina.server.commandpage docs/commands.md
	$(PYTHON) -m lamina.server.configurationpage docs/configuration.md
	$(PYTHON) -m lamina.tools.toolspage docs/tools.md

# Leaves databases alone: `data` is yours.
clean:
	rm -rf .venv build dist lamina.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find engine server tools tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
