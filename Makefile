# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` set up .venv by themselves, and may be repeated.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test budgets docs gallery figures bounds check format lint types clean

# The newest interpreter is not always the one with wheels for everything, so 3.11, which we develop on, goes first.
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3 python 2>/dev/null))
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

# Packages whose files the tests read without running them: TensorRT's headers and bindings, and Triton's schema. Their own
# dependencies are not needed, and Triton's client would install an older protobuf.
READ := $(PIP) --no-deps kernel-lens tensorrt-cu13-bindings tensorrt-lean-cu13-bindings tritonclient

# timm is tested as well without most of its dependencies, which fetch weights: the tests fetch none.
TIMM := $(PIP) --no-deps timm torchvision pyyaml

# PyCUDA has no wheels. Where a CUDA toolkit is, it is compiled (a minute), and kept in the user's cache.
PYCUDA := $(BIN)/python tests/simulated_gpu/pycuda_build.py

# Without this, `import runtime` at the root would find the link to src/foveate/runtime.
export PYTHONSAFEPATH := 1

help:
	@echo "make demo     run the shipped networks on the sample images (installs what it needs into .venv)"
	@echo "make test     run the tests"
	@echo "make budgets  count the operations again, and write the budgets that the tests compare with"
	@echo "make docs     build the documentation in build/documentation/site; a dead link is an error"
	@echo "make gallery  write the overlays of the documentation again"
	@echo "make figures  write the README of the benchmarks again from their results"
	@echo "make bounds   try the lowest and the newest dependencies, in environments of their own"
	@echo "make check    what a change must pass: format, lint, types, documentation, tests"
	@echo "make format   format the code and apply the safe fixes"
	@echo "make clean    remove .venv and every build output"

demo: .venv/.base
	$(BIN)/foveate demo

# Two processes, since most tests use one core. A file stays in one of them, which makes its fixtures once.
test: .venv/.test
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

budgets: .venv/.test
	$(BIN)/pytest tests/budgets --rewrite-budgets $(ARGS)

docs: .venv/.docs
	@$(BIN)/python docs/build.py

gallery: .venv/.base
	$(BIN)/foveate run src/foveate/assets/images --output docs/images/gallery

figures: .venv/.base
	PYTHONPATH=benchmarks $(BIN)/python benchmarks/readme.py

bounds: .venv/.python
	$(BIN)/python tests/bounds.py

check: lint types docs test

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.dev
	$(BIN)/mypy --strict

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache src/*.egg-info

# --- the environment -------------------------------------------------------------------------
# Each stamp is newer than the files it depends on, and is written only after pip has succeeded,
# so that an interrupted or failed set-up is repeated. A larger set includes the smaller ones.

.venv/.python:
	@test -n "$(PYTHON)" || { echo "No Python found: install Python 3.11 or later, or run 'make PYTHON=/path/to/python3 ...'." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "$(PYTHON) is $$($(PYTHON) --version), Foveate needs 3.11 or later: run 'make PYTHON=/path/to/python3.11 ...'." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip' 2>/dev/null || \
	    { echo "$(PYTHON) cannot make environments: install its venv module (on Debian and Ubuntu: apt-get install python3-venv)." >&2; exit 1; }
	"$(PYTHON)" -m venv .venv
	@touch $@

.venv/.base: .venv/.python pyproject.toml constraints.txt
	@echo "Installing Foveate into .venv (the first time takes a minute)"
	$(PIP) -e .
	@touch $@

.venv/.test: .venv/.python pyproject.toml constraints.txt
	@echo "Installing Foveate and its tests into .venv (the first time takes a few minutes: PyTorch is large)"
	$(PIP) -e '.[test]'
	$(READ)
	$(TIMM)
	$(PYCUDA)
	@touch $@ .venv/.base

.venv/.docs: .venv/.python pyproject.toml constraints.txt
	@echo "Installing Foveate and what builds its documentation into .venv"
	$(PIP) -e '.[docs]'
	@touch $@ .venv/.base

.venv/.dev: .venv/.python pyproject.toml constraints.txt
	@echo "Installing Foveate and its development tools into .venv (the first time takes a few minutes: PyTorch is large)"
	$(PIP) -e '.[dev]'
	$(READ)
	$(TIMM)
	$(PYCUDA)
	@touch $@ .venv/.base .venv/.test .venv/.docs
