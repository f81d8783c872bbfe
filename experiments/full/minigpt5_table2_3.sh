#!/usr/bin/env bash
# 2310.02239, tables 2 and 3: every photo and every text of a VIST story, each after all before it.
# The paper's FID here is a mean over stories of five photos; ours is one FID over all photos.
# Not run: about two days a stage on four cards of 48 GB, by its authors.
. "$(dirname "$0")/_common.sh"
. "$(dirname "$0")/_minigpt5.sh"
stories
for run in minigpt5_vist_prefix minigpt5_vist_lora minigpt5_vist_no_uas; do
    measure "$run" "$VIST_VAL" --protocol minigpt5 --form task_steps
done
measure minigpt5_vist_lora "$VIST_VAL" --protocol minigpt5 --protocol standard --form task_tell
