# `make` alone lists the targets.

CONF ?= demo
PYTEST ?=
GOWALLA ?= ../shared/data/gowalla

ROOT := $(CURDIR)/build/$(CONF)
DATA := $(CURDIR)/build/data/$(CONF)
BIN := $(CURDIR)/.venv/bin
PYTHON := $(BIN)/python

# spark-submit runs the driver and the Python workers with this interpreter
export PYSPARK_PYTHON := $(PYTHON)
export PYSPARK_DRIVER_PYTHON := $(PYTHON)

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup lock demo data test test-fast test-slow bench bench-quality bench-sequential lint format conf package clean

help: ## show this page
	@echo 'usage: make TARGET [VARIABLE=value]'
	@echo
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1\t\2/p' Makefile | expand -t 20
	@echo
	@echo '  CONF=demo       MovieLens-1M (1 million ratings), the default. Its overlay is conf/demo.yaml'
	@echo '  CONF=retail     The Complete Journey (1.5 million purchases). Its overlay is conf/retail.yaml'
	@echo '  PYTEST="..."    more arguments for pytest, such as PYTEST="tests/stages/score -k seen"'
	@echo '  GOWALLA=FOLDER  the log for the benchmarks: train.txt.gz of the public Gowalla split, or Parquet or CSV'
	@echo '                  with user_id and item_id. If it is missing, a log is generated'
	@echo '  UPGRADE=1       for lock: take the newest versions that setup.py allows'
	@echo '  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu'
	@echo '                  for setup and package: PyTorch without several GB of CUDA libraries'

setup: ## install everything into .venv and build Horovod from source, once
	@.make/environment.sh

lock: ## write requirements.lock from setup.py: versions and hashes of all packages
	@.make/lock.sh

demo: setup ## run a whole night on public data, from the raw log to the report, into build/CONF
	@$(MAKE) data
	@$(BIN)/spark-submit --master 'local[*]' --driver-memory 2g $(CURDIR)/jobs/nightly.py --config $(CURDIR)/conf/$(CONF).yaml
	@$(BIN)/recsys show $(ROOT)

data: setup ## download the raw log of CONF into build/data/CONF and show its terms of use
	@$(BIN)/recsys demo-data $(CONF) --out $(DATA)

test: setup ## run the linters and all tests but the slow ones
	@$(MAKE) lint
	@$(BIN)/pytest -n 2 -m 'not slow' $(PYTEST)

test-fast: setup ## run the tests that start neither Spark nor training workers, in under two minutes
	@$(BIN)/pytest -n 2 -m 'not slow and not spark and not workers' $(PYTEST)

test-slow: setup ## run the slow tests only: kill the driver in every stage (15 minutes)
	@$(BIN)/pytest -m slow $(PYTEST)

bench: setup ## measure every figure of docs/benchmarks beside its peers into build/bench (2.5 hours on an idle machine)
	@.make/peers.sh
	@$(MAKE) data CONF=demo
	@$(MAKE) data CONF=retail
	@.make/bench.sh $(GOWALLA)

bench-quality: setup ## run a night on GOWALLA and compare it with published figures (30 minutes)
	@$(PYTHON) benchmarks/quality.py --split $(GOWALLA)

bench-sequential: setup ## evaluate MovieLens-1M by the protocol of sequential recommendation (45 minutes)
	@$(MAKE) data CONF=demo
	@$(PYTHON) benchmarks/sequential.py

lint: setup ## check style with ruff, import directions with import-linter and types with mypy
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo 'not formatted. Run: make format'; exit 1; }
	@PYTHONPATH=$(CURDIR) $(BIN)/lint-imports --config .importlinter
	@$(BIN)/mypy

format: setup ## format the code and apply the safe fixes of ruff
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

conf: setup ## write conf/base.yaml and docs/reference/tables.md after a change in recsys_spark/config/ or schemas/
	@$(PYTHON) -c 'from recsys_spark.config.base_yaml import render; print(render(), end="")' > build/base.yaml
	@mv build/base.yaml conf/base.yaml
	@$(PYTHON) .make/tables.py > build/tables.md
	@mv build/tables.md docs/reference/tables.md

package: setup ## build the wheel and a relocatable environment for a cluster into dist
	@.make/package.sh

clean: ## remove everything that was built, except .venv
	@rm -rf build dist *.egg-info spark-warehouse metastore_db derby.log
	@rm -rf .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
