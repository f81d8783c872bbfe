#!/usr/bin/env bash
# 2408.08650, table 2, DialogCC: BLEU, ROUGE-L, IS and FID: end to end, pipeline, Divter twice.
# Not run: hours unknown; hardware as psdg_table2_photochat.sh, and photos by address, many dead.
. "$(dirname "$0")/_common.sh"
. "$(dirname "$0")/_psdg.sh"
psdg dialogcc "dialogcc:$DATA/dialogcc/train.json" "dialogcc:$DATA/dialogcc/test.json"
