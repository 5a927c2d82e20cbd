# make bench: environment, embedded data, all systems, leaderboard.    make test: everything that CI checks.
# make test-fast: the same without the tests that start a cluster, within six minutes on two cores.
# make test-torch TORCH=2.11.0: the fast tests with another version of torch, in an environment of its own.
# make docs: the documentation as a site, in site/.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(shell command -v uv >/dev/null 2>&1 \
	&& echo 'uv pip install --quiet --python $(BIN)/python' || echo '$(BIN)/pip install --quiet --disable-pip-version-check')
# in two processes: see conftest.py; if one dies, the run ends (with a new one in its place, it would wait for ever)
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --max-worker-restart=0 --durations=15
# Without an NVIDIA GPU torch's CPU build is taken, if pip finds one: the usual build brings gigabytes of CUDA.
CPU_TORCH = command -v nvidia-smi >/dev/null 2>&1 || $(BIN)/python -c 'import torch' 2>/dev/null || \
	for version in 2.15.0 2.14.1 2.13.0; do $(INSTALL) "torch==$$version+cpu" 2>/dev/null && break; done || true
# uv does not read pip's setting for local wheels
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif

.PHONY: bench test test-fast test-torch docs lint clean

bench: .venv/.installed
	$(BIN)/python sweeps/all_types.py --preset demo

test: .venv/.installed-dev lint
	$(PYTEST)

test-fast: .venv/.installed-dev lint
	$(PYTEST) -m 'not cluster'

test-torch:
	$(PYTHON) -m venv .venv-torch-$(TORCH)
	.venv-torch-$(TORCH)/bin/pip install --quiet --disable-pip-version-check torch==$(TORCH) -e '.[dev]'
	.venv-torch-$(TORCH)/bin/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder -m 'not cluster'

docs: .venv/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml | $(BIN)/python
	@echo "installing asdbench into .venv (a few minutes on a fresh machine)"
	@$(CPU_TORCH)
	$(INSTALL) -e .
	@touch $@

.venv/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing asdbench with its development tools into .venv (a few minutes on a fresh machine)"
	@$(CPU_TORCH)
	$(INSTALL) -e '.[dev]'
	@touch $@ .venv/.installed

clean:
	rm -rf .venv .venv-torch-* site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
