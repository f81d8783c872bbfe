#!/bin/sh
# The shipped model mini, from nothing: world_base, then three runs of world_mini.
#   sh experiments/mini.sh [FOLDER]        (default runs/mini; some 7 hours on 2 cores)
# Stopped at any point, the same command goes on. Each part has been run, but never in one go: the
# shipped weights grew over several trainings, with other numbers of steps (see LOG.md).
set -e
cd "$(dirname "$0")/.."
runs="${1:-runs/mini}"

train() { # NAME RECIPE SETTING...
    name=$1 recipe=$2
    shift 2
    [ -f "$runs/$name/model/showtell.json" ] && return
    resume=""
    [ -d "$runs/$name" ] && resume=--resume
    for setting; do
        set -- "$@" --set "$setting"
        shift
    done
    OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" "${SHOWTELL:-.venv/bin/showtell}" train "$recipe" "$@" \
        --out "$runs/$name" $resume
}

train base world_base
# copying into captions, seeing, and the photo's loss: excerpts are short, so many photos a second
train copying world_mini "base=$runs/base/model"
# when to share: whole dialogues, and some words dropped, so that turns are not known by heart
train talking world_mini "base=$runs/copying/model" stage.excerpts=0.3 stage.drop_words=0.1 \
    stage.steps=1500 stage.batch_size=48 stage.learning_rate=1e-3 stage.warmup=50 \
    'stage.weights={"t":1.0,"moment":2.0,"caption":1.0,"v":1.0}'
# all of it, at a lower rate
train all world_mini "base=$runs/talking/model" stage.excerpts=0.4 stage.drop_words=0.12 \
    stage.steps=400 stage.learning_rate=5e-4 stage.warmup=20 stage.ema=0.99 \
    bridge.annealing_epochs=0.15 calibration_dialogues=4000 \
    'stage.weights={"t":1.0,"moment":3.0,"caption":1.5,"v":1.0}'
echo "Wrote $runs/all/model; python experiments/ship.py $runs/all/model mini puts it among the shipped"
