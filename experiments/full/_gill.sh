# gill: GILL on CC3M (2305.17216): OPT-6.7B, CLIP ViT-L/14 by a linear map, Stable Diffusion 1.5.
gill() {
    fetch cc3m
    train gill_parts parts "language=$(part language opt-6.7b)" \
        "painter=$(part painter stable-diffusion-v1-5)" \
        "vision=$(part vision clip-vit-large-patch14)" photo_encoder=linear num_photo_tokens=4
    train gill_cc3m gill_captions "base=$RUNS/gill_parts" "data=cc3m:$DATA/cc3m/GCC-training.tsv" \
        "${SMALL_MAPPER[@]}"
}
