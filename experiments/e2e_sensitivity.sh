#!/bin/sh
# How sensitive 2408.08650's model is to its settings (see e2e_sensitivity.py), in the photo world:
#   sh experiments/e2e_sensitivity.sh --base runs/world_base/model
# Stopped at any point, the same command goes on.
set -e
cd "$(dirname "$0")/.."
exec .venv/bin/python experiments/e2e_sensitivity.py "$@"
