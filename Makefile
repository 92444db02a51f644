# Everything runs in .venv, which `make setup` builds; the other targets build it when they need it.
# A Python to build it with is chosen by `make setup PYTHON=...`; options for pip (an index, a proxy, ...) by pip's
# own environment variables.

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
# Written last, so that it stands only in an environment that is complete.
STAMP := $(VENV)/.setup_complete
PIP_INSTALL := $(VENV_PYTHON) -m pip --quiet --quiet --disable-pip-version-check install --constraint constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo app quickstart experiment test fuzz soak lint format clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: $(STAMP) ## build .venv with everything that is needed (about 5 GB)

demo: $(STAMP) ## map the shipped pair with the shipped model, clear and under clouds, into output/demo
	@$(VENV_PYTHON) projects/laptop/shipped_pair.py --output output/demo

app: $(STAMP) ## serve a web page with a map in it, http://localhost:7860 (PORT=7860)
	@$(VENV)/bin/mm-ovseg app --port $(or $(PORT),7860)

quickstart: $(STAMP) ## train a small model, evaluate it, draw maps into output/quickstart (minutes)
	@$(VENV_PYTHON) projects/laptop/quickstart.py --output output/quickstart

experiment: $(STAMP) ## the whole protocol in miniature over three seeds (up to 90 minutes), into output/experiment
	@$(VENV_PYTHON) projects/laptop/run_experiment.py --output output/experiment

test: $(STAMP) ## run the tests (PYTEST_ADDOPTS is passed on)
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest tests -q --numprocesses auto --dist loadfile

fuzz: $(STAMP) ## try INPUTS=120000 damaged and arbitrary files (SEED=0), with a report in output/fuzz
	@MM_OVSEG_FUZZ_INPUTS=$(or $(INPUTS),120000) MM_OVSEG_FUZZ_SEED=$(or $(SEED),0) HF_HUB_OFFLINE=1 \
	    $(VENV_PYTHON) -m pytest tests/fuzz -q -s

soak: $(STAMP) ## segment for MINUTES=5 with faults on the way, and count what is lost, into output/soak
	@MM_OVSEG_SOAK_MINUTES=$(or $(MINUTES),5) HF_HUB_OFFLINE=1 $(VENV_PYTHON) -m pytest tests/test_soak.py -m slow -q -s

lint: $(STAMP) ## check style and formatting
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .

format: $(STAMP) ## repair what can be repaired automatically
	@$(VENV_PYTHON) -m ruff check --fix .
	@$(VENV_PYTHON) -m ruff format .

clean: ## remove caches, build leftovers and the demo's output, but not .venv
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis output/demo output/quickstart output/fuzz output/soak
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# Each step leaves what is already there alone, so an interrupted set-up goes on where it was.
$(STAMP): setup.py constraints.txt tools/install_detectron2.py
	@rm -f $@
	@# An environment without a working pip was interrupted while it was made.
	@if ! $(VENV_PYTHON) -m pip --version >/dev/null 2>&1; then \
	    for candidate in $(or $(PYTHON),python3.11 python3); do \
	        if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
	            python=$$candidate; break; \
	        fi; \
	    done; \
	    if [ -z "$$python" ]; then \
	        echo "make setup: '$(or $(PYTHON),python3.11 python3)' is no Python of at least 3.10;" \
	            "name one by 'make setup PYTHON=/path/to/python3.11'." >&2; \
	        exit 1; \
	    fi; \
	    echo "[1/5] the virtual environment $(VENV), with $$($$python --version)"; \
	    $$python -m venv --clear $(VENV); \
	fi
	@echo "[2/5] torch and torchvision (about 5 GB, a minute or more)"
	@$(PIP_INSTALL) setuptools wheel torch torchvision
	@echo "[3/5] the other requirements (half a minute)"
	@$(PIP_INSTALL) --no-build-isolation --editable '.[dev,experiment,clouds,app,browser,export]'
	@echo "[4/5] Detectron2 (half a minute)"
	@PIP_CONSTRAINT="constraints.txt $$PIP_CONSTRAINT" $(VENV_PYTHON) tools/install_detectron2.py
	@echo "[5/5] a first import"
	@$(VENV_PYTHON) -c 'from mm_ovseg import add_mm_ovseg_config'
	@touch $@
	@echo "$(VENV) is ready."
