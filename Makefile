# Each target installs what it needs first. 'make' alone shows what there is.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PORT ?= 8000
WORKERS ?= 2
PINS ?= .

AIRFLOW := infrastructure/airflow
PINNED := $(wildcard requirements*.txt) $(AIRFLOW)/requirements.txt
BIN := .venv/bin
RUN := .venv/.installed
DEV := .venv/.installed-dev
SPARK := .venv/.installed-spark
AIRFLOW_ENV := .venv-airflow/.installed
# Both are asked for their version: a name on PATH may lead nowhere.
UV := $(or $(shell uv --version > /dev/null 2>&1 && command -v uv),.tools/uv/bin/uv)
PYTHON = $(or $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null \
	&& echo $$python && break; done),$(error Python 3.11 or newer is needed; none is on PATH))
COMPILE = $(UV) pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 \
	--annotation-style line --custom-compile-command 'make pins'

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- The system ---

.PHONY: demo experiment-demo loop-demo up down status serve monitor airflow repro
demo: $(RUN) ## Run the whole system on the real data: features, training, deployment, predictions
	$(BIN)/python -m pipelines.demo

loop-demo: $(RUN) ## Let a simulated world change: drift, alert, retraining, experiment, recovery
	$(BIN)/python -m pipelines.loop_demo

experiment-demo: $(RUN) ## Run four A/B tests through the API: promoted, rolled back, undecided, tampered with
	$(BIN)/python -m pipelines.experiment_demo

up: $(RUN) ## Start PostgreSQL, Valkey and MLflow, each unless its URL is given
	$(BIN)/python -m infrastructure up

down: $(RUN) ## Stop everything that was started here; data stays
	$(BIN)/python -m infrastructure down

status: $(RUN) ## Show what runs where, and where its log is
	$(BIN)/python -m infrastructure status

serve: $(RUN) ## Serve predictions in the foreground (PORT=8000)
	$(BIN)/python -m serving --port $(PORT)

.env: .env.example ## Make the settings of docker compose, with secrets of your own
	@test ! -e $@ || { echo ".env is there already: compare it with .env.example"; exit 1; }
	@umask 077 && $(PYTHON) -c 'import re, secrets, sys; \
	print(re.sub(r"(?m)^(\w+_PASSWORD=)$$", lambda m: m[1] + secrets.token_hex(24), \
	sys.stdin.read()), end="")' < .env.example > $@
	@echo "✓ .env"

monitor: $(RUN) ## Check drift, performance, skew and data quality every minute
	$(BIN)/python pipelines/monitoring_pipeline.py --every 60

airflow: $(RUN) $(AIRFLOW_ENV) ## Start Airflow with the project's DAGs: its page, one user
	$(BIN)/python -m infrastructure airflow

repro: $(DEV) ## Bring data, features, model and predictions up to date, by dvc.yaml
	PATH=$(CURDIR)/$(BIN):$$PATH dvc repro

# --- Checks ---

.PHONY: check check-pins test test-all
check: $(DEV) check-pins ## Check format, lint, types, imports between rooms, generated pages, pins
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m feature_store.catalogue --check
	$(BIN)/python -m benchmarks.table --check
	$(BIN)/python -m infrastructure.dashboards --check

check-pins: $(UV)
	@fresh=$$(mktemp -d) && trap "rm -rf $$fresh" EXIT && mkdir -p $$fresh/$(AIRFLOW) \
	&& for pins in $(PINNED); do cp $$pins $$fresh/$$pins; done \
	&& $(MAKE) --no-print-directory --silent pins PINS=$$fresh \
	&& for pins in $(PINNED); do diff -u $$pins $$fresh/$$pins || exit 1; done \
	|| { echo "The pins do not fit pyproject.toml. Run 'make pins'."; exit 1; }

test: $(DEV) ## Run the tests that need nothing but Python
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m 'not full'

test-all: $(DEV) $(SPARK) $(AIRFLOW_ENV) ## Run all tests (ONLY=full: those 'make test' leaves out); missing tools are named
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(if $(ONLY),-m '$(ONLY)')

# --- Figures and documents ---

.PHONY: bench bench-table docs notebooks
bench: $(DEV) ## Measure every published figure into benchmarks/results
	$(BIN)/python -m benchmarks

bench-table: $(DEV) ## Write the figures in README.md and docs/figures.md from benchmarks/results
	$(BIN)/python -m benchmarks.table

docs: $(DEV) ## Write the pages that are generated from code
	$(BIN)/python -m feature_store.catalogue
	$(BIN)/python -m infrastructure.dashboards

notebooks: $(DEV) ## Run the notebooks and keep what they show
	$(BIN)/python notebooks

# --- Installation ---

.PHONY: install pins clean validators clients
install: $(DEV) $(SPARK) ## Install everything into .venv

pins: $(UV) ## Pin the newest versions that fit pyproject.toml and the present pins (UPGRADE=--upgrade)
	echo '-e .' | $(COMPILE) $(UPGRADE) --output-file $(PINS)/requirements.txt -
	for extra in dev kafka spark; do \
		{ echo "-e .[$$extra]"; grep == $(PINS)/requirements.txt; } \
		| $(COMPILE) $(UPGRADE) --output-file $(PINS)/requirements-$$extra.txt - || exit 1; \
	done
	$(COMPILE) $(UPGRADE) --output-file $(PINS)/$(AIRFLOW)/requirements.txt $(AIRFLOW)/requirements.in
	$(COMPILE) --no-annotate --group pyproject.toml:api --output-file $(PINS)/requirements-api.txt \
		--constraints <(grep == $(PINS)/requirements.txt)

validators: .tools/validators/.installed .tools/checkov/.installed ## Install what checks the manifests

clients: .tools/clients/node_modules ## Install what makes clients of the API in tests

CLIENTS := tests/serving/clients
.tools/clients/node_modules: $(CLIENTS)/package-lock.json | .tools/clients/.installed
	cp $(CLIENTS)/package.json $< .tools/clients
	cd .tools/clients && PATH=$$PWD/bin:$$PATH npm ci --silent --ignore-scripts --no-audit --no-fund
	touch $@

.tools/%/.installed: infrastructure/requirements-%.txt | $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) .tools/$*
	$(UV) pip install --quiet --python .tools/$*/bin/python -r $<
	touch $@

clean: ## Stop everything and delete data, caches and build outputs; .venv stays
	test ! -e $(RUN) || $(BIN)/python -m infrastructure delete --yes
	rm -rf var build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(RUN): requirements.txt pyproject.toml | $(BIN)/python
	$(UV) pip install --python $(BIN)/python --compile-bytecode -r requirements.txt
	touch $@

$(DEV): requirements-dev.txt $(RUN)
	$(UV) pip install --python $(BIN)/python --compile-bytecode -r requirements-dev.txt
	touch $@

$(SPARK): requirements-spark.txt $(RUN)
	$(UV) pip install --python $(BIN)/python -r requirements-spark.txt
	touch $@

$(AIRFLOW_ENV): $(AIRFLOW)/requirements.txt | $(UV)
	test -x .venv-airflow/bin/python || $(UV) venv --python $(PYTHON) .venv-airflow
	$(UV) pip install --python .venv-airflow/bin/python --compile-bytecode -r $<
	touch $@

$(BIN)/python: | $(UV)
	$(UV) venv --python $(PYTHON) .venv

.tools/uv/bin/uv:
	$(PYTHON) -m venv .tools/uv
	.tools/uv/bin/pip install --quiet uv
