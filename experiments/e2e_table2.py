"""Table 2 of 2408.08650 in the photo world, and what each of its parts is worth.

    python experiments/e2e_table2.py --base runs/world_base/model [--steps 2000] [--seeds 0,1,2]

The paper has two rows, end to end and pipeline, and no ablation. Here its three parts are taken out
one at a time: the photo encoder, the vocabulary transformation and the Gumbel noise. Every row
starts from the same base and sees the same dialogues in the same order for as many steps. FID and
IS need 2,000 photos: --limit 5500. Hours on two cores; stopped, the same command goes on.
"""

from __future__ import annotations

import sys

from runner import PHOTO_NOTE, SEED_NOTE, Bench, Row, Sheet, table

from showtell.cli.exits import exit_code_of
from showtell.evaluation.compare import columns_of

WHOLE = "end to end"
SHEET = Sheet(
    name="e2e_table2",
    title="2408.08650, Table 2, in the photo world",
    rows=(
        Row(name=WHOLE),
        Row(name="pipeline", recipe="world_pipeline"),
        Row(name="photos in the context as captions", settings=("photo_encoder=caption",)),
        Row(name="photos in the context unseen", settings=("photo_encoder=none",)),
        Row(name="no vocabulary transformation", settings=("bridge.vocabulary=none",)),
        Row(name="static vocabulary transformation", settings=("bridge.vocabulary=static",)),
        Row(name="no Gumbel noise", settings=("bridge.gumbel=false",)),
    ),
    against=WHOLE,
    measure=Bench.compared,
    columns=columns_of(
        *("text.psdg.bleu1", "text.psdg.bleu2", "text.psdg.rouge_l", "text.word_perplexity"),
        *("moment.f1", "seeing.accuracy", "photo.attribute_accuracy_in_dialogue"),
        *("photo.kid", "photo.kid_encoder", "photo.fid", "photo.fid_encoder"),
        *("photo.inception_score", "photo.inception_score_encoder"),
    ),
    notes=(
        PHOTO_NOTE,
        SEED_NOTE,
        "Captions of photos in the context are the base's own captioner's; unseen, the LLM knows "
        "only that there was a photo.",
        "Without a vocabulary transformation the painter still learns from the gold captions, and "
        "the LLM hears nothing of it.",
    ),
)
main = table(__file__, __doc__, SHEET)

if __name__ == "__main__":
    sys.exit(exit_code_of(main))
