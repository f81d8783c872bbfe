#!/bin/sh
# The papers' tables in small, all of them or those named, with what they need before:
#   sh experiments/papers.sh quick|full [TABLE...]          TABLE: a script of this folder
# quick: one training seed and some hundred steps a row, to see what can be seen on 2 cores in a day.
# full: three seeds and as many steps and examples as the scripts say: days.
# $BASE names a world_base (else the shipped parts), $WORKERS how many rows are run side by side.
# Tables come to docs/results as they are finished; one that failed is named at the end, and the
# others go on. Stopped at any point, the same command goes on.
set -e
cd "$(dirname "$0")/.."
size=${1:?quick or full}
shift
runs=runs/papers/$size base=${BASE:-mini} failed=
clip=$runs/clip/model aligned="$runs/minigpt5_table6/vokens-seed-{seed}/model"

train() { # FOLDER RECIPE OPTION...: unless it is done
    folder=$1 recipe=$2
    shift 2
    [ -f "$folder/model/report.json" ] && return
    [ -d "$folder" ] && set -- "$@" --resume
    "${SHOWTELL:-.venv/bin/showtell}" train "$recipe" --out "$folder" "$@"
}

table() { # TABLE OPTION...
    script=experiments/$1.py
    shift
    "${PYTHON:-.venv/bin/python}" "$script" "$@" --base "$base" --workers "${WORKERS:-2}"
}

vokens() { # what the tables with vokens begin with, in each seed
    set -- --limit 2000
    [ "$size" = full ] || set -- --steps 600 --seeds 0 --limit 500
    table minigpt5_table6 "$@" --clip "$clip" --only vokens --runs "$runs/minigpt5_table6" \
        --out "$runs/vokens"
}

run() { # TABLE STEPS LIMIT FULL_LIMIT OPTION...
    name=$1 steps=$2 limit=$3 full=$4
    shift 4
    if [ "$size" = quick ]; then
        set -- --steps "$steps" --seeds 0 --limit "$limit" "$@"
    else
        set -- --limit "$full" "$@"
    fi
    table "$name" "$@" || failed="$failed $name"
}

[ $# -gt 0 ] || set -- minigpt5_table6 world_table gradient_matters e2e_table2 \
    minigpt5_table1 minigpt5_tables23 minigpt5_table4 gill_checks gill_context
if [ "$size" = quick ]; then
    train "$runs/clip" world_contrastive --seed 1000 --set num_photos=12000 --set stage.steps=400
else
    train "$runs/clip" world_contrastive --seed 1000
fi
for name in "$@"; do
    stories="--runs $runs/stories --clip $clip --aligned $aligned"
    case $name in minigpt5_table[1-5] | minigpt5_tables23 | world_table)
        vokens || { failed="$failed $name"; continue; }
        ;;
    esac
    case $name in
    minigpt5_table6) run "$name" 600 500 2000 --clip "$clip" --runs "$runs/$name" ;;
    minigpt5_table1) run "$name" 300 200 2000 $stories ;;
    minigpt5_tables23) run "$name" 300 60 400 $stories ;;
    minigpt5_table4) run "$name" 300 60 200 $stories ;;
    gill_checks) run "$name" 450 500 500 --runs "$runs/gill" ;;
    gill_context) run "$name" 450 100 200 --clip "$clip" --runs "$runs/gill" ;;
    world_table)
        train runs/world_codes world_codes --set start="$base" --set num_photos=12000 \
            --set vq.steps=500 --set translator.steps=400 --set contrastive.steps=300
        set -- --clip "$clip" --aligned "$aligned" --runs "$runs/$name"
        [ "$size" = quick ] || set -- "$@" --steps 450 --replies 1000
        run "$name" 450 500 5500 "$@"
        ;;
    gradient_matters) run "$name" 100 200 500 --runs "$runs/$name" ;;
    e2e_table2) run "$name" 400 500 5500 --runs "$runs/$name" ;;
    *) failed="$failed $name" ;;
    esac
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
