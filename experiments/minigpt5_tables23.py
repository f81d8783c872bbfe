"""MiniGPT-5, Tables 2 and 3, in the photo world: every photo and every text of a story.

    python experiments/minigpt5_tables23.py --base runs/world_base/model [--clip ...] [--steps 2000]

Table 2: the photo of each step, after all texts and photos before it and its own text. Table 3: the
text of each step but the first, after all texts and photos before it and its own photo. What comes
before is gold. FID and IS need 2,000 photos: --limit 400. Stopped, the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from making import first_answer, own_texts
from runner import CLIP_NOTES, Bench, Point, Row, Rows, Sheet, table
from story_tasks import (
    LLM,
    PAINTER,
    PAINTER_NOTE,
    PHOTO_COLUMNS,
    ROWS,
    RUNS,
    WITH_VOKENS,
    painters_read,
    tasks_of,
)

from photoworld.stories import STEPS
from showtell.cli.exits import exit_code_of
from showtell.evaluation.compare import columns_of
from showtell.evaluation.score_runs import Run, text_scores
from showtell.evaluation.world_gold import Gold
from showtell.papers.forms import steps_of

TABLE2, TABLE3 = "minigpt5_table2", "minigpt5_table3"


def photos(bench: Bench, rows: Sequence[Row]) -> Rows:
    """Table 2; drawn are stories, whose five tasks belong together."""
    stories = bench.data("stories")
    tasks = tasks_of(stories, "task_steps")
    shown = [own[: k + 1] for own in map(steps_of, stories) for k in range(STEPS)]
    points = {
        "no context": Point(texts=painters_read(shown, earlier=False)),
        "text": Point(texts=painters_read(shown, earlier=True)),
        "photos and text": Point(tasks=tasks),
    }
    return bench.shown(TABLE2, rows, points, Gold(tasks, bench.readers, tasks_each=STEPS))


def texts(bench: Bench, rows: Sequence[Row]) -> Rows:
    """Table 3."""
    tasks = tasks_of(bench.data("stories"), "task_tell")
    wanted = [task.turns[first_answer(task)].text for task in tasks]
    of = [number // (STEPS - 1) for number in range(len(tasks))]
    found: dict[str, list[Run]] = {}
    for row, run, model in bench.runs_of(rows):
        write = partial(own_texts, model, tasks)
        said = bench.kept(run / f"{TABLE3}.json", write, len(tasks))
        scored = text_scores(said, wanted, of=of, readers=bench.readers)
        found.setdefault(row.name, []).append(Run(scores=scored))
    return found


SHEETS = (
    Sheet(
        name=TABLE2,
        title="MiniGPT-5, Table 2, in the photo world: the photos of all steps",
        rows=ROWS,
        columns=PHOTO_COLUMNS,
        against=f"{PAINTER.name}; no context",
        measure=photos,
        notes=(
            "The paper's FID is taken within each story of five photos; here it is over all "
            "photos.",
            PAINTER_NOTE,
            *CLIP_NOTES,
        ),
    ),
    Sheet(
        name=TABLE3,
        title="MiniGPT-5, Table 3, in the photo world: the texts of all steps",
        rows=(LLM, *WITH_VOKENS),
        columns=columns_of(
            "text.similarity", "text.psdg.rouge_l", "text.meteor_exact_stem", "text.psdg.bleu1"
        ),
        against=LLM.name,
        measure=texts,
        notes=(
            "Half of a text is small talk that nobody can foresee; what it says of its photo can "
            "be seen.",
            "METEOR without synonyms. Similarity stands where the paper has Sentence-BERT's.",
            *CLIP_NOTES,
        ),
    ),
)
main = table(__file__, __doc__, *SHEETS, runs=RUNS, limit=400)

if __name__ == "__main__":
    sys.exit(exit_code_of(main))
