# psdg KIND TRAIN TEST: the end-to-end model and its pipeline on one data set (2408.08650).
#
# Photos that can no longer be had are painted, as the authors did with Stable Diffusion 3; here by
# the base itself, or by the model that $SUBSTITUTES names. Every report says how many.
psdg() {
    local kind=$1 learn=$2 test=$3 substitutes
    fetch "$kind"
    fetch cc3m
    train psdg_parts parts "language=$(part language Llama-2-7b-chat-hf)" \
        "painter=$(part painter stable-diffusion-2-1-base)" \
        "vision=$(part vision vit-large-patch16-224)" num_steps=20
    # the paper's perceptron comes pretrained; this one learns to see from captions first
    train psdg_seeing perceptron_captions "base=$RUNS/psdg_parts" "data=cc3m:$DATA/cc3m/GCC-training.tsv"
    substitutes=paint:${SUBSTITUTES:-$RUNS/psdg_seeing}
    for system in end_to_end pipeline; do
        train "psdg_${kind}_$system" "dialogues_$system" "base=$RUNS/psdg_seeing" \
            "data=$learn" "missing_photos=$substitutes" adapter=lora lora.rank=32 lora.alpha=32
        measure "psdg_${kind}_$system" "$test" --protocol psdg --missing-photos "$substitutes"
    done
}
