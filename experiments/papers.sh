#!/bin/sh
# The papers' own experiments in small (see all_papers.py), all of them, from an empty runs/ on:
#   sh experiments/papers.sh quick [--base FOLDER] [--only NAME]
#   sh experiments/papers.sh full
# Stopped at any point, the same command goes on.
set -e
cd "$(dirname "$0")/.."
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" exec .venv/bin/python experiments/all_papers.py "${@:-quick}"
