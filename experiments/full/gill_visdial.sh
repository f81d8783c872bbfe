#!/usr/bin/env bash
# 2305.17216, contextual image generation on VisDial: the photo after one, five and ten rounds.
# Not run: two days on two cards of 48 GB, by its authors.
. "$(dirname "$0")/_common.sh"
. "$(dirname "$0")/_gill.sh"
gill
fetch visdial
for rounds in 1 5 10; do
    measure gill_cc3m "visdial:$DATA/visdial/visdial_1.0_val.json" --protocol gill \
        --form "photo_last:$rounds"
done
