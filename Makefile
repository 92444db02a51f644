# Everything runs in .venv, which `make setup` and, if necessary, the other targets build.
# `make setup PYTHON=...` selects the Python; pip's environment variables set its options (an index, a proxy, ...).

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
# Written last, so that it exists only in a complete environment.
STAMP := $(VENV)/.setup_complete
PIP_INSTALL := $(VENV_PYTHON) -m pip --quiet --quiet --disable-pip-version-check install --constraint constraints.txt

# A process for each core; each takes a file at a time, in the order of tests/conftest.py.
IN_PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder
# What uses Detectron2.
MAIN_TESTS := tests/engine tests/evaluation tests/modeling tests/checkpoint tests/data tests/rehearsal tests/test_extend.py \
    tests/test_train_net.py tests/test_train_net_errors.py tests/test_eight_processes.py tests/test_interrupted_training.py tests/test_plain_dataset.py

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo app quickstart experiment test test-main gpu fuzz soak lint format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: $(STAMP) ## build .venv with all requirements (about 6 GB)

demo: $(STAMP) ## map a real Sentinel pair with the shipped model, into output/demo
	@$(VENV_PYTHON) projects/sentinel/shipped_pair.py --output output/demo

app: $(STAMP) ## serve the web page at http://localhost:7860 (PORT=7860)
	@$(VENV)/bin/mm-ovseg app --port $(or $(PORT),7860)

quickstart: $(STAMP) ## train and evaluate a small model, into output/quickstart (minutes)
	@$(VENV_PYTHON) projects/laptop/quickstart.py --output output/quickstart

experiment: $(STAMP) ## run the laptop experiment, into output/experiment (under two hours)
	@$(VENV_PYTHON) projects/laptop/run_experiment.py --output output/experiment

test: $(STAMP) ## run the tests (set PYTEST_ADDOPTS for options)
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest tests -q $(IN_PARALLEL)

test-main: $(STAMP) ## run the engine's tests on Detectron2's main branch, a checkout in DETECTRON2_MAIN
	@if ! [ -f '$(DETECTRON2_MAIN)/detectron2/engine/defaults.py' ]; then \
	    echo "make test-main: DETECTRON2_MAIN is '$(DETECTRON2_MAIN)', which is not a checkout of Detectron2;" \
	        "run 'git clone https://github.com/facebookresearch/detectron2 FOLDER' and give DETECTRON2_MAIN=FOLDER." >&2; \
	    exit 1; \
	fi
	@PYTHONPATH='$(abspath $(DETECTRON2_MAIN))'$${PYTHONPATH:+:$$PYTHONPATH} HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 \
	    $(VENV_PYTHON) -m pytest $(MAIN_TESTS) -q $(IN_PARALLEL)

gpu: $(STAMP) ## run the tests that need a GPU, and print what they measured as a table
	@HF_HUB_OFFLINE=1 $(VENV_PYTHON) -m pytest tests/gpu -q --durations=0

fuzz: $(STAMP) ## fuzz the readers with INPUTS=120000 files (SEED=0), into output/fuzz
	@MM_OVSEG_FUZZ_INPUTS=$(or $(INPUTS),120000) MM_OVSEG_FUZZ_SEED=$(or $(SEED),0) HF_HUB_OFFLINE=1 \
	    $(VENV_PYTHON) -m pytest tests/fuzz -q -s

soak: $(STAMP) ## segment for MINUTES=5 with injected faults, into output/soak
	@MM_OVSEG_SOAK_MINUTES=$(or $(MINUTES),5) HF_HUB_OFFLINE=1 $(VENV_PYTHON) -m pytest tests/test_soak.py -m slow -q -s

lint: $(STAMP) ## check style and formatting
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .

format: $(STAMP) ## fix style and formatting automatically
	@$(VENV_PYTHON) -m ruff check --fix .
	@$(VENV_PYTHON) -m ruff format .

clean: ## remove caches, build files and outputs, but not .venv
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis output/demo output/quickstart output/fuzz output/soak
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# Each step keeps what is already there, so an interrupted setup continues where it stopped.
$(STAMP): setup.py constraints.txt tools/install_detectron2.py tools/install_browser.sh
	@rm -f $@
	@# Without a working pip, the creation of the environment was interrupted.
	@if ! $(VENV_PYTHON) -m pip --version >/dev/null 2>&1; then \
	    for candidate in $(or $(PYTHON),python3.11 python3); do \
	        if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
	            python=$$candidate; break; \
	        fi; \
	    done; \
	    if [ -z "$$python" ]; then \
	        echo "make setup: '$(or $(PYTHON),python3.11 python3)' is not a Python 3.10 or later;" \
	            "choose one with 'make setup PYTHON=/path/to/python3.11'." >&2; \
	        exit 1; \
	    fi; \
	    echo "[1/6] the virtual environment $(VENV), with $$($$python --version)"; \
	    $$python -m venv --clear $(VENV); \
	fi
	@echo "[2/6] torch and torchvision (about 5 GB, a minute or more)"
	@$(PIP_INSTALL) setuptools wheel torch torchvision
	@echo "[3/6] the other requirements (half a minute)"
	@$(PIP_INSTALL) --no-build-isolation --editable '.[dev,experiment,clouds,app,browser,export,ray,efficiency,stac,terrain-correction]'
	@echo "[4/6] Detectron2 (half a minute)"
	@PIP_CONSTRAINT="constraints.txt $$PIP_CONSTRAINT" $(VENV_PYTHON) tools/install_detectron2.py
	@echo "[5/6] a browser for the tests of the page (half a minute)"
	@tools/install_browser.sh
	@echo "[6/6] a first import"
	@$(VENV_PYTHON) -c 'from mm_ovseg import add_mm_ovseg_config'
	@touch $@
	@echo "$(VENV) is ready."
