#!/usr/bin/env bash
# 2310.02239, table 6: single photos on CC3M's validation set, and what each loss and CFG bring.
# Not run: about two days a row on four cards of 48 GB. The zero-shot painter is not a row here.
. "$(dirname "$0")/_common.sh"
. "$(dirname "$0")/_minigpt5.sh"
. "$(dirname "$0")/_gill.sh"
alignment minigpt5_uas
alignment minigpt5_no_cfg bridge.drop=0 bridge.negative=empty
alignment minigpt5_no_cap stage.weights.cap=0
alignment minigpt5_no_ldm stage.weights.ldm=0
gill
for run in gill_cc3m minigpt5_uas minigpt5_no_cfg minigpt5_no_cap minigpt5_no_ldm; do
    measure "$run" "$CC3M_VAL" --protocol minigpt5 --form alignment
done
