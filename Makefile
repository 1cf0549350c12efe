# Set up, run and test fedjax_compress. `make help` lists the targets.

PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
NEWEST ?= $(shell for v in 3.14 3.13 3.12; do for p in python$$v \
	$(HOME)/.pyenv/versions/$$v.*/bin/python; do \
	$$p -c 'import venv' 2>/dev/null && echo $$p && exit; done; done)
VENV := .venv
PY := $(VENV)/bin/python
PYTEST := $(PY) -m pytest -q -n $(WORKERS)
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test smoke slow newest check format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile
	@echo 'Variables: PYTHON=python3.12 (what builds .venv), ARGS="--rounds 10" (for run).'

run: $(STAMP) ## install into .venv if needed, then run the main job
	@echo "make: running fedjax-compress run $(ARGS)"
	@$(PY) -m fedjax_compress run $(ARGS)

test: check ## all checks, then all fast tests
	@echo "make: tests (pytest in $(WORKERS) processes; what takes minutes: make slow)"
	@$(PYTEST)

smoke: $(STAMP) ## a first look in two minutes: one test of each kind
	@$(PYTEST) -m "smoke and not slow"

slow: $(STAMP) ## the tests that take minutes
	@$(PYTEST) -m slow

newest: ## the smoke tests with the newest Python found and newest versions
	@test -n "$(NEWEST)" || { echo "make: there is no Python 3.12 or newer; \
	name one: make NEWEST=/path/to/python newest" >&2; exit 1; }
	@echo "make: newest versions for $$($(NEWEST) --version) into $(VENV)-newest"
	@$(NEWEST) -m venv --clear $(VENV)-newest
	@$(VENV)-newest/bin/python -m pip install --quiet --disable-pip-version-check \
		-e ".[dev]"
	@$(VENV)-newest/bin/python -m pip list --disable-pip-version-check | \
		grep -E '^(jax|jaxlib|flax|optax|numpy|orbax-checkpoint) '
	@$(subst $(VENV)/,$(VENV)-newest/,$(PYTEST)) -m "smoke and not slow"

check: $(STAMP) ## format, lint and types, without the tests
	@echo "make: format (ruff format --check)"
	@$(PY) -m ruff format --check .
	@echo "make: lint (ruff check)"
	@$(PY) -m ruff check .
	@echo "make: types (mypy)"
	@$(PY) -m mypy

format: $(STAMP) ## write the format and the mechanical fixes of the linter
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

clean: ## remove .venv and everything that tools left behind; runs/ stays
	@echo "make: removing $(VENV), build folders and caches (runs/ stays)"
	@rm -rf $(VENV) $(VENV)-newest build dist ./*.egg-info .pytest_cache .ruff_cache .mypy_cache \
		.hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp holds the folder it was made for: installs again when a version or an extra
# has changed, or when the whole folder has been moved or copied.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif
$(STAMP): pyproject.toml constraints.txt
	@$(PY) -c '' 2>/dev/null || $(MAKE) --no-print-directory venv
	@echo "make: installing the pinned versions of constraints.txt (minutes, once)"
	@$(PY) -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e ".[dev]"
	@echo "$(CURDIR)" > $@

.PHONY: venv
venv:
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no $(PYTHON); \
	install Python 3.11 or newer, or name one: make PYTHON=python3.12 run" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "make: \
	Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1); \
	name another: make PYTHON=python3.12 run" >&2; exit 1; }
	@echo "make: creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV) || { echo "make: $(PYTHON) cannot create a \
	virtual environment; install its venv package (Debian, Ubuntu: python3-venv)" \
	>&2; exit 1; }
