# Every target works on a fresh clone with Python 3.11+ and make; the virtual environment is built once.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
ARGS ?=
PYTEST_ARGS ?= --numprocesses auto --maxprocesses 4 --dist loadgroup

.PHONY: help session test bench lint types clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## (.*)/  make \1|\2/' | awk -F'|' '{printf "%-16s%s\n", $$1, $$2}'

session: $(VENV)/installed ## run a supervised session offline, about 3 minutes (options: ARGS="--seed 1 --twin")
	$(VENV)/bin/python run.py session $(ARGS)

# Rewriting the assertions of the tests takes seconds in every process: they are kept as bytecode.
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/installed-dev ## run the tests, 2 to 3 minutes on two cores (CI=true adds the slow ones; options: ROOM=ledger PYTEST_ARGS="-k gate")
	$(VENV)/bin/python -m pytest -q $(PYTEST_ARGS) $(if $(ROOM),tests/$(ROOM))

bench: $(VENV)/installed-dev ## run every measurement of bench/, several hours (most of it gate, branch_length and learning)
	@for file in bench/[a-z]*.py bench/ledger bench/reading bench/hardening bench/example; do echo "== $$file"; $(VENV)/bin/python -m bench.$$(basename $$file .py) || exit 1; done

lint: $(VENV)/installed-dev types ## check types, style and format
	$(VENV)/bin/python -m ruff check . && $(VENV)/bin/python -m ruff format --check .

# mypy follows folders, so the import name needs one: a link to here.
types: $(VENV)/installed-dev
	@mkdir -p .mypy_cache/names && ln -sfn ../.. .mypy_cache/names/learning_signal
	$(VENV)/bin/python -m mypy

clean: ## remove the virtual environment and caches (runs/ is kept: it holds your sessions)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The target is pip: a virtual environment that broke off half-way has python, but no pip, and is made again.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "error: $(PYTHON) is Python %d.%d, expected 3.11 or newer: install one and run make PYTHON=python3.11 ..." % v[:2])'
	@case "$$(uname -sm)" in "Darwin x86_64") \
		echo "error: Found a Mac with an Intel processor, expected Apple silicon or Linux: torch 2.4, which this needs, does not exist for Intel Macs." >&2; exit 1;; esac
	$(PYTHON) -m venv --clear $(VENV)

# torch goes first and pinned: "torch==2.13.0" takes a CPU build (2.13.0+cpu) where an index or a wheel folder offers
# one (PIP_EXTRA_INDEX_URL), while an unpinned torch on Linux brings several GB of CUDA.
# The stamps are newer than what they were installed from, so a second call installs nothing.
$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable '.[dev]'
	@touch $@
