# Everything runs in .venv, which the first target creates. `make` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# The commands of DVC's stages call `python`: the one of .venv. A path may hold any character: the
# shell reads it from $$PWD or $$URL, make never inserts it into a command.
export PATH := $(CURDIR)/.venv/bin:$(value PATH)

.PHONY: help
help: ## List the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

.PHONY: install
install: .venv/installed ## Set up .venv; again after a move, or a change of pyproject.toml or constraints.txt
	@here=$$(pwd -P)
	if [ ! -L .venv ] && [ "$$here" != "$$(cat .venv/installed)" ]; then
		python tools/relocate.py
		printf '%s\n' "$$here" > .venv/installed
	fi

.venv/installed: pyproject.toml constraints.txt
	@python=
	for name in python3.11 python3; do
		if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
			python=$$name
			break
		fi
	done
	if [ -z "$$python" ]; then
		echo "error: found $$(python3 --version 2>/dev/null || echo no Python), expected Python 3.11 or newer" >&2
		exit 1
	fi
	[ -x .venv/bin/pip ] || "$$python" -m venv .venv
	echo 'Installing into .venv, some minutes the first time ...'
	python -m pip install --disable-pip-version-check -qq -c constraints.txt -e '.[dev]'
	: > $@  # `install` writes the path of the clone into it

.PHONY: demo
demo: install ## Train on the bundled photographs, sample, evaluate, report
	@dvc repro
	echo "The report is reports/index.html, its numbers are in reports/metrics.json."

.PHONY: study
study: install ## Repeat the paper's ablation, in .state/study; the results go to reports/study
	@python -m pipelines.evaluate_ablations

.PHONY: paper
paper: override export PRESET := $(value PRESET)
paper: install ## What PRESET=NAME of presets/ costs on this machine; then run it, in .state/NAME
	@patchdm plan "$${PRESET:-?}" --here
	python -m pipelines.reproduce preset="$$PRESET"

# Prefect: see docs/prefect.md. URL of the server, and the work pool of a worker:
server deploy worker serve: export PREFECT_API_URL ?= http://127.0.0.1:4200/api
server deploy worker serve: export DO_NOT_TRACK := 1
worker: export POOL := local

.PHONY: server
server: install ## Serve Prefect's API and UI on http://127.0.0.1:4200
	@prefect server database upgrade --yes
	exec prefect server start

.PHONY: deploy
deploy: install ## Tell the server about the flows of prefect.yaml
	@for pool in local clones; do prefect work-pool create --overwrite --type process $$pool; done
	prefect gcl inspect gpu >/dev/null 2>&1 || prefect gcl create gpu --limit 1
	prefect automation inspect crashed >/dev/null 2>&1 ||
		prefect automation create --from-file automations.yaml
	prefect --no-prompt deploy --all
	printf '\n%s\n%s\n' 'Before `prefect deployment run`, in its shell:' \
		"export PREFECT_API_URL=$$PREFECT_API_URL"

.PHONY: worker
worker: install ## Run what the server requests, in this folder; POOL=NAME for another pool
	@# After Ctrl-C, Prefect's worker would ask a server that is gone for minutes.
	ends_in_time=; ! command -v timeout >/dev/null || ends_in_time='timeout --foreground --kill-after=4 0'
	PATCHDM_CLONE="$$PWD" exec $$ends_in_time \
		prefect worker start --type process --pool "$$POOL" --limit 1

.PHONY: serve
serve: deploy worker ## Deploy, then run what the server requests

.PHONY: remote
remote: override export URL := $(value URL)
remote: override export ENDPOINT := $(value ENDPOINT)
remote: install ## Keep outputs in URL=s3://BUCKET/PATH ENDPOINT=https://HOST, or in URL=FOLDER
	@if [ -z "$$URL" ]; then
		echo 'error: URL is missing, expected s3://BUCKET/PATH or a folder: docs/remotes.md' >&2
		exit 1
	fi
	dvc remote add --default --force storage "$$URL"
	[ -z "$$ENDPOINT" ] || dvc remote modify storage endpointurl "$$ENDPOINT"
	python -m pipelines.remote

.PHONY: smoke
smoke: install ## Run the whole DAG on tiny images, in a temporary clone
	@pytest tests/test_smoke.py

.PHONY: test
test: install ## Run the tests, all but the slow ones
	@pytest --numprocesses auto --maxprocesses 4 --dist worksteal

.PHONY: lint
lint: install ## Check style, types and spelling
	@ruff check
	ruff format --check
	mypy
	codespell

.PHONY: format
format: install ## Fix what ruff can fix
	@ruff check --fix
	ruff format

BENCHMARKS := $(sort $(notdir $(basename $(wildcard benchmarks/[a-z]*.py))))
SLOW_BENCHMARKS := coarse evaluation outward panoramas resolution solvers tilings

.PHONY: docs
docs: install ## Build the documentation site in site/; `python -m http.server -d site` serves it
	@python -m tools.figures
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict --quiet

.PHONY: bench
bench: install ## Measure speed and memory, one table per benchmark
	@for name in $(filter-out straightforward gpu evaluation_at_scale $(SLOW_BENCHMARKS),$(BENCHMARKS)); do
		python -m "benchmarks.$$name"
	done

.PHONY: benchslow
benchslow: install ## The slow benchmarks; some measure the demo's trained model
	@for name in $(SLOW_BENCHMARKS); do python -m "benchmarks.$$name"; done

.PHONY: dist
dist: install ## Build the sdist and the wheel of it, in dist/
	@rm -rf dist
	python -m build --outdir dist .
	ls -l dist

.PHONY: licences
licences: install ## List the licences of all packages that are required; fail if one forbids the use
	@python tools/licences.py

.PHONY: constraints
constraints: install ## Pin the packages of .venv in constraints.txt
	@pins=$$(pip freeze --exclude-editable | sed 's/+.*//')
	notes=$$(grep '^#' constraints.txt)
	printf '%s\n' "$$notes" "$$pins" > constraints.txt
	touch .venv/installed

.PHONY: clean
clean: install ## Remove outputs, saved progress and caches; .venv, DVC's cache, data/sources stay
	@python -m stages._outputs
	git clean -fdXq -- data reports ':(exclude)data/sources'
	rm -rf .state .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -path ./.venv -prune -o -name __pycache__ -exec rm -rf {} +

.ONESHELL:
