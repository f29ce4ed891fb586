# Everything starts here; `make` alone tells what there is. Needs Python 3.11 to 3.13, nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

STATE := $(or $(L2L_HOME),$(CURDIR)/.l2l)
PYTHON := $(STATE)/venv/bin/python
CAMPAIGN ?= brunel-cmaes
SITE ?= local
ROOT := $(filter 0,$(shell id -u))
# As pip does: trust the system's certificates, an institute's own among them, where there are any.
export UV_SYSTEM_CERTS ?= $(if $(wildcard /etc/ssl/certs/ca-certificates.crt),true,false)
export UV_NATIVE_TLS ?= $(UV_SYSTEM_CERTS)
CODE := dags infra l2l_tasks optimizees optimizers tests $(wildcard benchmarks)

.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18
	echo "  Settings: CAMPAIGN=name SITE=local|slurm (demo), TESTS=path (test), L2L_HOME=folder (all)"

.PHONY: setup
setup: ## the Python environments below .l2l, nothing started
	@infra/bootstrap.sh run

.PHONY: env
env: ## make the environment of a simulator on this machine: NAME=arbor, neuron, ... (optimizees/environments)
	@L2L_ENVS="$(NAME)" infra/bootstrap.sh run

.PHONY: up
up: setup ## start PostgreSQL, Airflow and MLflow on this machine
	@$(PYTHON) -m infra.stack up

.PHONY: demo
demo: setup ## run a campaign from start to result (SITE=slurm as root: on a real one-node Slurm)
	@if [ "$(SITE)" = slurm ]; then $(MAKE) --no-print-directory lab; fi
	$(PYTHON) -m infra.stack up
	$(PYTHON) -m infra.demo --campaign "$(CAMPAIGN)" --site "$(SITE)"

.PHONY: lab
lab: setup ## start a real Slurm and sshd on this machine (root)
	@if [ -z "$(ROOT)" ]; then echo "SITE=slurm starts daemons under several accounts: run it as root" >&2; exit 1; fi
	UV=$(STATE)/uv LAB_ENVS=$(STATE)/envs infra/slurm/up.sh

.PHONY: status
status: ## what runs, and whether it is healthy
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m infra.stack status; else echo "nothing is installed (make up)"; fi

.PHONY: down
down: ## stop everything; campaigns go on after the next `make up`
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m infra.stack down; fi
	if [ -n "$(ROOT)" ]; then infra/slurm/down.sh; fi

.PHONY: clean
clean: ## stop everything and remove all state: databases, logs, environments
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m infra.stack clean; fi
	if [ -n "$(ROOT)" ]; then infra/slurm/down.sh wipe; fi
	rm -rf "$(STATE)" l2l_airflow.egg-info

.PHONY: dev
dev:
	@infra/bootstrap.sh dev

.PHONY: lint
lint: dev ## style, types, Python 3.8 at the site, no pickle
	@PYTHON=$(PYTHON) infra/lint.sh $(CODE)

.PHONY: test
test: lint ## lint, then all tests; as root also those that need Slurm and sshd
	L2L_ENVS="$(notdir $(basename $(wildcard optimizees/environments/*.txt)))" infra/bootstrap.sh dev
	@if [ -n "$(ROOT)" ]; then UV=$(STATE)/uv LAB_ENVS=$(STATE)/envs infra/slurm/up.sh; fi
	AIRFLOW_HOME=$(STATE)/test-airflow $(PYTHON) -m pytest $(TESTS)

.PHONY: lock
lock: dev ## pin requirements.txt and requirements-dev.txt anew
	@export UV_CUSTOM_COMPILE_COMMAND="make lock"
	for list in requirements requirements-dev; do
	  $(STATE)/uv pip compile -q --upgrade --universal --python-version 3.11 $$list.in -o $$list.txt
	done
