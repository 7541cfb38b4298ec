# Every target does its own set-up: one virtual environment, built once, used by all.

PYTHON ?= python3
DETECTRON2 ?= auto
OUTPUT ?= output/demo
JOBS ?= 2
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help venv test lint demo wheel clean

help:  ## list the targets
	@echo "usage: make TARGET [VARIABLE=value ...]"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@printf '  %-22s %s\n' \
		"PYTHON=$(PYTHON)" "the Python (3.9 or newer) that builds $(VENV); if it has a Detectron2, that one is used" \
		"DETECTRON2=$(DETECTRON2)" "'upstream' builds Detectron2 from upstream's repository, C++ extension included" \
		"OUTPUT=$(OUTPUT)" "where the demo writes" \
		"JOBS=$(JOBS)" "processes that run the tests" \
		"ARGS=$(ARGS)" "more arguments for pytest or for the demo"

venv:  ## create .venv, or build it again when what it was built from has changed
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "error: there is no '$(PYTHON)'; name a Python 3.9 or newer: make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 9))' || \
		{ echo "error: '$(PYTHON)' is older than Python 3.9; name a newer one: make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" tools/make_venv.py $(VENV) --detectron2 $(DETECTRON2)

test: lint  ## check the code, then run all tests
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(RUN) -m pytest -n $(JOBS) $(ARGS)

lint: venv  ## check the code without running it
	$(RUN) -m ruff check .
	$(RUN) -m mypy

demo: venv  ## train a classifier and a detector on real digits, and draw what it finds
	$(RUN) tools/run_demo.py --output $(OUTPUT) $(ARGS)

wheel: venv  ## build dist/fbnet_plugin-*.whl
	rm -rf build
	$(RUN) -m pip wheel --no-deps --no-build-isolation --wheel-dir dist .

clean:  ## remove .venv, caches and build artefacts (what runs wrote to output/ stays)
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
