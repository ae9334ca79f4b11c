# galaxyml by make: each target brings what it needs.
UV := $(shell command -v uv 2>/dev/null || echo .venv-uv/bin/uv)
PYTHON := .venv/bin/python
PYTHON_VERSION ?= >=3.11,<3.14
# The extras that the tests use; the others are large, and `make test-extras` has them.
EXTRAS := --extra demo --extra kaggle --extra optuna
LOCK = $(UV) pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-header
RUN := $(PYTHON) -m galaxyml
DOCS := $(UV) run -q --no-project --python ">=3.11,<3.14" --with-requirements docs/requirements.txt

.PHONY: help setup demo page docs demo-classes demo-surveys demo-curves test test-all test-extras test-lowest coverage lint check dist train sweep report tensorboard weights bench peers clean lock
.DEFAULT_GOAL := help

help:            ## this list
	@grep -hE '^[a-z-]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | awk -F'\t' '{printf "make %-12s %s\n", $$1, $$2}'

setup: .venv/.ready  ## make .venv from requirements.lock; then .venv/bin/python -m galaxyml is the command

demo: setup      ## a five-fold sweep on the simulated sky: table, report, figures, submission (2 to 5 minutes on 2 cores)
	$(RUN) task=galaxyzoo model=tiny source=simulated scale=demo name=demo -m fold=0,1,2,3,4

test: setup      ## the tests (minutes)
	$(PYTHON) -m pytest -q -n auto -m "not slow"

test-all: setup  ## the tests and the slow ones
	$(PYTHON) -m pytest -q -n auto

coverage: setup  ## the tests, and which lines they do not reach
	$(PYTHON) -m pytest -q -n auto -m "not slow" --cov=galaxyml --cov-report=term:skip-covered

test-extras: $(UV)  ## the tests with every extra, in .venv-extras: LoRA, MLflow, Weights & Biases, Ray, SLURM
	$(UV) venv -q --allow-existing --python "$(PYTHON_VERSION)" .venv-extras
	$(UV) pip install -q --python .venv-extras --constraints requirements.lock --group dev --editable ".[all]"
	.venv-extras/bin/python -m pytest -q -n auto -m "not slow"

test-lowest: $(UV)  ## the tests with the oldest versions that pyproject.toml allows, in .venv-lowest
	$(UV) venv -q --allow-existing --python 3.11 .venv-lowest
	$(UV) pip install -q --python .venv-lowest --resolution lowest-direct -r pyproject.toml $(EXTRAS)
	$(UV) pip install -q --python .venv-lowest --group dev --editable .
	.venv-lowest/bin/python -m pytest -q -n auto -m "not slow" -W ignore::DeprecationWarning

lint: setup      ## ruff, its formatter, mypy, and which room may import which
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports

check: lint coverage docs dist  ## all that a change is judged by, on this platform

dist: setup      ## wheel and sdist, in dist/
	rm -rf dist
	$(UV) build -q --no-build-isolation --python $(PYTHON) --out-dir dist

demo-classes: setup  ## Galaxy10's classes, and spiral or elliptical, on the simulated sky (about 10 minutes)
	$(RUN) experiment=galaxy10_simulated source=simulated name=demo
	$(RUN) task=spirals model=tiny source=simulated scale=demo name=demo

demo-surveys: setup  ## from SDSS and DECaLS to UKIDSS on the simulated sky (about 5 minutes)
	$(RUN) experiment=surveys_simulated source=simulated name=demo

demo-curves: setup  ## light curves unlike the known classes, on the simulated sky (about 5 minutes)
	$(RUN) task=plasticc source=simulated name=demo

ARGS ?=
train: setup     ## one run: make train ARGS="task=galaxyzoo model=resnet50 fold=0"
	$(RUN) $(ARGS)

FOLDS ?= 0,1,2,3,4
sweep: setup     ## all folds: make sweep ARGS="task=galaxyzoo model=resnet50 name=mine"
	$(RUN) $(ARGS) -m fold=$(FOLDS)

FOLDER ?= multirun/galaxyzoo/demo
report: setup    ## a run's or sweep's report again, finished or not: make report FOLDER=multirun/galaxyzoo/mine
	$(PYTHON) -m galaxyml report $(FOLDER)

page: setup      ## a web page to try a finished run on: make page FOLDER=multirun/galaxyzoo/mine
	$(PYTHON) -m galaxyml page $(FOLDER) --open

tensorboard: setup  ## curves, figures and galaxies of all runs, at http://localhost:6006/#custom_scalars
	@echo "Metrics beside the baseline's: http://localhost:6006/#custom_scalars"
	$(PYTHON) -m tensorboard.main --logdir multirun --load_fast=false

docs: setup | $(UV)  ## the documentation (4 minutes, as it runs the notebooks once): site/index.html; with its search: python3 -m http.server -d site
	$(PYTHON) docs/notebooks.py
	$(DOCS) python docs/layers.py
	NO_MKDOCS_2_WARNING=1 $(DOCS) mkdocs build

weights: setup   ## the nets that come with the package, from the simulated sky (1.5 hours): galaxyml/weights
	$(RUN) experiment=sky name=sky
	$(RUN) bundle multirun/galaxyzoo/sky galaxyml/weights/sky.zip --force
	for task in galaxyzoo/sky_tiny galaxy10/sky_galaxy10 plasticc/sky_plasticc; do name=$$(basename $$task); \
	  $(RUN) experiment=$$name name=$$name && \
	  $(RUN) bundle multirun/$$task galaxyml/weights/$$name.safetensors --half --force || exit 1; done

bench: setup     ## measure the data path and the sky
	for script in benchmarks/*.py; do $(PYTHON) $$script || exit 1; done

DATA ?=
peers: $(UV)     ## measure galaxyml beside zoobot, ParSNIP, a Lightning template and plain torch, in .venv-peers; accuracy, too: make peers DATA=data
	$(UV) venv -q --allow-existing --python "$(PYTHON_VERSION)" .venv-peers
	$(UV) pip sync -q --require-hashes --compile-bytecode --python .venv-peers benchmarks/peers/requirements.txt
	$(UV) pip install -q --no-deps --python .venv-peers --editable .
	.venv-peers/bin/python benchmarks/peers/speed.py
	$(if $(DATA),.venv-peers/bin/python benchmarks/peers/accuracy.py --data $(DATA))
	.venv-peers/bin/python benchmarks/peers/table.py

clean:           ## remove what the targets made, but not your runs (multirun/)
	rm -rf .venv .venv-uv .venv-extras .venv-lowest .venv-peers dist site .cache/notebooks .coverage .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: $(UV)      ## bring requirements.lock, and those of docs/ and benchmarks/peers/, up to date
	$(LOCK) --group dev $(EXTRAS) pyproject.toml -o requirements.lock
	$(LOCK) --group docs -o docs/requirements.txt
	$(LOCK) --constraints requirements.lock pyproject.toml benchmarks/peers/requirements.in -o benchmarks/peers/requirements.txt

.venv/.ready: requirements.lock pyproject.toml | $(UV)
	$(UV) venv -q --allow-existing --python "$(PYTHON_VERSION)" .venv
	$(UV) pip sync -q --require-hashes --compile-bytecode --python .venv requirements.lock
	$(UV) pip install -q --no-deps --python .venv --editable .
	@touch $@
	@echo 'galaxyml is in .venv: source .venv/bin/activate, then galaxyml --help'

.venv-uv/bin/uv:
	python3 -m venv .venv-uv && .venv-uv/bin/python -m pip install -q uv || python3 -m pip install -q --target .venv-uv uv
