# Everything runs in .venv, made from what pyproject.toml names.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
READY := $(VENV)/ready

.PHONY: help demo test mutants lint bindings bench-cpu rtx-check rtx-table test-gpu bench-gpu clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(READY) ## train, export, verify, sample and measure on real data: less than 4 minutes on 2 cores
	$(VENV)/bin/ganrt demo --out out/demo

test: $(READY) ## run every test that needs no GPU
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2

# Faults put into a copy of the code, one at a time, each of which a test must notice: minutes.
mutants: $(READY) ## put faults into a copy of the code; each must fail a test: minutes
	OMP_NUM_THREADS=1 $(VENV)/bin/python tests/mutants.py

# tests and examples use the installed names ganrt.export and ganrt.bench, so they are checked beside a folder in which
# these exist. They may call functions of other libraries that have no types, return what such a function gives, and
# replace a name that a module has imported; all else is strict.
TYPED := out/typed
CHECKED := $(wildcard tests examples)

lint: $(READY) ## ruff, and mypy --strict on the code, the tests and the examples
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy ganrt export bench
	rm -rf $(TYPED)
	mkdir -p $(TYPED)/ganrt
	ln -s $(CURDIR)/ganrt/* $(CURDIR)/export $(CURDIR)/bench $(TYPED)/ganrt
	ln -s $(addprefix $(CURDIR)/,$(CHECKED)) $(TYPED)
	cd $(TYPED) && MYPYPATH=.:tests $(CURDIR)/$(VENV)/bin/mypy --config-file $(CURDIR)/pyproject.toml \
	  --cache-dir $(CURDIR)/.mypy_cache/typed --explicit-package-bases --follow-imports silent \
	  --allow-untyped-calls --no-warn-return-any --implicit-reexport --exclude tests/golden/ $(CHECKED)

# TensorRT's Python bindings alone, a megabyte each: `make test` then checks ganrt against the real ones.
bindings: $(READY) ## fetch TensorRT's Python bindings, which the tests then use: a few megabytes
	$(VENV)/bin/pip download --quiet --no-deps $(PIP_ARGS) --dest out/bindings tensorrt-bindings==8.6.1
	for version in 10.13.3.9 10.16.1.11 11.4.0.106; do \
	  $(VENV)/bin/pip download --quiet --no-deps $(PIP_ARGS) --dest out/bindings tensorrt-cu13-bindings==$$version; done

# Over an hour on two cores, which must be left alone; a report that is there already is kept.
bench-cpu: $(READY) ## measure nine generators on this CPU: over an hour
	$(VENV)/bin/python -m ganrt.bench.suite bench/results/cpu

# NVIDIA's compiler needs no GPU. `make test` compiles every family in small, these two the generators of the suite too.
# Finding the layers that must stay in float takes most of the time; the check puts all of them into 8 bits.
rtx-check: $(READY) ## compile the nine generators with TensorRT for RTX, without a GPU: minutes
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m ganrt.bench.rtx_sweep out/rtx --suite --quality 10

rtx-table: $(READY) ## write the table of what TensorRT for RTX makes of all variants: minutes
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m ganrt.bench.rtx_sweep bench/results/rtx

# On a machine with a GPU: what is installed for $(PYTHON) there (torch, onnxruntime-gpu, tensorrt, cuda-core) is used as
# it is. Both write what they found into bench/results/gpu, with the date, the machine and the versions.
GPU_VENV := .venv-gpu

test-gpu: $(GPU_VENV)/ready ## run the tests that need an NVIDIA GPU
	$(GPU_VENV)/bin/python -m pytest -m gpu tests/on_gpu

bench-gpu: $(GPU_VENV)/ready ## measure on an NVIDIA GPU
	$(GPU_VENV)/bin/python -m ganrt.bench.gpu bench/results/gpu

$(GPU_VENV)/ready: pyproject.toml
	$(PYTHON) -m venv --system-site-packages $(GPU_VENV)
	$(GPU_VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

clean: ## remove the environments and everything that was built
	rm -rf $(VENV) $(GPU_VENV) out build dist *.egg-info

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check $(PIP_ARGS) --editable ".[dev]"
	touch $@
