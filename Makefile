# Every target sets up what it needs. A fresh machine needs Python 3.11 with its venv module; `make parts` also needs Go 1.26 or newer.

PYTHON ?= $(firstword $(shell command -v python3.11) python3)
VENV   := .venv
PARTS  ?= $(if $(CANARYD_PARTS),$(CANARYD_PARTS),$(HOME)/.cache/canaryd-parts)
IMAGE  ?= canaryd:dev
WORLD  ?= sandbox
WORKERS ?= 6
ARGS   ?=
# Files of these names say that .venv holds what the demo needs, and what the tests need besides, as it is asked for now: other
# requirements or another layout of the packages, other name, set up anew.
hash    = $(shell cat $(1) | sha256sum | cut -c1-12)
RUNTIME := $(VENV)/runtime-$(call hash,requirements/runtime.txt pyproject.toml)
MADE    := $(VENV)/made-$(call hash,requirements/runtime.txt requirements/dev.txt pyproject.toml)
# GrowthBook's code for the benchmark and its tests, in a folder of its own: it asks for an older numpy, which what is called of it does not need.
OTHERS  := $(VENV)/others-$(call hash,requirements/bench.txt)
DOCS    := .venv-docs
DOCSMADE := $(DOCS)/made-$(call hash,requirements/docs.txt pyproject.toml)
HELM    = $(firstword $(shell command -v helm) $(wildcard $(PARTS)/bin/helm))

.DEFAULT_GOAL := help
.PHONY: demo test bench bench-real docs lint types image chart parts clean help venv

demo: $(if $(filter real,$(WORLD)),$(MADE),$(RUNTIME))  ## a good v2 to 100%, a bad v3 back to 0%, in this terminal (ARGS=--help; WORLD=real: on the real parts)
ifeq ($(WORLD),real)
	@$(VENV)/bin/python -m tests.real.demo $(ARGS)
else ifeq ($(WORLD),sandbox)
	@$(VENV)/bin/canaryd demo $(ARGS)
else
	@echo "WORLD must be sandbox or real, but is $(WORLD)" >&2; exit 2
endif

# Two of the workers begin with the tests on real parts, which wait for most of their time, as do many of the others: hence more workers
# than cores. What has real parts goes first where both want a core (tests/side_by_side.py).
test: $(MADE) $(OTHERS)  ## all tests that can run here, and one line on each kind left out (ARGS="-k name")
	@PYTHONPATH=$(OTHERS) $(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder $(ARGS)

bench: $(MADE) $(OTHERS)  ## the numbers that canaryd promises, in a table (fixed seeds)
	@PYTHONPATH=$(OTHERS) $(VENV)/bin/python -m bench $(ARGS)

bench-real: $(MADE)  ## 20 healthy and 20 bad releases on the real parts, in about 25 minutes (ARGS="--quick"; not in CI)
	@$(VENV)/bin/python -m bench.real_calibration $(ARGS)

docs: $(DOCSMADE)  ## the documentation as a site, in site/; dead links, and commands that do not exist, fail it
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --quiet --clean && echo "site/index.html"

lint: $(MADE)  ## style
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

types: $(MADE)  ## strict types of the package
	@$(VENV)/bin/mypy

image: Dockerfile  ## the container image, with buildah or docker (IMAGE=canaryd:dev)
	@if command -v buildah >/dev/null; then buildah build --tag $(IMAGE) .; \
	elif docker info >/dev/null 2>&1; then docker build --tag $(IMAGE) .; \
	else echo "make image needs buildah (apt-get install buildah) or a running docker; neither is here" >&2; exit 1; fi

chart:  ## lints and renders the Helm chart
	@test -n "$(HELM)" || { echo "make chart needs helm: on the PATH, or by make parts" >&2; exit 1; }
	@$(HELM) lint charts/canaryd
	@$(HELM) template canaryd charts/canaryd --include-crds >/dev/null && echo "charts/canaryd renders"

parts: $(MADE)  ## the real parts for tests/real: Kubernetes, Istio, Prometheus, Alertmanager (11 min the first time)
	@tests/real/cluster/install "$(PARTS)"
	@tests/real/cluster/debian

clean:  ## removes what the targets above made here (not the parts)
	@rm -rf $(VENV) $(DOCS) site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

venv: $(MADE)

$(RUNTIME):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "canaryd needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Name another: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { echo "no venv module: apt-get install python3-venv" >&2; exit 1; }
	@$(VENV)/bin/python requirements/install.py requirements/runtime.txt
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-compile --no-deps -e .
	@touch $@

$(MADE): $(RUNTIME)
	@$(VENV)/bin/python requirements/install.py requirements/dev.txt
	@touch $@

$(OTHERS): requirements/bench.txt $(MADE)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes --upgrade --target $@ -r $< \
		|| { rm -rf $@; exit 1; }
	@mkdir -p $@ && touch $@

$(DOCSMADE):
	@$(PYTHON) -m venv --clear $(DOCS) || { echo "no venv module: apt-get install python3-venv" >&2; exit 1; }
	@$(DOCS)/bin/python requirements/install.py requirements/docs.txt
	@touch $@
