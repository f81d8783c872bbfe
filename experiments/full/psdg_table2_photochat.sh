#!/usr/bin/env bash
# 2408.08650, table 2, PhotoChat: BLEU, ROUGE-L, IS and FID: end to end, pipeline, Divter twice.
# Not run: hours unknown; the authors used Llama-2-7B and Stable Diffusion 2.1, so one accelerator
# of 80 GB at least. Divter's image side is trained on CC3M, 7 GB of latents on disk.
. "$(dirname "$0")/_common.sh"
. "$(dirname "$0")/_psdg.sh"
psdg photochat "photochat:$DATA/photochat/train.jsonl" "photochat:$DATA/photochat/test.jsonl"
