# make demo [SEED=7]   three conversations, in the terminal and in demo/index.html
# make serve           the page and the API, at http://localhost:8765
# make test            the tests
# make check           format, lint, types
SEED ?= 0
VENV := .venv/bin

.PHONY: help demo serve test check core dev clean

help:
	@sed -n 's/^# //p' Makefile

demo: core
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(VENV)/showtell demo --seed $(SEED) --out demo

serve: core
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(VENV)/showtell serve --open

# one thread a process: two processes with two threads each get in each other's way on two cores
test: dev
	@OMP_NUM_THREADS=1 $(VENV)/python -m pytest -n 2

check: dev
	@$(VENV)/ruff format --check .
	@$(VENV)/ruff check .
	@$(VENV)/mypy

# These do nothing when .venv is up to date with constraints.txt and pyproject.toml.
core dev:
	@python=$$(PYTHON='$(PYTHON)' sh scripts/find_python.sh) && "$$python" scripts/setup_env.py $@

clean:
	rm -rf demo .pytest_cache .ruff_cache .mypy_cache
