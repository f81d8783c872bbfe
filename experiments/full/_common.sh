# Common to the scripts of this folder: each goes from "showtell data fetch" to one published table.
#
#   bash experiments/full/NAME.sh              full size: none of these was ever run, see each head
#   bash experiments/full/NAME.sh --dry DIR    a few steps on DIR/data and DIR/models, nothing fetched
#
# What it needs is looked for in $MODELS (folders of transformers and diffusers, safetensors only;
# docs/metrics.md says which encoders). Data go to $SHOWTELL_DATA, runs to $RUNS. A script that was
# stopped goes on when it is started again; scripts share the runs that they have in common.
set -euo pipefail

SHOWTELL=${SHOWTELL:-showtell}
DATA=${SHOWTELL_DATA:-data}
MODELS=${MODELS:-models}
RUNS=${RUNS:-runs/full}
DRY=
LIMIT=100000000 # all; without a limit "evaluate" draws a sample
SMALL=()
SMALL_PARTS=()
SMALL_MAPPER=()
MINIGPT4=("projection=$MODELS/pretrained_minigpt4.pth") # as its authors released it
ENCODERS=(
    --clip "$MODELS/clip-vit-large-patch14"
    --relevance-clip "$MODELS/clip-vit-base-patch32"
    --sentence-encoder "$MODELS/all-MiniLM-L6-v2"
    --inception "$MODELS/inception-2015-12-05.safetensors"
    --lpips "$MODELS/lpips-alex.safetensors"
)
if [ "${1:-}" = --dry ]; then
    DRY=${2:?"--dry wants a folder with data/ and models/"}
    DATA=$DRY/data RUNS=$DRY/runs LIMIT=1
    SMALL=(stage.steps=1 stage.batch_size=2 stage.warmup=1 stage.evaluate_every=none)
    SMALL+=(calibration_dialogues=0)
    SMALL_PARTS=(qformer_layers=1 num_photo_tokens=2 num_steps=2)
    SMALL_MAPPER=(bridge.width=16 bridge.num_layers=1 bridge.num_heads=2)
    ENCODERS=() MINIGPT4=()
fi

# part KIND NAME: the folder of a pretrained part
part() { if [ -n "$DRY" ]; then echo "$DRY/models/$1"; else echo "$MODELS/$2"; fi; }

# fetch NAME: a data set with its photos
fetch() { if [ -z "$DRY" ]; then $SHOWTELL data fetch "$1" --out "$DATA/$1" --photos; fi; }

# train RUN RECIPE KEY=VALUE...: unless it is done; goes on where it stopped
train() {
    local run=$1 recipe=$2 resume=() settings=()
    shift 2
    if [ -e "$RUNS/$run/model/showtell.json" ]; then return; fi
    if [ -d "$RUNS/$run" ]; then resume=(--resume); fi
    if [ "$recipe" = parts ]; then
        set -- "$@" "${SMALL_PARTS[@]}"
    else
        set -- "$@" "${SMALL[@]}"
    fi
    for setting in "$@"; do settings+=(--set "$setting"); done
    $SHOWTELL train "$recipe" --out "$RUNS/$run" "${resume[@]}" "${settings[@]}"
}

# measure RUN DATA OPTION...: print the report and keep it in the run's folder
measure() {
    local run=$1 data=$2 name
    shift 2
    name=$(printf '%s-' "$data" "$@" | tr -c 'a-zA-Z0-9\n' '-' | tail -c 80)
    $SHOWTELL evaluate "$RUNS/$run" "$data" --limit "$LIMIT" --out "$RUNS/$run/reports/$name" \
        "$@" "${ENCODERS[@]}"
}
