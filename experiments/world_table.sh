#!/bin/sh
# The comparison of all systems on the photo world (see world_table.py), from an empty runs/ on:
#   sh experiments/world_table.sh quick [--base FOLDER]
#   sh experiments/world_table.sh full
# Stopped at any point, the same command goes on.
set -e
cd "$(dirname "$0")/.."
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" exec .venv/bin/python experiments/world_table.py "${@:-quick}"
