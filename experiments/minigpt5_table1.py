"""MiniGPT-5, Table 1, in the photo world: the last photo of a story, by what is read before it.

    python experiments/minigpt5_table1.py --base runs/world_base/model [--clip ...] [--steps 2000]

Read are the text of the last step and, of the steps before it, nothing, the texts, the photos or
both. The world says what each of them settles (``photoworld/stories.py``), so that beside the
paper's CLIP-I, IS and FID stands the share of attributes that are right of those that follow from
the last text alone, from an earlier text alone, and from earlier photos alone. FID and IS need
2,000 photos: --limit 2000. Stopped, the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runner import CLIP_NOTES, Bench, Point, Row, Rows, Sheet, table
from story_tasks import PAINTER, PAINTER_NOTE, PHOTO_COLUMNS, ROWS, RUNS, painters_read, tasks_of

from photoworld.stories import determined_in, determined_only_by
from showtell.cli.exits import exit_code_of
from showtell.evaluation.compare import Column
from showtell.evaluation.world_gold import Gold
from showtell.papers.forms import steps_of

NAME = "minigpt5_table1"
CONTEXTS = {"none": "no context", "text": "text", "photos": "photos", "both": "photos and text"}
SOURCES = {"last": "last text", "text": "earlier text", "photos": "earlier photos"}


def contexts(bench: Bench, rows: Sequence[Row]) -> Rows:
    """Each row in each context."""
    stories = bench.data("stories")
    last, steps = [story.photos[-1] for story in stories], [steps_of(story) for story in stories]
    only = {f"story.only_{s}": [determined_only_by(photo, s) for photo in last] for s in SOURCES}
    points = {
        head: Point(
            tasks=tasks_of(stories, f"task_end:{context}"),
            texts=painters_read(steps, earlier=context == "text")
            if context in ("none", "text")
            else (),
            counted={**only, "story.settled": [determined_in(photo, context) for photo in last]},
        )
        for context, head in CONTEXTS.items()
    }
    gold = Gold(tasks_of(stories, "task_end:both"), bench.readers)
    return bench.shown(NAME, rows, points, gold)


SHEET = Sheet(
    name=NAME,
    title="MiniGPT-5, Table 1, in the photo world: the last photo of a story",
    rows=ROWS,
    against=f"{PAINTER.name}; {CONTEXTS['none']}",
    measure=contexts,
    columns=(
        *PHOTO_COLUMNS,
        Column(name="story.settled", head="settled by what was read", group="attributes"),
        *(
            Column(name=f"story.only_{source}", head=f"only {head}", group="attributes")
            for source, head in SOURCES.items()
        ),
    ),
    notes=(
        "Attributes are read by the oracle. All: those of the last photo that follow from its text "
        "and everything before it, whatever was read; settled: those that follow from what was "
        "read, which are others in each context; only: those that nothing else settles.",
        PAINTER_NOTE,
        '"described": against the paper, photos keep their captions for L_cap in multimodal '
        "learning.",
        "Contexts are gold. MiniGPT-5 is trained with whole contexts; the others are told it as "
        "they are.",
        *CLIP_NOTES,
    ),
)
main = table(__file__, __doc__, SHEET, runs=RUNS)

if __name__ == "__main__":
    sys.exit(exit_code_of(main))
