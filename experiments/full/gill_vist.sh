#!/usr/bin/env bash
# 2305.17216, contextual image generation on VIST: CLIP similarity and LPIPS of the fifth photo,
# after one caption, five captions, and five captions with four photos.
# Not run: two days on two cards of 48 GB, by its authors.
. "$(dirname "$0")/_common.sh"
. "$(dirname "$0")/_gill.sh"
gill
fetch vist
for context in none text both; do
    measure gill_cc3m "vist:$DATA/vist/val.story-in-sequence.json" --protocol gill \
        --form "story_end:$context"
done
