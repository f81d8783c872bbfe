"""MiniGPT-5, Tables 2 and 3, in the photo world: every photo and every text of a story.

    python experiments/minigpt5_tables23.py --base runs/world_base/model [--clip ...] [--steps 2000]

Table 2: the photo of each step, after all texts and photos before it and its own text. Table 3: the
text of each step but the first, after all texts and photos before it and its own photo. What comes
before is gold. What minigpt5_table1.py has trained is not trained again. FID and IS need 2,000
photos: --limit 400. Stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence

from _rows import Row, chosen, kept, settle
from minigpt5_table1 import FINE_TUNED, PAINTER_NOTE, PAINTERS, PHOTO_COLUMNS, RUNS
from minigpt5_table1 import ROWS as TABLE1
from photo_rows import (
    Opener,
    Scored,
    columns_of,
    first_answer,
    options_parser,
    own_photos,
    own_texts,
    painted_texts,
    publish,
    readers,
    runs_of,
    scored_once,
    table_of,
    test_seeds,
)
from torch import Tensor

from photoworld.stories import STEPS, world_story
from showtell.cli.exits import exit_code_of
from showtell.dialogue import Dialogue
from showtell.evaluation.scored import Gold, Instruments, text_scores
from showtell.papers.forms import form_named, newest_first, steps_of

TABLE2, TABLE3 = "minigpt5_table2", "minigpt5_table3"
HEADS = {"none": "no context", "text": "text", "both": "photos and text"}
LLM = Row(name="LLM, fine-tuned", recipe="world_stories_text")
ROWS = (LLM, *TABLE1)
TEXT_COLUMNS = columns_of(
    "text.similarity", "text.psdg.rouge_l", "text.meteor_exact_stem", "text.psdg.bleu1"
)
PHOTO_NOTES = (
    "The paper's FID is taken within each story of five photos; here it is over all photos.",
    PAINTER_NOTE,
)
TEXT_NOTES = (
    "Half of a text is small talk that nobody can foresee; what it says of its photo can be seen.",
    "METEOR without synonyms. Similarity stands where the paper has Sentence-BERT's.",
)


def tasks_of(stories: Sequence[Dialogue], form: str) -> list[Dialogue]:
    made = form_named(form)
    return [task for story in stories for task in made(story)]


def photos_in(context: str, model: Opener, stories: Sequence[Dialogue]) -> Tensor:
    """The photos of all steps; "both" for a system, else texts for a painter."""
    if context == "both":
        return own_photos(model(), tasks_of(stories, "task_steps"))
    prefixes = [steps_of(story)[: k + 1] for story in stories for k in range(STEPS)]
    earlier = context == "text"
    return painted_texts(model(), [newest_first(steps, earlier=earlier) for steps in prefixes])


def photo_rows(
    options: argparse.Namespace, stories: Sequence[Dialogue], found_by: Instruments
) -> dict[str, list[Scored]]:
    """Table 2."""
    gold = Gold(tasks_of(stories, "task_steps"), found_by, seed=0)
    # drawn are stories, whose five tasks belong together
    gold.photo_dialogues = [task // STEPS for task in gold.photo_dialogues]
    settings = {"stories": len(stories), "base": options.base}
    rows: dict[str, list[Scored]] = {}
    for name, run, model in runs_of(rows_that(options, show=True), options):
        for context in ("none", "text") if name in PAINTERS else ("both",):
            make = functools.partial(photos_in, context, model, stories)
            found = scored_once(run / f"{TABLE2}-{context}.safetensors", settings, make, gold)
            rows.setdefault(f"{name}; {HEADS[context]}", []).append(found)
    return rows


def text_rows(
    options: argparse.Namespace, stories: Sequence[Dialogue], found_by: Instruments
) -> dict[str, list[Scored]]:
    """Table 3."""
    tasks = tasks_of(stories, "task_tell")
    texts = [task.turns[first_answer(task)].text for task in tasks]
    of = [number // (STEPS - 1) for number in range(len(tasks))]
    settings = {"stories": len(stories), "base": options.base}
    rows: dict[str, list[Scored]] = {}
    for name, run, model in runs_of(rows_that(options, show=False), options):

        def make(model: Opener = model) -> list[str]:
            return own_texts(model(), tasks)

        said = kept(run / f"{TABLE3}.json", settings, make)
        found = text_scores(said, texts, of=of, instruments=found_by)
        rows.setdefault(name, []).append(Scored(scores=found))
    return rows


def rows_that(options: argparse.Namespace, *, show: bool) -> list[Row]:
    """The rows that make photos, or those that write texts."""
    cannot = (LLM.name,) if show else PAINTERS
    return [row for row in chosen(ROWS, options) if row.name not in cannot]


def main(arguments: Sequence[str] | None = None) -> int:
    options = settle(
        options_parser(__doc__, name=RUNS, limit=400, after_alignment=True).parse_args(arguments)
    )
    stories = [world_story(seed) for seed in test_seeds(options)]
    found_by = readers(options)
    against = f"{FINE_TUNED}; {HEADS['none']}"
    publish(
        table_of(photo_rows(options, stories, found_by), PHOTO_COLUMNS, against=against),
        PHOTO_COLUMNS,
        script="minigpt5_tables23",
        name=TABLE2,
        title="MiniGPT-5, Table 2, in the photo world: the photos of all steps",
        against=against,
        notes=PHOTO_NOTES,
        options=options,
    )
    publish(
        table_of(text_rows(options, stories, found_by), TEXT_COLUMNS, against=LLM.name),
        TEXT_COLUMNS,
        script="minigpt5_tables23",
        name=TABLE3,
        title="MiniGPT-5, Table 3, in the photo world: the texts of all steps",
        against=LLM.name,
        notes=TEXT_NOTES,
        options=options,
    )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
