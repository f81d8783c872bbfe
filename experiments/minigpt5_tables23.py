"""MiniGPT-5, Tables 2 and 3, in the photo world: every photo and every text of a story.

    python experiments/minigpt5_tables23.py --base runs/world_base/model [--clip ...] [--steps 2000]

Table 2: the photo of each step, after all texts and photos before it and its own text. Table 3: the
text of each step but the first, after all texts and photos before it and its own photo. What comes
before is gold. What minigpt5_table1.py has trained is not trained again. FID and IS need 2,000
photos: --limit 400. Stopped, the same command goes on.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

import runner
from minigpt5_stories import (
    FINE_TUNED,
    LLM,
    PAINTER_NOTE,
    PAINTERS,
    PHOTO_COLUMNS,
    ROWS,
    RUNS,
    photos_of,
    tasks_of,
)
from runner import CLIP_NOTES, Bench, Row, Rows, Sheet, first_answer

from photoworld.stories import STEPS
from showtell.cli.exits import exit_code_of
from showtell.evaluation.compare import columns_of
from showtell.evaluation.score_runs import Run, text_scores
from showtell.evaluation.world_gold import Gold

TABLE2, TABLE3 = "minigpt5_table2", "minigpt5_table3"
HEADS = {"none": "no context", "text": "text", "both": "photos and text"}
ALL = (LLM, *ROWS)


def rows_that(bench: Bench, *, show: bool) -> list[Row]:
    """The rows that make photos, or those that write texts."""
    cannot = (LLM.name,) if show else PAINTERS
    return [row for row in bench.chosen(ALL) if row.name not in cannot]


def photo_rows(bench: Bench) -> Rows:
    """Table 2; drawn are stories, whose five tasks belong together."""
    stories = bench.data("stories")
    gold = Gold(tasks_of(stories, "task_steps"), bench.readers, tasks_each=STEPS)
    rows: dict[str, list[Run]] = {}
    for row in rows_that(bench, show=True):
        for name, run, model in bench.runs_of([row]):
            for context in ("none", "text") if name in PAINTERS else ("both",):
                earlier = context == "text"
                make = functools.partial(
                    photos_of, name, model, stories, "task_steps", earlier=earlier
                )
                found = bench.photos(run / f"{TABLE2}-{context}.safetensors", make, gold)
                rows.setdefault(f"{name}; {HEADS[context]}", []).append(found)
    return rows


def text_rows(bench: Bench) -> Rows:
    """Table 3."""
    tasks = tasks_of(bench.data("stories"), "task_tell")
    texts = [task.turns[first_answer(task)].text for task in tasks]
    of = [number // (STEPS - 1) for number in range(len(tasks))]
    rows: dict[str, list[Run]] = {}
    for row in rows_that(bench, show=False):
        for name, run, model in bench.runs_of([row]):

            def make(model: runner.Opener = model) -> list[str]:
                return runner.own_texts(model(), tasks)

            said = bench.kept(run / f"{TABLE3}.json", make, len(tasks))
            found = text_scores(said, texts, of=of, readers=bench.readers)
            rows.setdefault(name, []).append(Run(scores=found))
    return rows


SHEETS = (
    Sheet(
        name=TABLE2,
        title="MiniGPT-5, Table 2, in the photo world: the photos of all steps",
        columns=PHOTO_COLUMNS,
        against=f"{FINE_TUNED}; {HEADS['none']}",
        rows=photo_rows,
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
        columns=columns_of(
            "text.similarity", "text.psdg.rouge_l", "text.meteor_exact_stem", "text.psdg.bleu1"
        ),
        against=LLM.name,
        rows=text_rows,
        notes=(
            "Half of a text is small talk that nobody can foresee; what it says of its photo can "
            "be seen.",
            "METEOR without synonyms. Similarity stands where the paper has Sentence-BERT's.",
            *CLIP_NOTES,
        ),
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    return runner.main(SHEETS, runner.parser(__doc__, runs=RUNS, limit=400), arguments)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
