# Each target first sets up what it needs: once, and again only when the dependencies change.

PYTHON ?= python3

.PHONY: help train test test-browser test-frameworks lab notebooks bench torture format

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

train: .venv/ready ## train the network of pytorch_script.py
	.venv/bin/python pytorch_script.py

test: .venv/ready ## run all tests, two side by side, and then all notebooks, which measure
	.venv/bin/pytest tests -n 2 --dist loadfile
	.venv/bin/pytest notebooks

test-browser: .venv/browser ## move the widgets of the chapters in a real browser (needs Chromium)
	.venv/bin/pytest tests/browser

test-frameworks: build/frameworks/ready ## train in Lightning, accelerate and Hugging Face's Trainer
	build/frameworks/bin/pytest tests/frameworks

lab: .venv/ready ## open the chapters in JupyterLab
	.venv/bin/jupyter lab --LabApp.default_url=/lab/tree/notebooks

notebooks: .venv/ready ## run the chapters and store what they show
	.venv/bin/python tools/run_notebooks.py

bench: build/bench/ready ## measure our loaders beside the peers' (half an hour, on a quiet machine)
	PYTHONPATH=. build/bench/bin/python benchmarks/peers.py
	PYTHONPATH=. build/bench/bin/python benchmarks/peers.py --large
	PYTHONPATH=. build/bench/bin/python benchmarks/prefetch_profile.py
	PYTHONPATH=. build/bench/bin/python benchmarks/composed.py
	PYTHONPATH=. build/bench/bin/python benchmarks/decoders.py
	PYTHONPATH=. build/bench/bin/python benchmarks/images.py

torture: .venv/ready ## kill, interrupt, fill and mutate everything, and count what comes of it (10 minutes)
	PYTHONPATH=. .venv/bin/python benchmarks/torture.py

format: .venv/ready ## format code and notebooks, and mend what can be mended
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

# The stamp is written last: a set-up that failed halfway is tried again by the next make.
.venv/ready: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo 'Needs Python 3.11 or newer with venv (on Debian: apt install python3-venv);' \
	         'to use another Python: make PYTHON=python3.12' >&2; exit 1; }
	"$(PYTHON)" -m venv .venv
	.venv/bin/python -m pip install -e '.[test]' -c constraints.txt
	@touch $@

.venv/browser: .venv/ready
	.venv/bin/python -m pip install -e '.[browser]' -c constraints.txt
	@touch $@

# Apart from the project's own environment: these bring much, and each wants its own versions.
build/frameworks/ready: pyproject.toml constraints.txt tests/frameworks/requirements.txt
	"$(PYTHON)" -m venv build/frameworks
	build/frameworks/bin/python -m pip install -e . -r tests/frameworks/requirements.txt -c constraints.txt
	@touch $@

# MosaicML Streaming apart from the others, whose packages it would downgrade.
build/bench/ready: benchmarks/requirements.txt benchmarks/requirements-streaming.txt
	"$(PYTHON)" -m venv build/bench
	build/bench/bin/python -m pip install -r benchmarks/requirements.txt
	"$(PYTHON)" -m venv build/bench-streaming
	build/bench-streaming/bin/python -m pip install -r benchmarks/requirements-streaming.txt
	@touch $@
