# `make demo` dubs a small film, `make test` runs the tests, `make lint` checks style, types and floors, `make weights`
# trains the shipped weights anew from the dataset in DATASET=….
# PYTHON=… picks the interpreter, PIP_ARGS=… goes to every pip install, DEMO=… is where the demo's films go,
# JOBS=… is how many tests run at once.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo test lint docs weights clean

FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(shell for name in python3.11 python3.12 python3; do \
	"$$name" -c '$(FITS)' 2>/dev/null && { echo "$$name"; break; }; done)
PIP := .venv/bin/python -m pip install --disable-pip-version-check --quiet -c constraints/all.txt $(PIP_ARGS)
FACE_MODELS := mediapipe==0.10.14
DEMO ?= demo
DATASET ?= dataset
JOBS ?= 2

# Idle OpenMP threads that spin make a small step a hundred times slower when another process is busy.
export OMP_WAIT_POLICY := PASSIVE

demo: .venv/ready
	@.venv/bin/unisync demo -o "$(DEMO)"

test: .venv/ready-dev
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(JOBS)

# Films and pictures of people stay out of the repository; the two named ones are ours to give.
lint: .venv/ready-dev
	@! git ls-files | grep -iE '\.(png|jpe?g|webp|gif|mp4|mov|mkv|webm|avi|wav|flac|mp3|m4a)$$' \
		| grep -vxE 'docs/demo\.jpg|src/unisync/data/demo-speech\.flac' \
		|| { echo "these must not be committed" >&2; exit 1; }
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/hadolint Dockerfile

# The pages that are made from the code, then the site of all pages, in site/.
docs: .venv/ready-dev
	.venv/bin/python tools/make_cli_page.py
	.venv/bin/python tools/make_comfyui_workflow.py
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --quiet
	@echo "open site/index.html"

weights: .venv/ready-train
	.venv/bin/unisync train recipes/embedded.toml --dataset "$(DATASET)"
	.venv/bin/unisync train recipes/sharp.toml --dataset "$(DATASET)" --out src/unisync/weights/mini.safetensors
	.venv/bin/unisync train recipes/omnisync-small.toml --dataset "$(DATASET)" --out src/unisync/weights/omnisync.safetensors
	cd src/unisync/weights && sha256sum *.safetensors > SHA256SUMS

clean:
	rm -rf .venv build dist site src/*.egg-info

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "UniSync needs Python 3.11 or 3.12, and neither is here." \
		"On Debian or Ubuntu: apt-get install python3.11 python3.11-venv; or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c '$(FITS)' || { echo "UniSync needs Python 3.11 or 3.12; $(PYTHON) is another." >&2; exit 1; }
	@echo "making .venv with $(PYTHON)"
	@"$(PYTHON)" -m venv .venv || { rm -rf .venv; \
		echo "No .venv could be made. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# mediapipe is never imported, only its model files are read: its own dependencies stay away.
.venv/ready: pyproject.toml constraints/all.txt | .venv/bin/python
	@echo "installing (the first time takes a few minutes)"
	@$(PIP) -e '.[demo]'
	@$(PIP) --no-deps $(FACE_MODELS)
	@touch $@

.venv/ready-dev: .venv/ready
	@echo "installing what developers need"
	@$(PIP) -e '.[dev]'
	@touch $@

.venv/ready-train: .venv/ready
	@echo "installing what training needs"
	@$(PIP) -e '.[train]'
	@touch $@
