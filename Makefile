# Two targets do everything from a bare Python 3.11: `make demo` runs the main job, `make check` runs every check.
#
#   make demo                       miniatures of every model on every task, ending with a leaderboard
#   make photos                     a real model on fourteen real photos
#   make photos DATA=FOLDER         the same on any folder in Karpathy's layout (dataset_*.json and the images)
#   make gate                       the demo's numbers against results/baselines/demo.json, after `make demo`
#   make check                      lint, types, layers, tests

PYTHON ?= python3.11
VENV ?= .venv
DATA ?= sample_photos
EVALKIT_RUNS ?= results/runs
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
TIMM := $(abspath $(VENV))/timm

.PHONY: demo gate photos check lint types layers tests clean

demo: $(VENV)/.runtime
	$(BIN)/evalkit demo --workers 2

gate: $(VENV)/.runtime
	$(BIN)/evalkit gate "$(EVALKIT_RUNS)" --baseline results/baselines/demo.json --margins results/baselines/demo.toml --require-all

photos: $(VENV)/.runtime
	test "$(DATA)" != sample_photos || $(BIN)/python examples/sample_photos.py sample_photos
	$(BIN)/evalkit run --model conse --task karpathy_retrieval --data-dir "$(DATA)"
	$(BIN)/evalkit leaderboard

check: lint types layers tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

tests: $(VENV)/.dev $(VENV)/.timm
	EVALKIT_TIMM_FOLDER=$(TIMM) OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -q

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[conse,eccv-caption,samples]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[conse,eccv-caption,evaluate,mlflow,pycocoevalcap,samples,sentence,wandb,dev]'
	touch $@ $(VENV)/.runtime

# timm imports torchvision, whose compiled half does not fit every torch: both lie apart, seen by their own tests alone
$(VENV)/.timm: constraints.txt | $(VENV)/.dev
	rm -rf $(TIMM)
	$(PIP) --no-deps --target $(TIMM) timm torchvision
	touch $@

clean:
	rm -rf $(VENV) sample_photos results/runs
