# Two commands do everything on a fresh machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3.11
# Extra arguments for pip. On Linux without a GPU, this avoids the CUDA build of torch:
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
DEMO := out/demo

.PHONY: demo test test-slow test-zoo zoo-table zoo-check lint types package check bench tensorrt clean help

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ —/'

# The stamp is newer than what decides the environment, so a second make costs nothing.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e ".[openvino,coreml,tensorrt,validate,test,lint]"
	mkdir -p .types && ln -sfn .. .types/fourfold
	touch $@

demo: $(VENV)/.installed  ## Export smt_nano for three targets and compare them in one report
	$(BIN)/fourfold export smt_nano --device cpu-ort -o $(DEMO) --overwrite
	$(BIN)/fourfold export smt_nano --device cpu-ort --precision int8 -o $(DEMO) --overwrite
	$(BIN)/fourfold export smt_nano --device cpu-openvino -o $(DEMO) --overwrite
	$(BIN)/fourfold report $(DEMO)/smt_nano@* -o $(DEMO)/report.html --compare --overwrite

test: $(VENV)/.installed  ## Run the tests
	$(BIN)/python -m pytest -q

test-slow: $(VENV)/.installed  ## Run the long sweeps as well
	$(BIN)/python -m pytest -q -m "not zoo"

test-zoo: $(VENV)/.installed  ## Run every network of the zoo at its published size (hours)
	$(BIN)/python -m pytest -q -m zoo

zoo-table: $(VENV)/.installed  ## Write docs/zoo.md from the zoo and from what test-zoo found
	$(BIN)/python benchmarks/zoo_page.py

zoo-check: $(VENV)/.installed  ## Check that docs/zoo.md is what zoo-table would write
	$(BIN)/python -m pytest -q -m zoo tests/test_zoo_page.py

lint: $(VENV)/.installed  ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed  ## Check types
	$(BIN)/pyright

package: $(VENV)/.installed  ## Build the wheel and the source archive into dist/
	$(BIN)/python -m build --no-isolation --outdir dist

check: lint types test zoo-check  ## Everything that CI checks

bench: $(VENV)/.installed  ## Measure every route side by side (long)
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e ".[bench,timm]"
	$(BIN)/python benchmarks/routes.py

tensorrt: $(VENV)/.installed  ## Build the zoo for a GPU that is not here, and write docs/tensorrt.md (long)
	$(BIN)/python benchmarks/trt_support.py

clean:  ## Remove what the build made; .venv and out/ stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
