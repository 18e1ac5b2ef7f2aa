# Targets a newcomer needs: `make demo` and `make test`. Everything is installed into .venv from locked, hashed packages.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
CLIENTS := .venv-clients/.ready
PEERS  := .venv-peers/.ready
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo up test slow check bench soak drill recovery mutants audit lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: $(VENV)/.runtime ## Run the main job end to end on the embedded default: no account, no server, no docker
	@$(BIN)/corro demo

up: $(VENV)/.runtime ## Bring everything up until Ctrl-C, for `corro submit` in a second terminal
	@$(BIN)/corro up

test: $(VENV)/.dev $(CLIENTS) ## Run the tests: unit, contract, integration, chaos, other clients; SQLite and PostgreSQL
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

slow: $(VENV)/.dev $(CLIENTS) ## Run what `make test` leaves out: the long tests, and each story of a fleet on both databases
	@$(BIN)/python -m pytest -m soak
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --both-databases tests/chaos tests/integration

check: $(VENV)/.dev ## Lint, types, layers, migrations
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

api-check: $(VENV)/.dev ## Drive the HTTP interface over a sandbox by its OpenAPI document, with schemathesis
	@$(BIN)/python -m tests.api_check

bench: $(VENV)/.dev $(PEERS) ## Measure against the floor and the peers, into docs/performance.md; QUICK=1 for a first look
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(if $(JSON),--json $(JSON))

soak: $(VENV)/.dev ## 100,000 faults, then the table and the three zeros; FAULTS= SEED= WORLD= MINUTES= JSON=
	@$(BIN)/python -m tests.soak --faults $(or $(FAULTS),100000) --seed $(or $(SEED),1) $(if $(WORLD),--world $(WORLD)) \
	  $(if $(MINUTES),--minutes $(MINUTES)) $(if $(JSON),--json $(JSON))
	@$(if $(WORLD),:,CORRO_PROPERTY_EXAMPLES=5000 CORRO_PROPERTY_STEPS=60 $(BIN)/python -m pytest --timeout 3600 \
	  tests/property/test_claim_protocol.py)

drill: $(VENV)/.dev ## Inject each fault of docs/page.md: when do the page, the alert and the message tell of it; ONLY= SHOTS= JSON=
	@$(BIN)/python -m tests.drill $(if $(ONLY),"$(ONLY)") $(if $(SHOTS),--shots $(SHOTS)) $(if $(JSON),--json $(JSON))

recovery: $(VENV)/.dev ## How long it takes to get well, with the timing of production; TIMES=
	@$(BIN)/python -m tests.soak.recovery --times $(or $(TIMES),100)

mutants: $(VENV)/.dev ## Take each guard away and see that a test fails (docs/mutants.md)
	@$(BIN)/python tests/mutants/run.py

audit: $(VENV)/.dev ## A bill of what is locked (dist/sbom.json); ADVISORIES= a clone of pypa/advisory-database: held against it
	@$(BIN)/python tests/audit.py $(if $(ADVISORIES),--advisories $(ADVISORIES))

lock: $(VENV)/.dev ## Write the lock files anew from pyproject.toml
	@$(BIN)/python -m pip install -q uv
	@for part in all dev; do \
	  $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --no-annotate pyproject.toml requirements/build.in --extra $$part -o requirements/$$part.lock; done
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --no-annotate requirements/clients.in -o requirements/clients.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --no-annotate --no-deps requirements/clients-specs.in -o requirements/clients-specs.lock
	@for part in api peers peers-arq; do \
	  $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --no-annotate requirements/$$part.in -o requirements/$$part.lock; done

clean: ## Remove the environment and what runs left behind
	rm -rf $(VENV) .venv-api .venv-clients .venv-peers .corro dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "corro needs Python 3.11 to 3.13; set PYTHON=python3.x"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.python requirements/all.lock pyproject.toml
	@echo "Installing corro into $(VENV) ..."
	@$(PIP) install -q --require-hashes -r requirements/all.lock
	@$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

$(CLIENTS): $(VENV)/.dev requirements/clients.lock requirements/clients-specs.lock tests/foreign/environments.py
	@echo "Installing the brokers' other clients into .venv-clients ..."
	@$(BIN)/python tests/foreign/environments.py
	@touch $@

$(PEERS): $(VENV)/.dev requirements/peers.lock requirements/peers-arq.lock tests/foreign/environments.py
	@echo "Installing what corro is measured against into .venv-peers ..."
	@for part in peers peers-arq; do \
	  $(BIN)/python tests/foreign/environments.py .venv-peers/$$part requirements/$$part.lock || exit 1; done
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.lock
	@echo "Installing the test tools into $(VENV) ..."
	@$(PIP) install -q --require-hashes -r requirements/dev.lock
	@touch $@
