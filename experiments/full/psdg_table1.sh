#!/usr/bin/env bash
# 2408.08650, table 1: what the data sets hold, counted beside the paper's figures.
# Not run: minutes to fetch the texts, hours for the photos; any machine.
. "$(dirname "$0")/_common.sh"
fetch photochat
fetch dialogcc
$SHOWTELL data doctor "photochat:$DATA/photochat" --no-photos
$SHOWTELL data doctor "dialogcc:$DATA/dialogcc" --no-photos
