"""GILL's open checks in the photo world: its mapper, tokens, losses and visual tokens.

    python experiments/gill_checks.py --base runs/world_base/model [--steps 2000]

In the first table every row is GILL on captioned photos, as published, with one thing changed
(``ABLATIONS`` of the paper). The second asks what photos in the context give to retrieval, on
dialogues: k visual tokens by a linear map. Stopped, the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from runner import PHOTO_NOTE, SEED_NOTE, Bench, Row, Rows, Sheet, table

from showtell.cli.exits import exit_code_of
from showtell.evaluation.compare import columns_of
from showtell.evaluation.world_gold import Gold
from showtell.papers.gill import ABLATIONS

CHECKS = {
    "GILL": (),
    **{
        name: settings for name, settings in ABLATIONS.items() if name not in ("paper", "width_128")
    },
    "mapper not started by captions": ("start_captions=0",),
}
ON_DIALOGUES = Row(name="GILL, on dialogues", recipe="world_gill", settings=("album_photos=0",))
VISUAL = tuple(
    replace(
        ON_DIALOGUES,
        name=f"k = {k}, a linear map",
        settings=(*ON_DIALOGUES.settings, "photo_encoder=linear", f"photo_tokens={k}"),
    )
    for k in (1, 4, 8)
)
RETRIEVAL = ("retrieval.r1", "retrieval.r5", "retrieval.r10", "retrieval.mrr")


def on_captions(bench: Bench, rows: Sequence[Row]) -> Rows:
    return bench.compared(rows, Gold(bench.captions(), bench.readers))


SHEETS = (
    Sheet(
        name="gill_checks",
        title="GILL's open checks, in the photo world",
        rows=tuple(
            Row(name=name, recipe="world_gill_captions", settings=settings)
            for name, settings in CHECKS.items()
        ),
        columns=columns_of("photo.attribute_accuracy_in_dialogue", "photo.kid", *RETRIEVAL),
        against="GILL",
        measure=on_captions,
        notes=(
            "All rows read the captions of test photos; attributes are those that a caption "
            "states, read by the oracle. Retrieval: the photo of a caption is looked for among "
            "those of all.",
            SEED_NOTE,
            "The first row's mapper has width 128 and r is 8; others are the paper's `ABLATIONS`.",
        ),
    ),
    Sheet(
        name="gill_tokens",
        title="GILL's visual tokens, in the photo world",
        rows=(ON_DIALOGUES, *VISUAL),
        columns=columns_of(
            *RETRIEVAL,
            *("photo.attribute_accuracy_in_dialogue", "text.word_perplexity"),
            *("moment.f1", "seeing.accuracy"),
        ),
        against=ON_DIALOGUES.name,
        measure=Bench.compared,
        notes=(
            PHOTO_NOTE,
            SEED_NOTE,
            "The first row's photos are read by the base's Q-Former, of which the last map moves. "
            "A linear map is new; both stand on the base's vision encoder.",
            "Retrieval: each of the agent's gold photos is looked for among those of all test "
            "dialogues.",
        ),
    ),
)
main = table(__file__, __doc__, *SHEETS, runs="gill")

if __name__ == "__main__":
    sys.exit(exit_code_of(main))
