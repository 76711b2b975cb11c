# The commands of the README. `make run` and `make test` set up whatever is missing first, each part once.

PYTHON ?= python3
SCENARIO ?= scenarios/quickstart.toml
BIN := .venv/bin
KAFKA_DIR := .kafka

.PHONY: setup run test check bench lock clean

run: setup
	$(BIN)/harness run $(SCENARIO)

test: setup
	$(BIN)/python -m pytest

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m tests.bench

setup: .venv/installed $(KAFKA_DIR)/installed

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# The jars of a real Apache Kafka, as pinned in harness/stacks/kafka/pom.xml, and what makes it start quickly.
$(KAFKA_DIR)/installed: harness/stacks/kafka/pom.xml | .venv/installed
	@command -v mvn >/dev/null || { echo "Maven is missing: it brings the jars of Apache Kafka. Install Maven and a JDK 17." >&2; exit 1; }
	mvn --quiet --batch-mode -f harness/stacks/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(KAFKA_DIR)/libs
	$(BIN)/python -m harness.stacks.prepare
	touch $@

# Renews the locks; needs uv. Hashes are kept, index addresses are not.
lock:
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -c requirements.lock machines/requirements.in -o machines/requirements.lock

clean:
	rm -rf .venv $(KAFKA_DIR)
