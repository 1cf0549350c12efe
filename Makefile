# Set up, run and test fedjax_compress. `make help` lists the targets.

PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test check types format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile
	@echo 'Variables: PYTHON=python3.12 (what builds .venv), ARGS="--rounds 10" (for run).'

run: $(STAMP) ## install into .venv if needed, then run the main job
	@echo "make: running fedjax-compress run $(ARGS)"
	@$(BIN)/fedjax-compress run $(ARGS)

test: check ## all checks, then the tests
	@echo "make: tests (pytest in $(WORKERS) processes; slow ones: $(BIN)/pytest -m slow)"
	@$(BIN)/python -m pytest -q -n $(WORKERS)

check: $(STAMP) ## format, lint and types, without the tests
	@echo "make: format (ruff format --check)"
	@$(BIN)/ruff format --check .
	@echo "make: lint (ruff check)"
	@$(BIN)/ruff check .
	@echo "make: types (mypy)"
	@$(BIN)/mypy

format: $(STAMP) ## write the format and the mechanical fixes of the linter
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## remove .venv and everything that tools left behind; runs/ stays
	@echo "make: removing $(VENV), build folders and caches (runs/ stays)"
	@rm -rf $(VENV) build dist ./*.egg-info .pytest_cache .ruff_cache .mypy_cache \
		.hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp inside .venv: installs again only when a version or an extra has changed.
$(STAMP): pyproject.toml constraints.txt
	@$(BIN)/python -c '' 2>/dev/null || $(MAKE) --no-print-directory venv
	@echo "make: installing the pinned versions of constraints.txt (minutes, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e ".[dev]"
	@touch $@

.PHONY: venv
venv:
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no $(PYTHON); \
	install Python 3.11 or newer, or name one: make PYTHON=python3.12 run" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: \
	Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1); \
	name another: make PYTHON=python3.12 run" >&2; exit 1; }
	@echo "make: creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV) || { echo "make: $(PYTHON) cannot create a \
	virtual environment; install its venv package (Debian, Ubuntu: python3-venv)" \
	>&2; exit 1; }
