# The project's chores, one command each. `make` alone lists them.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
INPUTS := setup.py pyproject.toml constraints.txt mrs/_version.py $(wildcard kernels/*.c)

.DEFAULT_GOAL := help
.PHONY: help install demo test quick check bench report gpu clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## make .venv and install the project and its tools (PYTHON=python3.12 picks another Python)

# stop = print an error and a hint, and end the recipe with a failure.
stop = { printf 'error: %s\nhint: %s\n' "$(1)" "$(2)" >&2; exit 1; }

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || \
		$(call stop,$(PYTHON) was not found,install Python 3.11 or newer or name one: make install PYTHON=/path/to/python3)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		$(call stop,Python 3.11 or newer is needed and $(PYTHON) is $$($(PYTHON) --version 2>&1),name a newer one: make install PYTHON=python3.12)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		$(call stop,$(PYTHON) cannot make virtual environments,install its venv module; on Debian and Ubuntu: apt install python3-venv)
	@$(PYTHON) -m venv .venv

$(STAMP): $(INPUTS) | $(BIN)/pip
	@echo "installing into .venv; the first time this takes some minutes"
	@# torch for CUDA insists on a triton of its own (torch for CPUs on none), so pip must not see another pin beside it.
	@sed '/^triton==/d' constraints.txt > .venv/constraints.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-input -c .venv/constraints.txt -e '.[dev]'
	@# The kernels for GPUs are tested on CPUs as well. There are wheels for Linux only, elsewhere these tests are skipped.
	@[ "$$(uname)" != Linux ] || $(BIN)/python -c 'import triton' 2>/dev/null || \
		$(BIN)/python -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt triton
	@# It asks for a torchvision, which on PyPI is one for CUDA alone; what is used of it needs none.
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-input --no-deps -c constraints.txt piq
	@touch $@

demo: $(STAMP) ## degrade a photograph with rain, restore it with the weights that ship, print the figures
	@$(BIN)/python -m mrs.demo --output demo

# Two at a time: each process loads torch and OpenVINO, and most tests keep one core busy.
JOBS ?= 2
# What Python compiles of the tests is kept for the next run even where it is told to keep nothing: that is ten seconds.
test: $(STAMP) ## run the tests that need no GPU (JOBS=8 runs as many at a time)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest tests -m 'not gpu' -n $(JOBS)

quick: $(STAMP) ## the same without whole builds, compiled kernels and doubles that build, in under three minutes on two cores
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest tests -m 'not gpu and not slow' -n $(JOBS) --quiet

check: $(STAMP) ## run the linter, the formatter's check, the type checker and the import-direction test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest --quiet tests/test_layers.py

bench: $(STAMP) ## measure in 20 minutes and write the tables of README and docs; the machine should do nothing else
	@$(BIN)/python -m pytest benchmarks --quiet --rows benchmarks/results/cpu.jsonl
	@$(BIN)/python -m benchmarks.plans
	@$(BIN)/python -m benchmarks.tables

report: $(STAMP) ## write docs/report.html from what was measured
	@$(BIN)/mrs-trt report benchmarks/results/*.json -o docs/report.html --overwrite

# Needs nothing of .venv: on a machine with a GPU the Python that has torch for CUDA will do, without an install.
GPU_PYTHON ?= $(PYTHON)
gpu: ## time and test restores and kernels on an NVIDIA GPU in 8 minutes (PARTS=tests runs one part, OPTIONS=--skip-measured goes on, GPU_PYTHON=python3.12 picks a Python)
	@PYTHONPATH=.$${PYTHONPATH:+:$$PYTHONPATH} $(GPU_PYTHON) -m benchmarks.gpu --commit '$(COMMIT)' $(OPTIONS) $(PARTS)

clean: ## remove all that the other targets made, .venv included
	@rm -rf .venv build dist demo mrs_trt.egg-info .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@rm -f kernels/*.so
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
