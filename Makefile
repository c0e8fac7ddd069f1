# Everything runs in .venv, made from what pyproject.toml names.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
READY := $(VENV)/ready

.PHONY: demo test lint bench-cpu clean

demo: $(READY)
	$(VENV)/bin/ganrt demo --out out/demo

test: $(READY)
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2

lint: $(READY)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy ganrt export bench

# Over an hour on two cores, which must be left alone; a report that is there already is kept.
bench-cpu: $(READY)
	$(VENV)/bin/python -m ganrt.bench.suite bench/results/cpu

clean:
	rm -rf $(VENV) out build dist *.egg-info

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check $(PIP_ARGS) --editable ".[dev]"
	touch $@
