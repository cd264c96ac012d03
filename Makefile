# `make demo` and `make test` need only Python 3.11 and make: each installs what it needs into .venv, once.
PYTHON ?= python3
VENV ?= .venv
# The torch to install, by pip. On Linux the default wheel of the public index carries CUDA; for another build set TORCH
# and TORCH_ARGS, for example TORCH_ARGS="--index-url <PyTorch's index of CPU wheels>". Without an NVIDIA GPU nothing of
# CUDA is downloaded unless TORCH_ARGS says so. Everything else is installed by uv, or by pip where that cannot be had.
TORCH ?= $(shell grep '^torch==' constraints.txt)
TORCH_ARGS ?=
# Test files that run side by side; each such process starts a Ray of its own.
JOBS ?= 2
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: audit install demo table1 table2a table2b related applications serve studio test lint unit format wheel docs clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml setup.py constraints.txt deploy/install.py deploy/compile.py
	$(PYTHON) deploy/install.py $(VENV) --torch '$(TORCH)' --torch-args '$(TORCH_ARGS)' --extras dev,photos,metrics
	touch $@

demo: $(INSTALLED)
	$(BIN)/python pipelines/preprocess.py dataset=toon dataset.identities=240 output=data/demo
	$(BIN)/python pipelines/train.py experiment=demo data=data/demo
	$(BIN)/python pipelines/evaluate.py protocol=demo adapters=[runs/demo/adapter.safetensors] output=runs/demo workers.num=0

# The paper's Table 1 on the toon base: three trainings, then seven methods on 24 people. Hours on two cores; the same
# command goes on where it was stopped.
table1: $(INSTALLED)
	$(BIN)/python pipelines/preprocess.py dataset=toon dataset.identities=1000 output=data/table1
	$(BIN)/python pipelines/train.py experiment=table1 data=data/table1 name=table1/photomaker
	$(BIN)/python pipelines/train.py experiment=table1 data=data/table1 name=table1/ip_adapter model=ip_adapter
	$(BIN)/python pipelines/train.py experiment=table1 data=data/table1 name=table1/fastcomposer model=fastcomposer \
		train.lr_lora=1e-4
	$(BIN)/python pipelines/evaluate.py comparison=table1

# The paper's Tables 2a and 2b where references hide parts of the person: 15 trainings each, then 1 to 4 references on 128
# people. Many hours on two cores; the same command goes on where it was stopped.
COVERED := dataset=toon dataset.identities=1000 dataset.occlusion=0.35 dataset.omit=0.35

table2a: $(INSTALLED)
	$(BIN)/python pipelines/preprocess.py $(COVERED) output=data/covered
	$(BIN)/python pipelines/train.py experiment=table2a data=data/covered seed=0,1,2,3,4
	$(BIN)/python pipelines/evaluate.py comparison=table2a

table2b: $(INSTALLED)
	$(BIN)/python pipelines/preprocess.py $(COVERED) output=data/covered
	$(BIN)/python pipelines/preprocess.py $(COVERED) dataset.photos_per_identity=1 min_photos=1 output=data/covered_wild
	$(BIN)/python pipelines/train.py experiment=table2b data=data/covered wild=data/covered_wild seed=0,1,2,3,4
	$(BIN)/python pipelines/evaluate.py comparison=table2b

# Losses and adapters of the related work, three seeds each on one budget, with intervals over people and seeds.
related: $(INSTALLED)
	$(BIN)/python pipelines/preprocess.py $(COVERED) output=data/covered
	$(BIN)/python -m pm.toon.pretrain.recogniser runs/recogniser/recogniser.safetensors
	$(BIN)/python pipelines/train.py experiment=related data=data/covered
	$(BIN)/python pipelines/evaluate.py comparison=related

applications: $(INSTALLED)
	for each in class_word mixing old_photos contexts; do \
		$(BIN)/python pipelines/evaluate.py comparison=$$each || exit 1; done
	$(BIN)/python benchmarks/mixing_curve.py runs/applications/mixing

serve: $(INSTALLED)
	$(BIN)/python pipelines/serve.py

# Pages for the browser: portraits, data, training, evaluation; opens one when it is ready.
studio: $(INSTALLED)
	$(BIN)/python pipelines/serve.py studio=local

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

# Known defects of what is installed: asks the internet, so it is no part of the tests.
audit: $(INSTALLED)
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

unit: $(INSTALLED)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests/unit

test: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder tests

# A file that installs anywhere, into dist/.
wheel: $(INSTALLED)
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site needs neither torch nor Ray: the sources are read, not imported.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/.docs: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" > $(VENV)/docs.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -r $(VENV)/docs.txt
	touch $@

# SDXL at its real size with random weights, on the CPU: memory and time of every stage. Hours, 24 GiB of memory and 45
# of disk; the same command goes on where it was stopped. SIZE=tenth: the same layers, a tenth as wide, in minutes.
.PHONY: rehearsal
SIZE ?= full
rehearsal: $(INSTALLED)
	$(BIN)/python -m benchmarks.rehearsal --size $(SIZE) --output runs/rehearsal-$(SIZE)

clean:
	rm -rf runs/demo data/demo build dist
