# `make help` lists the targets; it is read from the ## comments below.
# Settings, as in `make train MODEL=charlm` or `make test ARGS="-k lenet"`:
PYTHON  ?= python3
VENV    ?= .venv
MODEL   ?= lenet
WORKERS ?= 2
ARGS    ?=

BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

# The libraries that `make bench` measures beside graphnet live apart from its own tools.
PEERS       ?=
PEERS_VENV  ?= .bench-venv
PEERS_STAMP := $(PEERS_VENV)/.installed

# OpenBLAS picks the kernels that fit the processor. An inherited override such as OPENBLAS_CORETYPE=Haswell
# halves its speed on AVX-512 machines, so neither reaches a command started here.
unexport OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

.DELETE_ON_ERROR:
.PHONY: help venv train test test-gpu sanitize sanitize-gpu lint format bench bench-gpu reproduce golden clean
.DEFAULT_GOAL := help

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## Create .venv with $(PYTHON) and install graphnet and its tools, editable

$(STAMP): pyproject.toml setup.cfg
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: graphnet needs Python 3.11 or newer; '$(PYTHON)' is not: try make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

train: $(STAMP) ## Train MODEL (lenet) and write build/MODEL.png and the graph as build/MODEL.html
	@mkdir -p build
	$(BIN)/graphnet train $(MODEL) --plot build/$(MODEL).png $(ARGS)
	$(BIN)/graphnet dump $(MODEL) -o build/$(MODEL).html
	@echo "graph page: build/$(MODEL).html"

# Two workers on two cores: a BLAS that starts its own threads in each would only make them wait.
test: export OPENBLAS_NUM_THREADS := 1
test: export OMP_NUM_THREADS := 1
test: $(STAMP) ## Run the tests on WORKERS (2) processes; tests on real data need GRAPHNET_DATA
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

# Python itself is not instrumented, so the sanitizers' libraries are loaded in front of it.
SANITIZED := tests/conformance tests/graphnet/test_backend_c.py tests/kernels/cuda \
  $(filter-out %/conftest.py %/test_toolchain.py %/test_cache.py %/test_threads.py,$(wildcard tests/kernels/c/*.py)) \
  tests/compiler/test_random_graphs.py::test_the_c_backend_computes_the_same
sanitize: export CC := $(or $(SANITIZE_CC),gcc) -fsanitize=address,undefined -fno-sanitize-recover=all -g1
sanitize: export GRAPHNET_CACHE := $(CURDIR)/build/sanitize
sanitize: export ASAN_OPTIONS := detect_leaks=0
sanitize: export OPENBLAS_NUM_THREADS := 1
sanitize: $(STAMP) ## Run the C backend's tests under AddressSanitizer and UBSan (gcc; SANITIZE_CC=... for another)
	LD_PRELOAD="$$($(or $(SANITIZE_CC),gcc) -print-file-name=libasan.so) $$($(or $(SANITIZE_CC),gcc) -print-file-name=libubsan.so)" \
	  $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(SANITIZED) \
	  --apart -k "not numpy-" $(ARGS)

# On a machine with an NVIDIA GPU; CUDA_EXTRA=cuda12 where its driver is for CUDA 12.
CUDA_EXTRA ?= cuda
CUDA_STAMP := $(VENV)/.installed-$(CUDA_EXTRA)

$(CUDA_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[dev,$(CUDA_EXTRA)]'
	@touch $@

test-gpu: $(CUDA_STAMP) ## Run the tests that need a GPU
	$(BIN)/python -m pytest -m gpu -n 0 $(ARGS)

sanitize-gpu: $(CUDA_STAMP) ## Run the ops' conformance tests on the GPU under NVIDIA's compute-sanitizer
	for tool in memcheck racecheck initcheck; do \
	  compute-sanitizer --tool $$tool --error-exitcode 1 --target-processes all \
	    $(BIN)/python -m pytest -q -m gpu -n 0 tests/conformance $(ARGS) || exit 1; \
	done

bench-gpu: $(CUDA_STAMP) ## Measure on the GPU: beside PyTorch and JAX, the GPU's peaks, and open choices of the backend
	$(BIN)/python benchmarks/cuda_peaks.py
	$(BIN)/graphnet bench --device cuda $(ARGS)
	$(BIN)/python benchmarks/cuda_choices.py

lint: $(STAMP) ## Check style (ruff), formatting (ruff format) and types (mypy, strict)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	.ci/typing $(BIN)/mypy

format: $(STAMP) ## Let ruff mend style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) $(PEERS_STAMP) ## Measure graphnet beside the libraries that can be installed (PEERS="jax ..": only these)
	$(BIN)/graphnet bench --python $(PEERS_VENV)/bin/python $(ARGS)

$(PEERS_STAMP): benchmarks/requirements-peers.txt
	$(PYTHON) benchmarks/install_peers.py $(PEERS_VENV) $(PEERS)
	@touch $@

reproduce: $(STAMP) ## Train the reference models and write docs/reproduction.md
	$(BIN)/python benchmarks/reproduce.py --out docs/reproduction.md $(ARGS)

golden: $(STAMP) ## Rewrite tests/golden after an intended change; read the diff before committing
	$(BIN)/python -m pytest --update-golden $(ARGS)

clean: ## Remove what was built and cached, but not .venv
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
