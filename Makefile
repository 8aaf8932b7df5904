# Every target sets itself up in .venv and is quick when nothing changed. `make help` lists them.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# Done set-ups are remembered by what pyproject.toml says, not by its date: a fresh checkout changes only dates.
KEY := $(shell cksum < pyproject.toml | cut -d ' ' -f 1)
STAMP = $(VENV)/stamps/$(1)-$(KEY)
SOURCES := src tests tools $(wildcard benchmarks)
ARGS ?=
# As many processes as cores, each with one thread (tests/conftest.py); ARGS="-n 0" is one process.
PYTEST := tools/with-display.sh $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

export NAPARI_STRICT_QT := 1
# Before anything loads torch: see src/napari_styletransfer/__init__.py.
export GOMP_SPINCOUNT ?= 2000

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-pyside fuzz lint format bench docs clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS=$$'\t' read -r name what; do \
	  printf '  make %-12s %s\n' "$$name" "$$what"; done

demo: $(call STAMP,base) ## stylise the sample pictures into demo-output/
	$(BIN)/napari-styletransfer demo -o demo-output $(ARGS)

test: $(call STAMP,test) ## run the tests, but for the slow ones (ARGS="-k name" chooses)
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(call STAMP,test) ## run all tests, and hypothesis for longer
	HYPOTHESIS_PROFILE=long $(PYTEST) $(ARGS)

# The other Qt binding lies in a folder of its own, so that it needs no second torch and `make test` does not see it.
test-pyside: $(call STAMP,pyside6) ## run the tests of the form with PySide6 in place of PyQt6
	QT_API=pyside6 PYTEST_QT_API=pyside6 PYTHONPATH=$(CURDIR)/$(VENV)/pyside6 \
	  $(PYTEST) -m "not slow" tests/test_worker.py tests/test_output_image.py tests/widget $(ARGS)

fuzz: $(call STAMP,test) ## try 10,000 odd inputs of each kind (ARGS="files --first 10000" chooses)
	$(BIN)/python -m tests.fuzz $(ARGS)

lint: $(call STAMP,lint) ## check style, format, types and which package knows which
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(call STAMP,lint) ## put the code into the house format
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(call STAMP,base) ## measure speed, memory and pictures against the textbook loop
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(call STAMP,docs) ## build the documentation into site/
	$(BIN)/mkdocs build --strict
	@echo "Written: site/index.html"

clean: ## remove what the targets wrote, but for .venv
	rm -rf build dist site demo-output bench-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf $(VENV)

$(call STAMP,pyside6): $(call STAMP,test)

$(VENV)/stamps/%-$(KEY):
	@tools/environment.sh $(VENV) $* $@
