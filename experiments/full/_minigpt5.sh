# The runs of MiniGPT-5 (2310.02239) that its tables share.
#
# Its LLM and what sees photos come from MiniGPT-4: Vicuna-7B (there v0, here v1.5), BLIP-2's EVA-CLIP
# and Q-Former, and a projection of its own.
VIST="vist:$DATA/vist/train.story-in-sequence.json"
VIST_VAL="vist:$DATA/vist/val.story-in-sequence.json"
CC3M="cc3m:$DATA/cc3m/GCC-training.tsv"
CC3M_VAL="cc3m:$DATA/cc3m/GCC-1.1.0-Validation.tsv"

# alignment RUN KEY=VALUE...: the first stage, on CC3M (two epochs at batch 48)
alignment() {
    local run=$1
    shift
    fetch cc3m
    train minigpt5_parts parts "language=$(part language vicuna-7b-v1.5)" \
        "painter=$(part painter stable-diffusion-2-1-base)" \
        "vision=$(part vision blip2-flan-t5-xxl)" "${MINIGPT4[@]}"
    train "$run" vokens_alignment "base=$RUNS/minigpt5_parts" "data=$CC3M" "$@"
}

# stories: the second stage on VIST, with LoRA, with a prefix, and without the first stage
stories() {
    alignment minigpt5_uas
    fetch vist
    train minigpt5_vist_lora vokens_learning "base=$RUNS/minigpt5_uas" "data=$VIST"
    train minigpt5_vist_prefix vokens_learning "base=$RUNS/minigpt5_uas" "data=$VIST" adapter=prefix
    # no step of the first stage: the vokens start untrained
    alignment minigpt5_no_uas stage.steps=0
    train minigpt5_vist_no_uas vokens_learning "base=$RUNS/minigpt5_no_uas" "data=$VIST"
}
