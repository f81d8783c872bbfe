#!/usr/bin/env bash
# 2310.02239, table 5: whole answers on MMDialog, IS, BLEU, ROUGE-L and MM-Relevance.
# MMDialog is given on application: "showtell data fetch mmdialog" says how; put its splits into
# $SHOWTELL_DATA/mmdialog. Not run: about two days on four cards of 48 GB.
. "$(dirname "$0")/_common.sh"
. "$(dirname "$0")/_minigpt5.sh"
alignment minigpt5_uas
if [ ! -d "$DATA/mmdialog/train" ]; then fetch mmdialog; fi
train minigpt5_mmdialog vokens_learning "base=$RUNS/minigpt5_uas" \
    "data=mmdialog:$DATA/mmdialog/train" stage.form=dialogue
measure minigpt5_mmdialog "mmdialog:$DATA/mmdialog/test" --protocol minigpt5 --protocol mmdialog
