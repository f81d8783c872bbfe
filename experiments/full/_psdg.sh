# psdg KIND TRAIN TEST: the end-to-end model, its pipeline and Divter on one data set (2408.08650).
#
# Photos that can no longer be had are painted, as the authors did with Stable Diffusion 3; here by
# the base itself, or by the model that $SUBSTITUTES names. Every report says how many.
psdg() {
    local kind=$1 learn=$2 test=$3 system pretrained
    fetch "$kind"
    fetch cc3m
    train psdg_parts parts "language=$(part language Llama-2-7b-chat-hf)" \
        "painter=$(part painter stable-diffusion-2-1-base)" \
        "vision=$(part vision blip2-flan-t5-xxl)" projection=new num_steps=20
    # BLIP-2's Q-Former comes pretrained; its new projection to Llama learns from captions first
    train psdg_seeing photo_encoder_captions "base=$RUNS/psdg_parts" "data=cc3m:$DATA/cc3m/GCC-training.tsv"
    for system in end_to_end pipeline; do
        psdg_row "$system" "dialogues_$system"
    done
    psdg_codes
    for pretrained in true false; do # with the extra pairs of captions and photos, and without
        psdg_row "divter_pretrained_$pretrained" dialogues_divter \
            "codes=$RUNS/psdg_codes/model" "pretrained=$pretrained"
    done
}

# psdg_row NAME RECIPE KEY=VALUE...: one system of the table, trained and measured; called by psdg
psdg_row() {
    local run=psdg_${kind}_$1 recipe=$2 substitutes=paint:${SUBSTITUTES:-$RUNS/psdg_seeing}
    shift 2
    train "$run" "$recipe" "base=$RUNS/psdg_seeing" "data=$learn" \
        "missing_photos=$substitutes" adapter=lora lora.rank=32 lora.alpha=32 \
        lora.dropout=0.1 'lora.targets=["q_proj","k_proj","v_proj"]' "$@"
    measure "$run" "$test" --protocol psdg --missing-photos "$substitutes"
}

# psdg_codes: V and F of Divter in the sizes of 2110.08515, F on captioned photos; of 8 photos one
# is kept by a CLIP that no column of the table is measured with
psdg_codes() {
    local SMALL=() ranker=$MODELS/clip-vit-base-patch32
    if [ -n "$DRY" ]; then
        ranker=none
        SMALL=(num_photos=1 num_held=1 num_codes=16 code_width=4)
        SMALL+=(translator_width=32 translator_layers=1)
        SMALL+=(vq.steps=1 vq.batch_size=1 translator.steps=1 translator.batch_size=1)
    fi
    if [ ! -e "$RUNS/psdg_codes/model/code_painter.json" ]; then
        train psdg_codes photo_codes "start=$RUNS/psdg_seeing" "ranker=$ranker" \
            "photos=cc3m:$DATA/cc3m/GCC-training.tsv" num_codes=16384 \
            translator_width=1024 translator_layers=24 \
            vq.steps=20000 translator.steps=100000 translator.learning_rate=3e-4 \
            translator.warmup=2000
    fi
}
