# make demo    trains Double DQN on CartPole to its goal and shows the result
# make test    every test and check; what CI runs
# make bench   the benchmark tables, against rivals
# make docs    the documentation site, build/site/index.html
# All of them set up what they need in $(VENV). `make clean` removes it and the builds.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Pinned, because a plain torch may be gigabytes of CUDA packages.
INSTALL := $(PIP) install --quiet --constraint constraints.txt
BUILD_TOOLS := torch numpy scikit-build-core cmake ninja
SOURCES := pyproject.toml CMakeLists.txt $(shell find csrc cmake -type f)
JOBS := $(shell nproc 2>/dev/null || echo 2)

.PHONY: demo test test-cpp test-python test-sanitized test-install check bench docs learn clean

demo: $(VENV)/.demo
	$(BIN)/machin-fast demo

test: check test-cpp test-python test-sanitized test-install

# -- the environment ---------------------------------------------------------------------------

$(VENV)/.tools: constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "Installing torch and build tools into $(VENV) ..."
	$(INSTALL) $(BUILD_TOOLS)
	touch $@

$(VENV)/.demo: $(VENV)/.tools $(SOURCES) $(shell find machin_fast -name '*.py')
	@echo "Building and installing machin_fast ..."
	$(INSTALL) --no-build-isolation '.[demo]'
	touch $@

$(VENV)/.test: $(VENV)/.tools $(SOURCES)
	@echo "Building machin_fast for development ..."
	$(INSTALL) --no-build-isolation --editable '.[demo,test]'
	touch $@

$(VENV)/.bench: $(VENV)/.test
	$(INSTALL) --no-build-isolation --editable '.[demo,test,bench]'
	touch $@

# -- tests -------------------------------------------------------------------------------------

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(shell find csrc cpp_tests -name '*.h' -o -name '*.cpp' -o -name '*.cu')

test-cpp: $(VENV)/.tools
	tools/system_packages.sh
	$(BIN)/cmake -S . -B build/cpp -G Ninja -DMF_TESTS=ON -DMF_PYTHON=OFF -DMF_WERROR=ON
	$(BIN)/cmake --build build/cpp --parallel $(JOBS)
	$(BIN)/ctest --test-dir build/cpp --output-on-failure --parallel $(JOBS)

# Idle OpenMP threads sleep: spinning ones would starve whatever shares the cores.
test-python test-sanitized: export OMP_WAIT_POLICY = passive

test-python: $(VENV)/.test
	$(BIN)/python -m pytest -m "not alone" -n $(JOBS) --dist worksteal python_tests
	$(BIN)/python -m pytest -m alone python_tests

test-sanitized: $(VENV)/.test
	tools/system_packages.sh
	PATH="$(abspath $(BIN)):$$PATH" tools/sanitize.sh

test-install: $(VENV)/.tools
	PYTHON=$(PYTHON) tools/check_install.sh

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/.test
	$(BIN)/mkdocs build --strict --quiet

learn: $(VENV)/.test
	$(BIN)/python tools/learn.py

clean:
	rm -rf $(VENV) build
