# Everything runs in .venv, made from the hash-locked requirements. `make help` lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
# The one tool that is not in the lock file, since it reads the lock file.
UV_VERSION := 0.13.9
export UV_NO_PROGRESS := 1
# The machine's own certificates where it has them: pip trusts those too, and a company's proxy is
# only among them.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),)
export UV_SYSTEM_CERTS ?= 1
endif

# The widest set first: the others are parts of it, in the same versions.
LOCK := $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url \
  --no-emit-find-links --python-version 3.11 --no-annotate --no-header

.DEFAULT_GOAL := help
.PHONY: help setup demo up secrets compose-up test lint types imports bench soak lock clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit("Secondlook needs Python 3.11 or newer; name one with make PYTHON=...") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# Two stamps, so that the demo does not wait for what only the tests need.
$(VENV)/.run: requirements.txt pyproject.toml | $(UV)
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements-dev.txt
	@touch $@

setup: $(VENV)/.dev ## everything needed to work on Secondlook

demo: $(VENV)/.run ## the whole job on real engines; EXIT=1 ends by itself, PORT=8000 serves elsewhere
	@$(BIN)/secondlook demo $(if $(EXIT),--exit) $(if $(PORT),--port $(PORT))

up: $(VENV)/.run ## the service with embedded engines, until Ctrl-C
	@$(BIN)/secondlook up $(if $(PORT),--port $(PORT))

secrets: ## random passwords for docker-compose.yml, each where there is none
	@mkdir -p secrets && chmod 700 secrets
	@for name in database_password valkey_password; do \
	  test -s secrets/$$name || od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n' > secrets/$$name; done
	@touch secrets/openai_api_key && chmod 644 secrets/*

compose-up: secrets ## the service in containers, built from here
	@docker compose up --build --detach --wait
	@echo "Secondlook runs. A key for it: docker compose exec api secondlook admin-key"

test: setup lint types imports ## lint, types, import contracts and every test
	@$(BIN)/pytest -n 2 --dist loadfile

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup
	@$(BIN)/mypy

imports: setup
	@$(BIN)/lint-imports --no-cache

bench: setup ## every goal beside its limit; ONLY="review_cycle label_calls" for some, SIZE=full for 5M
	@$(BIN)/python -m benchmarks.bench $(if $(SIZE),--size $(SIZE)) $(if $(ONLY),--only $(ONLY))

soak: setup ## every fault in full, an hour; ONLY="api_kills clocks" for some, SCALE=0.05 to try
	@$(if $(ONLY),,$(BIN)/pytest -q -m long)
	@$(BIN)/python -m tests.soak $(if $(SCALE),--scale $(SCALE)) $(if $(ONLY),--only $(ONLY))

lock: setup ## resolve the dependencies anew into the requirements files
	@$(LOCK) pyproject.toml --all-extras --group build --group dev -o requirements-dev.txt
	@$(LOCK) pyproject.toml --extra embedded --extra demo --group build -c requirements-dev.txt -o requirements.txt
	@$(LOCK) pyproject.toml --extra otel -c requirements-dev.txt -o requirements-otel.txt
	@$(LOCK) --group build -c requirements-dev.txt -o requirements-build.txt

clean: ## remove the environment and the caches; data directories stay
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
