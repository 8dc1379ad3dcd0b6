# Instance segmentation three ways. `make demo` and `make test` need nothing but Python 3.11 or newer.
PYTHON ?= python3.11
VENV ?= .venv
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help env demo test lint benchmark

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/'

$(READY): tools/make_env.py requirements/torch.txt requirements/runtime.txt requirements/tests.txt setup.py
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) here; name one with make PYTHON=python3" >&2; exit 1; }
	@$(PYTHON) tools/make_env.py $(VENV)
	@touch $@

env: $(READY) ## the environment alone, in .venv

demo: $(READY) ## train, evaluate and draw each method on rendered images
	@$(VENV)/bin/python tools/demo.py

lint: $(READY)
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

test: lint ## lint, then the test suite, a process for each core
	@OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist loadfile

.PHONY: format
format: $(READY) ## mend what ruff can mend
	@$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix .

benchmark: $(READY) ## speed as ratios to a reference in the same run
	@$(VENV)/bin/python tools/benchmark.py
