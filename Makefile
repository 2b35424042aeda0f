# How imcore is built, checked and packaged. `make demo` and `make test` are all that a newcomer needs, `make help` lists
# the rest. What was made is kept, and made again only when something that it was made from has changed.

PYTHON ?= python3
FUZZ_SECONDS ?= 30
CHAOS_SECONDS ?= 600
EXCHANGES ?= 100000
ROWS ?= all
RUNS ?= 5
SECONDS ?= 2

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CORE := pyproject.toml setup.py $(wildcard src/imcore/_*.pyx src/imcore/*.pxd src/imcore/*.h)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-split test check benchmarks bench wheel chaos exchanges proxies hostile sanitize fuzz coverage clean distclean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1@/p' Makefile | tr @ '\t' | expand -t 14
	@echo 'PYTHON=python3.13 chooses the Python (3.11 or newer), FUZZ_SECONDS=300 fuzzes for longer, ROWS=1,2 benches less.'

demo: .venv/.built ## Build, then send real messages by every way there is and show what became of them
	@$(BIN)/imcore demo

demo-split: .venv/.with-test ## Roles as processes over a redis-server: business is killed and restarted while messages flow
	@$(BIN)/imcore demo --split

test: .venv/.with-test ## Build, then run the tests, and every benchmark once
	@$(BIN)/python -m pytest tests benchmarks --benchmark-disable

check: .venv/.with-test .venv/.with-check ## Style, types, stubs against the built modules, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint src/imcore
	$(BIN)/mypy
	$(BIN)/stubtest --concise --ignore-unused-allowlist --allowlist tools/stubtest.txt \
	    $(patsubst src/imcore/%.pyi,imcore.%,$(wildcard src/imcore/_*.pyi))
	$(BIN)/lint-imports
	@! git grep -nEI '/(work|root|home)/' -- . || { echo 'These lines name a path of one machine.' >&2; false; }

benchmarks: .venv/.with-test ## Measure the compiled core against its peers
	$(BIN)/python -m pytest benchmarks

bench: .venv/.with-test .venv/.with-bench ## Measure the gateway against its peers and the targets (half an hour)
	$(BIN)/python -m benchmarks.bench --install --rows $(ROWS) --runs $(RUNS) --seconds $(SECONDS)

wheel: .venv/.with-package ## Build sdist and wheel into dist/, and try both in empty environments
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python tools/verify.py dist/*

chaos: .venv/.with-test ## Kill, cut and stall everything for CHAOS_SECONDS, and see whether a message is lost or doubled
	$(BIN)/python -m tests.chaos $(CHAOS_SECONDS)

exchanges: .venv/.with-test ## Lose, double and delay EXCHANGES of the tunnel, and see whether a message is lost or doubled
	$(BIN)/python -m tests.proxies.lossy $(EXCHANGES)
	$(BIN)/python -m tests.proxies.lossy --device $(EXCHANGES)

proxies: .venv/.with-test ## Go through real proxies, alone and in every pair, and write into docs/tunnel.md how that went
	$(BIN)/python -m tests.proxies.passing docs/tunnel.md

hostile: .venv/.with-test .venv/.with-hostile ## Make hostile networks, and see what passes, and what of others (root)
	$(BIN)/python -m tests.hostile --others --page docs

sanitize: .venv/.with-test ## Run the tests under AddressSanitizer and UndefinedBehaviourSanitizer
	tools/sanitize.sh

fuzz: .venv/.with-fuzz ## Run every fuzz target for FUZZ_SECONDS
	tools/fuzz.sh $(FUZZ_SECONDS)

coverage: .venv/.with-test .venv/.with-coverage ## Show the lines that no test runs, in the compiled core too
	tools/coverage.sh

clean: ## Remove what was built
	rm -rf build dist src/*.egg-info src/imcore/*.so .venv/.built
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks .coverage

distclean: clean ## Remove the environment too
	rm -rf .venv

# The environment holds a stamp for each thing that was put into it. The first one is named after the version of the
# Python, so that another PYTHON makes the environment anew.
.venv/.python-$(VERSION):
	@tools/prerequisites.sh $(PYTHON)
	@if ls .venv/.python-* >/dev/null 2>&1; then rm -rf .venv; fi
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade 'pip>=25.1'
	@touch $@

.venv/.built: $(CORE) .venv/.python-$(VERSION)
	$(PIP) --group build
	$(PIP) --no-build-isolation --editable .
	@touch $@

.venv/.with-%: .venv/.built
	$(PIP) --group $*
	@touch $@
