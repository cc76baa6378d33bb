# `make` alone explains everything.

CONF ?= demo
PYTEST ?=
GOWALLA ?= ../shared/data/gowalla

ROOT := $(CURDIR)/build/$(CONF)
DATA := $(CURDIR)/build/data/$(CONF)
BIN := $(CURDIR)/.venv/bin
PYTHON := $(BIN)/python
JAVA := @$(CURDIR)/conf/driver.jvm -Dlog4j2.configurationFile=file:$(CURDIR)/conf/log4j2.properties

# Spark starts its Python workers, and spark-submit its driver, with these
export PYSPARK_PYTHON := $(PYTHON)
export PYSPARK_DRIVER_PYTHON := $(PYTHON)

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup demo data test test-slow bench bench-quality bench-sequential lint format conf package clean

help: ## this page
	@echo 'usage: make TARGET [VARIABLE=value]'
	@echo
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1\t\2/p' Makefile | expand -t 14
	@echo
	@echo '  CONF=demo       MovieLens-1M (1 million ratings), the default; conf/demo.yaml'
	@echo '  CONF=retail     The Complete Journey (1.5 million purchases); conf/retail.yaml'
	@echo '  PYTEST="..."    more arguments for pytest, such as PYTEST="tests/score -k seen"'
	@echo '  GOWALLA=FOLDER  the log that bench measures on: train.txt.gz of the public Gowalla split, or Parquet or CSV'
	@echo '                  with user_id and item_id; a generated one where it is not there'
	@echo '  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu'
	@echo '                  for set-up and package: PyTorch without its several GB of CUDA'

setup: ## .venv with everything in it, Horovod built from source; does nothing when it is done already
	@.make/environment.sh

demo: setup ## one whole night on real data into build/CONF, from the raw log to the report
	@$(MAKE) data
	@$(BIN)/spark-submit --master 'local[*]' --driver-memory 2g \
		--driver-java-options '$(JAVA)' \
		$(CURDIR)/jobs/nightly.py \
		--config $(CURDIR)/conf/$(CONF).yaml
	@$(PYTHON) -m recsys_spark show $(ROOT)

data: setup ## the raw log of CONF into build/data/CONF, and its terms of use
	@$(PYTHON) -m recsys_spark demo-data $(CONF) --out $(DATA)

test: setup ## linters, then every test but the slow ones
	@$(MAKE) lint
	@$(BIN)/pytest -m 'not slow' $(PYTEST)

test-slow: setup ## the slow tests alone: the driver killed in every stage (a quarter of an hour)
	@$(BIN)/pytest -m slow $(PYTEST)

bench: setup ## every figure of docs/benchmarks into build/bench, ours beside its peers (two and a half hours, on a machine that does nothing else)
	@.make/peers.sh
	@$(MAKE) data CONF=demo
	@$(MAKE) data CONF=retail
	@.make/bench.sh $(GOWALLA) '$(JAVA)'

bench-quality: setup ## a night on the public split in GOWALLA, and its published table beside the published figures (half an hour)
	@$(PYTHON) benchmarks/quality.py --split $(GOWALLA) --driver-java-options '$(JAVA)'

bench-sequential: setup ## MovieLens-1M by the protocol of sequential recommendation, beside the published figures (three quarters of an hour)
	@$(MAKE) data CONF=demo
	@$(PYTHON) benchmarks/sequential.py --driver-java-options '$(JAVA)'

lint: setup ## ruff, the import directions, and types of the pure parts
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo 'not formatted; run: make format'; exit 1; }
	@PYTHONPATH=$(CURDIR) $(BIN)/lint-imports --config .importlinter
	@$(BIN)/mypy

format: setup ## ruff's formatting and its safe mends, in place
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

conf: setup ## conf/base.yaml anew, after a change in recsys_spark/config/
	@$(PYTHON) -c 'from recsys_spark.config.render import render; print(render(), end="")' > build/base.yaml
	@mv build/base.yaml conf/base.yaml

package: setup ## the wheel and a relocatable environment for a cluster, into dist
	@.make/package.sh

clean: ## all that was made, but .venv
	@rm -rf build dist *.egg-info spark-warehouse metastore_db derby.log
	@rm -rf .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
