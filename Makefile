# Instance segmentation three ways. `make demo` and `make test` need nothing but Python 3.11 or newer.
PYTHON ?= python3.11
VENV ?= .venv
READY := $(VENV)/.ready
D2_06 ?= .venv-d2-06

.DEFAULT_GOAL := help
.PHONY: help env demo test test-d2-06 lint format benchmark

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): requirements/make_env.py requirements/torch.txt requirements/runtime.txt requirements/tests.txt setup.py
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) here; name one with make PYTHON=python3" >&2; exit 1; }
	@$(PYTHON) requirements/make_env.py $(VENV)
	@touch $@

env: $(READY) ## the environment alone, in .venv

demo: $(READY) ## train, evaluate and draw each method on rendered images
	@$(VENV)/bin/python tools/demo.py

lint: $(READY) ## style, and types of the public parts
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	@$(VENV)/bin/basedpyright --project pyproject.toml --pythonpath $(VENV)/bin/python

test: lint ## lint, then the test suite, a process for each core
	@OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

format: $(READY) ## mend what ruff can mend
	@$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix .

$(D2_06)/.ready: $(READY) requirements/make_env.py requirements/detectron2-0.6.txt
	@$(VENV)/bin/python requirements/make_env.py --detectron2-0.6 $(D2_06)
	@touch $@

test-d2-06: $(D2_06)/.ready ## the plugins' scripts and each method on Detectron2's last release
	@OMP_NUM_THREADS=1 PYTHONPATH=$(abspath $(D2_06)) $(VENV)/bin/python -m pytest -n auto \
		tests/d2_06 tests/e2e/test_plugin_scripts.py tests/light_backbone tests/timm_backbone \
		tests/instance_seg_common/engine/test_trainer.py tests/instance_seg_common/engine/test_optimizer.py

benchmark: $(READY) ## speed as ratios to a reference in the same run
	@$(VENV)/bin/python tools/benchmark.py time
