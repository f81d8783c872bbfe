# make demo [SEED=7]   four conversations, in the terminal and in demo/index.html
# make serve [PORT=8765]   the page and the API, at http://localhost:8765
# make soak [SECONDS=300 KILLS=100]   16 conversations at once against a server of mini's; then one
#                      that is killed again and again, and whose disk is full;
#                      two replicas over one database (pip install '.[ray]'), one of which dies
# make test            the tests
# make check           format, lint, types
SEED ?= 0
PORT ?= 8765
SECONDS ?= 300
KILLS ?= 100
VENV := .venv/bin

.PHONY: help demo serve soak test check core dev clean

help:
	@sed -n 's/^# //p' Makefile

demo: core
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(VENV)/showtell demo --seed $(SEED) --out demo

serve: core
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(VENV)/showtell serve --open --port $(PORT)

soak: dev
	@data=$$(mktemp -d); $(VENV)/showtell serve --model mini --port 8799 --data $$data & server=$$!; \
	trap "kill $$server; rm -rf $$data" EXIT; \
	until curl -sf http://127.0.0.1:8799/health >/dev/null; do sleep 1; done; \
	$(VENV)/python benchmarks/soak.py --address http://127.0.0.1:8799 --seconds $(SECONDS) --pid $$server
	@$(VENV)/python benchmarks/soak_faults.py --kills $(KILLS)
	@$(VENV)/python -m pytest -m long -rs

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
