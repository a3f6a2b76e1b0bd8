# Needs python3 (3.11 or newer, with venv) and make; everything else goes into .venv.
#
#   make demo            run dags/nightly_report.py on real Airflow against the local API emulator
#   make demo LIVE=1     the same against the real API, 5 accounts (needs ANTHROPIC_API_KEY; costs cents)
#   make demo DAG=name   another DAG of dags/
#   make demo SLOW=1     nightly_report with a deadline that its batch would miss
#   make ui              the same Airflow, staying up for a browser until Ctrl-C
#   make test            all tests; make test ARGS='-k ledger' for some
#   make ui-build        the UI's bundle from its source (needs Node 20.19 or newer)
#   make test-matrix     the same on the oldest and newest Airflow and with the lowest dependencies
#                        (MATRIX=oldest for one of them, ARGS=--airflow-only for what depends most on it)
#   make test-cluster    a distributed Airflow (Celery, PostgreSQL, S3, two triggerers) and its faults
#   make cluster         the same cluster, staying up until Ctrl-C
#   make docs            the documentation as static pages in build/docs; anything that is wrong fails it
#   make lint, format    ruff, mypy, deptry, no secrets; what is fixable, fixed
#   make clean           remove .venv, .demo and caches

PYTHON ?= python3
DAG ?= nightly_report
LIVE ?=
SLOW ?=
ARGS ?=
MATRIX ?=

# Without compiled files every process of Airflow compiles 2,000 modules anew.
unexport PYTHONDONTWRITEBYTECODE

LIVE_OPTION := $(if $(filter-out 0 no false,$(LIVE)),--live)
SLOW_OPTION := $(if $(filter-out 0 no false,$(SLOW)),--slow)
BIN := .venv/bin
INSTALLED := .venv/.installed
CLUSTER_INSTALLED := .venvs/cluster/.installed
DOCS_INSTALLED := .venvs/docs/.installed

# Passwords are made up all over the tests, so what a variable is called says nothing.
SECRETS := --disable-plugin KeywordDetector --exclude-lines '//user:password@' --exclude-files plugins/static/

.PHONY: demo ui ui-build test test-matrix test-cluster cluster docs lint format clean
.DEFAULT_GOAL := demo

demo: $(INSTALLED)
	@$(BIN)/python -m tests.harness.demo $(DAG) $(LIVE_OPTION) $(SLOW_OPTION)

ui: $(INSTALLED)
	@$(BIN)/python -m tests.harness.demo $(DAG) $(LIVE_OPTION) --stay

ui-build:
	cd airflow_claude_batch/plugins/ui && npm ci --no-audit --no-fund && npm run build

# Two processes, which begin with a row of tests each that mostly wait for Airflow. With three the whole is no
# quicker, since browsers and Airflow fill the processors in between.
test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 2 $(ARGS)

test-matrix: $(INSTALLED)
	$(BIN)/python -m tests.matrix $(MATRIX) $(ARGS)

test-cluster: $(CLUSTER_INSTALLED)
	.venvs/cluster/bin/python -m pytest tests/cluster $(ARGS)

cluster: $(CLUSTER_INSTALLED)
	@.venvs/cluster/bin/python -m tests.cluster

# Each page is read anew: what is wrong with one is said once only.
docs: $(DOCS_INSTALLED)
	@.venvs/docs/bin/python -m sphinx -W --keep-going -E -q -d build/doctrees -b html docs build/docs
	@echo 'build/docs/index.html'

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/deptry .
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook $(SECRETS)
	$(BIN)/python .ci/no_machine_traces.py

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venvs .demo .mypy_cache .pytest_cache .ruff_cache build dist

# uv, because pip back-tracks for minutes over Airflow's dependencies and uv resolves them in seconds.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed: make PYTHON=python3.13 …' >&2; exit 1; }
	@echo 'Installing Airflow and this package into .venv …'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --group dev --editable '.[documents,emulator,parquet]'
	@touch $@

$(CLUSTER_INSTALLED): $(INSTALLED)
	@echo 'Installing Airflow with Celery, PostgreSQL and S3 into .venvs/cluster …'
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venvs/cluster
	@$(BIN)/uv pip install --quiet --python .venvs/cluster/bin/python --group cluster --editable '.[documents,emulator,s3]'
	@touch $@

# With Airflow and this package: the reference is made of what they say themselves.
$(DOCS_INSTALLED): $(INSTALLED)
	@echo 'Installing Sphinx and Airflow into .venvs/docs …'
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venvs/docs
	@$(BIN)/uv pip install --quiet --python .venvs/docs/bin/python --group docs --editable '.[documents,emulator,parquet]'
	@touch $@
