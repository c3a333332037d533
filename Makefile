PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

BACKEND_TESTS := tests/test_backends.py tests/models/test_keras_metrics.py
# torch on PyPI is gigabytes for CUDA: taken where it is installed, or asked for by BACKENDS="jax torch"
BACKENDS ?= jax $(shell $(BIN)/python -c 'import torch; print("torch")' 2>/dev/null)

.PHONY: demo test anywhere chaos fuzz backends docs notebooks slow bench clean

demo: $(VENV)/installed  ## the whole line on synthetic radiographs -> demo/report.html
	$(BIN)/mura-tf demo demo

test: $(VENV)/installed  ## ruff, types, doctests and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 mura_tf
	$(BIN)/mypy --platform darwin mura_tf
	$(BIN)/python -m pytest -q -n auto --dist loadfile

anywhere: $(VENV)/installed  ## the fast tests as on other machines; ONLY="one-core random-order" for some
	$(BIN)/python tests/anywhere.py $(addprefix --only=,$(ONLY)) $(ARGS)

chaos: $(VENV)/installed  ## a grid whose processes and disk fail at 50 random moments; ARGS="--seed 1" for the same
	$(BIN)/python tests/chaos.py $(ARGS)

fuzz: $(VENV)/installed  ## 23,000 inputs, most of them damaged, each read right or refused; half an hour
	$(BIN)/python -m pytest -q -p no:randomly --hypothesis-profile=fuzz tests/fuzz $(ARGS)

backends: $(VENV)/installed  ## the line on Keras' other backends, jax and, where it is installed, torch
	for backend in $(BACKENDS); do \
		echo "Keras on $$backend"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$$backend]" || exit 1; \
		KERAS_BACKEND=$$backend JAX_COMPILATION_CACHE_DIR=$(CURDIR)/$(VENV)/jax \
		JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
		$(BIN)/python -m pytest -q $(BACKEND_TESTS) || exit 1; \
	done

docs: $(VENV)/installed  ## the documentation site -> site/index.html
	$(BIN)/python docs/build.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

notebooks: $(VENV)/installed  ## executes the notebooks in place
	$(BIN)/python notebooks/execute.py

slow: $(VENV)/installed  ## the long tests
	$(BIN)/python -m pytest -q -m slow

bench: $(VENV)/installed  ## the speed tables of benchmarks/README.md
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/scheduler.py
	$(BIN)/python benchmarks/grid.py
	$(BIN)/python benchmarks/size.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/explain.py

clean:
	rm -rf $(VENV) demo build site *.egg-info

$(VENV)/installed: setup.cfg requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@
