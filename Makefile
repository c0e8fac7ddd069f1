# Everything runs in .venv, made from what pyproject.toml names.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
READY := $(VENV)/ready

.PHONY: help demo test mutants lint bindings bench-cpu rtx-check rtx-table gpu-bundles gpu-1 gpu-2 gpu-3 gpu-4 gpu-5 bench-gpu clean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

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
	  --allow-untyped-calls --no-warn-return-any --implicit-reexport --exclude 'tests/(golden|data)/' $(CHECKED)

# TensorRT's Python bindings alone, a megabyte each: `make test` then checks ganrt against the real ones.
bindings: $(READY) ## fetch TensorRT's Python bindings, which the tests then use: a few megabytes
	$(VENV)/bin/pip download --quiet --no-deps $(PIP_ARGS) --dest out/bindings tensorrt-bindings==8.6.1
	for version in 10.13.3.9 10.16.1.11 11.4.0.106; do \
	  $(VENV)/bin/pip download --quiet --no-deps $(PIP_ARGS) --dest out/bindings tensorrt-cu13-bindings==$$version; done

# Over an hour on two cores, which must be left alone; a report that is there already is kept.
bench-cpu: $(READY) ## measure nine generators, and trained weights at two sizes, on this CPU: over an hour
	$(VENV)/bin/python -m ganrt.bench.suite bench/results/cpu

# NVIDIA's compiler needs no GPU. `make test` compiles a small model of each family, and these two the suite's generators.
# Finding the layers that must stay in float takes most of the time; the check puts all of them into 8 bits.
rtx-check: $(READY) ## compile the nine generators with TensorRT for RTX, without a GPU: minutes
	cd tests && OMP_NUM_THREADS=1 $(CURDIR)/$(VENV)/bin/python -m rtx.sweep $(CURDIR)/out/rtx --suite --quick

rtx-table: $(READY) ## write the table of what TensorRT for RTX makes of all variants: minutes
	cd tests && OMP_NUM_THREADS=1 $(CURDIR)/$(VENV)/bin/python -m rtx.sweep $(CURDIR)/bench/results/rtx

# On a machine with an NVIDIA GPU, with or without a network: nothing is installed. $(PYTHON) is used with what it has, and
# with the packages in the folder $(SITE), if that is given. ganrt is found in a folder of links. Carry the bundles there.
# GPU_ARGS=--rehearse runs each check as far as it goes without a GPU.
SITE ?=
GPU_ARGS ?=
GPU_BUNDLES ?= out/gpu-bundles
GPU_RESULTS ?= bench/results/gpu
GPU_TREE := $(CURDIR)/out/gpu-tree
GPU_PYTHON = cd $(GPU_TREE) && PYTHONPATH="$(GPU_TREE)$(if $(SITE),:$(abspath $(SITE)))$${PYTHONPATH:+:$$PYTHONPATH}" \
  $(if $(findstring /,$(PYTHON)),$(abspath $(PYTHON)),$(PYTHON))

gpu-bundles: $(READY) ## export the bundles for gpu-1 to gpu-5, without a GPU: a minute
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m ganrt.bench.gpu.bundles $(GPU_BUNDLES)

gpu-1: ## on a GPU: kernels, streams, CUDA graphs, DLPack, PyTorch: 3 minutes
gpu-2: ## on a GPU: TensorRT for RTX: 2 minutes
gpu-3: ## on a GPU: ONNX Runtime's CUDA provider, with PyTorch as baseline: 4 minutes
gpu-4: ## on a GPU: TensorRT: 6 minutes
gpu-5: ## on a GPU: ncnn through Vulkan: 2 minutes
gpu-1 gpu-2 gpu-3 gpu-4 gpu-5: $(GPU_TREE)
	$(GPU_PYTHON) -m ganrt.bench.gpu.steps $(@:gpu-%=%) $(abspath $(GPU_RESULTS)) \
	  --bundles $(abspath $(GPU_BUNDLES)) $(GPU_ARGS)

bench-gpu: $(GPU_TREE) ## on a GPU: throughput and memory of four generators with TensorRT: an hour
	$(GPU_PYTHON) -m ganrt.bench.gpu.throughput $(abspath $(GPU_RESULTS))

$(GPU_TREE): FORCE
	rm -rf $@
	mkdir -p $@/ganrt
	ln -s $(CURDIR)/ganrt/* $(CURDIR)/export $(CURDIR)/bench $@/ganrt

FORCE:

clean: ## remove the environments and everything that was built
	rm -rf $(VENV) out build dist *.egg-info

# spandrel asks for torchvision, which brings CUDA's libraries; the tests do without it.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check $(PIP_ARGS) --editable ".[dev]"
	$(VENV)/bin/pip install --quiet --disable-pip-version-check $(PIP_ARGS) --no-deps "spandrel>=0.4.2"
	touch $@
