#!/usr/bin/env bash
# 2310.02239, table 1: the last photo of a VIST story with no, text, image and image-text context.
# Not run: about two days a stage on four cards of 48 GB, by its authors.
. "$(dirname "$0")/_common.sh"
. "$(dirname "$0")/_minigpt5.sh"
stories
for run in minigpt5_vist_prefix minigpt5_vist_lora minigpt5_vist_no_uas; do
    for context in none text photos both; do
        measure "$run" "$VIST_VAL" --protocol minigpt5 --form "task_end:$context"
    done
done
