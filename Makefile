# The two commands: `make serve` and `make test`. Each sets up .venv by itself.

PYTHON ?= python3
BIN := .venv/bin
PIN := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1

.PHONY: serve bot setup setup-training test check format bench test-faults test-faults-short test-cluster audit lock clean

serve: setup ## open http://127.0.0.1:8080
	$(BIN)/python -m web serve $(if $(PORT),--port $(PORT))

bot: setup ## needs DISCORD_TOKEN
	$(BIN)/python -m bot

setup: .venv/.serving

setup-training: .venv/.training ## what python -m trainer needs

test: .venv/.developing ## a process a core, at most four; a file's tests share what they set up
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: .venv/.developing ## format, lint, strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/.developing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.developing ## prints tables; nothing is asserted about time
	$(BIN)/python -m tests.benchmarks

test-faults: .venv/.developing ## kills, starves and floods real processes, for an hour
	FAULTS=full $(BIN)/python -m pytest -s -m faults tests/faults

test-faults-short: .venv/.developing ## the same for a few minutes, as CI does
	$(BIN)/python -m pytest -m faults --numprocesses 2 --dist loadfile tests/faults

test-cluster: .venv/.developing ## engine and interfaces on replicas in a Ray cluster of four nodes, all on this machine
	$(PIN) $(BIN)/pip install --quiet --editable ".[cluster]"
	$(BIN)/python -m pytest -m cluster

audit: .venv/.developing ## known vulnerabilities in the pinned packages
	$(BIN)/python .ci/audit.py

lock: .venv/.developing ## renew every pin from the ranges in pyproject.toml
	$(BIN)/pip install --quiet "pip-tools>=7.6,<8"
	$(BIN)/pip-compile --quiet --upgrade --all-extras --strip-extras --allow-unsafe --no-header \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file constraints.txt pyproject.toml
	sed --in-place 's/^\(torch==[^+]*\)+.*/\1/' constraints.txt # any build of that version will do

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/.python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("expected Python 3.11 or newer, got " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	touch $@

.venv/.serving: .venv/.python pyproject.toml constraints.txt
	$(PIN) $(BIN)/pip install --quiet --editable .
	touch $@

.venv/.training: .venv/.serving
	$(PIN) $(BIN)/pip install --quiet --editable ".[train]"
	touch $@

.venv/.developing: .venv/.training
	$(PIN) $(BIN)/pip install --quiet --editable ".[train,dev]"
	touch $@
