"""MiniGPT-5, Table 4, in the photo world: a story goes on, in words and in a photo.

    python experiments/minigpt5_table4.py --base runs/world_base/model [--clip ...] [--steps 2000]

Nothing of the step is read: its text is written, then its photo made, after all gold steps before
it. MiniGPT-5 does both; the paper's baseline takes two stages, a fine-tuned LLM that writes and a
fine-tuned painter that reads what was written, the newest first. People compare them in the paper,
by language, image and coherence: here they can too, on the page that "showtell judge export" makes
of the records under --runs (the command is printed). Beside them stand measures that no person is
needed for. What minigpt5_table1.py and tables23 have trained is not trained again. Stopped, the
same command goes on.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from _rows import Row, chosen, kept, settle
from jobs import slug
from minigpt5_table1 import FINE_TUNED, RUNS
from minigpt5_table1 import ROWS as TABLE1
from minigpt5_tables23 import LLM, tasks_of
from photo_rows import (
    Opener,
    Scored,
    columns_of,
    first_answer,
    kept_photos,
    opened,
    options_parser,
    own_photos,
    own_texts,
    painted_texts,
    publish,
    readers,
    run_of,
    scored_photos,
    table_of,
    test_seeds,
)
from torch import Tensor
from torch.nn import functional as F

from photoworld.facts import named_attributes
from photoworld.stories import STEPS, world_story
from showtell.batch import to_image
from showtell.cli.exits import exit_code_of
from showtell.data.photos import save_photo
from showtell.dialogue import Dialogue, Photo
from showtell.evaluation.predictions import Answers, gold_path
from showtell.evaluation.scored import Gold, text_scores
from showtell.evaluation.table import Column
from showtell.metrics.paired import Scores, scores
from showtell.papers.forms import newest_first, steps_of
from showtell.papers.minigpt5 import Step

NAME = "minigpt5_table4"
TWO_STAGES = "two stages: LLM, then painter"
GOLD = "gold text and photo"
VOKENS = "vokens, LoRA"
SYSTEMS = tuple(row for row in TABLE1 if row.recipe in ("world_stories", "world_stories_prefix"))
PAINTER = next(row for row in TABLE1 if row.name == FINE_TUNED)
ROWS = (Row(name=TWO_STAGES), *SYSTEMS)
COLUMNS = (
    *columns_of("text.similarity", "text.psdg.rouge_l", "text.psdg.bleu1"),
    *columns_of("photo.clip_i", "photo.kid"),
    Column(name="coherence.shown", head="what the text names is shown", group="coherence"),
    Column(name="coherence.clip", head="CLIP-T, own text", group="coherence", unit=""),
)
NOTES = (
    "Texts are those of each row, photos are made after them; gold are the steps before.",
    "Coherence is of a row's own photo with its own text: the share of attributes named in the "
    "text that the oracle reads in the photo, and the cosine of the two. Gold texts also name what "
    "the last photo will be, so theirs is not 100%.",
)


# ------------------------------------------------------------------------------ what a row makes


def with_texts(tasks: Sequence[Dialogue], texts: Sequence[str]) -> list[Dialogue]:
    """The tasks with these texts in the places of the gold ones."""
    found = []
    for task, text in zip(tasks, texts, strict=True):
        k = first_answer(task)
        turns = list(task.turns)
        turns[k] = replace(turns[k], elements=(text,))
        found.append(replace(task, turns=tuple(turns)))
    return found


def paint_after(model: Opener, stories: Sequence[Dialogue], texts: Sequence[str]) -> Tensor:
    """The painter's photo of each text, after the gold texts before it."""
    left = iter(texts)
    read = [
        newest_first([*steps[:k], Step(text=next(left), photo=steps[k].photo)], earlier=True)
        for steps in map(steps_of, stories)
        for k in range(1, STEPS)
    ]
    return painted_texts(model(), read)


# ------------------------------------------------------------------------------------ measures


def coherence(
    texts: Sequence[str], photos_N3HW: Tensor, gold: Gold, of: Sequence[int]
) -> dict[str, Scores]:
    """How far photos show what their texts say."""
    rows = []
    for text, seen in zip(texts, gold.instruments.oracle.read(photos_N3HW), strict=True):
        named = {name: values for name, values in named_attributes(text).items() if name in seen}
        rows.append([sum(seen[name] in values for name, values in named.items()), len(named)])
    found = {"coherence.shown": scores("ratio", of, rows)} if any(n for _, n in rows) else {}
    if (clip := gold.instruments.clip) is not None:
        images = [to_image(photo) for photo in photos_N3HW]
        cosine_N = F.cosine_similarity(clip.texts(list(texts)), clip.photos(images), dim=-1)
        found["coherence.clip"] = scores("mean", of, cosine_N.tolist())
    return found


def scored(texts: Sequence[str], photos_N3HW: Tensor, gold: Gold, wanted: Sequence[str]) -> Scored:
    of = gold.photo_dialogues
    found = scored_photos(photos_N3HW, gold)
    words = text_scores(texts, wanted, of=of, instruments=gold.instruments)
    return Scored(scores={**found.scores, **words, **coherence(texts, photos_N3HW, gold, of)})


# -------------------------------------------------------------------------------------- people


def write_records(
    folder: Path, tasks: Sequence[Dialogue], texts: Sequence[str], photos_N3HW: Tensor
) -> Path:
    """What a row made, for "showtell judge" and "showtell score"; the file of its predictions."""
    answers = Answers(folder=folder)
    for number, (task, text) in enumerate(zip(tasks, texts, strict=True)):
        k = first_answer(task)
        own = save_photo(to_image(photos_N3HW[number]), folder / "photos" / f"{number:06}.png")
        said = {"elements": [text, {"photo": str(own)}]}
        gold = {"elements": [task.turns[k].text]}
        answers.whole.append(answers.pair(read_by_people(task, folder), k, said, gold))
    answers.write()
    return folder / "predictions.jsonl"


def read_by_people(task: Dialogue, folder: Path) -> Dialogue:
    """The task without the instruction that the LLM is given first, its photos drawn."""
    (asked, *answers), elements = task.turns, []
    for element in asked.elements[1:]:
        if isinstance(element, Photo):
            place = folder / "drawn" / f"{element.id}.png"
            element = replace(element, path=gold_path(element, place))
        elements.append(element)
    return replace(task, turns=(replace(asked, elements=tuple(elements)), *answers))


# ---------------------------------------------------------------------------------------- table


def makers(
    options: argparse.Namespace, row: Row, seed: int, stories: Sequence[Dialogue]
) -> tuple[Path, Callable[[], list[str]], Callable[[Sequence[str]], Tensor]]:
    """A row's folder, and what makes its texts and, of these, its photos."""
    tasks = tasks_of(stories, "task_go_on")

    def opener(trained: Row) -> tuple[Path, Opener]:
        run = run_of(trained, seed, options)
        return run, functools.cache(functools.partial(opened, run, options))

    if row.name != TWO_STAGES:
        run, model = opener(row)
        return (
            run,
            lambda: own_texts(model(), tasks),
            lambda texts: own_photos(model(), with_texts(tasks, texts)),
        )
    run, writer = opener(LLM)
    _, painter = opener(PAINTER)
    return (
        run,
        lambda: own_texts(writer(), tasks),
        lambda texts: paint_after(painter, stories, texts),
    )


def rows_of(
    options: argparse.Namespace, gold: Gold, stories: Sequence[Dialogue]
) -> dict[str, list[Scored]]:
    tasks = tasks_of(stories, "task_go_on")
    wanted = [task.turns[first_answer(task)].text for task in tasks]
    settings = {"stories": len(stories), "base": options.base}
    rows: dict[str, list[Scored]] = {}
    for row in chosen(ROWS, options):
        for seed in options.seeds:
            run, write, paint = makers(options, row, seed, stories)
            texts = kept(run / f"{NAME}.json", settings, write)
            make = functools.partial(paint, texts)
            photos_N3HW = kept_photos(run / f"{NAME}-photos.safetensors", settings, make)
            rows.setdefault(row.name, []).append(scored(texts, photos_N3HW, gold, wanted))
            if seed == options.seeds[0]:
                few = slice(options.people)
                folder = options.runs / "people" / slug(row.name)
                path = write_records(folder, tasks[few], texts[few], photos_N3HW[few])
                print(f"wrote {path}", file=sys.stderr)
    true = coherence(wanted, gold.photos_N3HW, gold, gold.photo_dialogues)
    rows[GOLD] = [Scored(scores=true)]
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    found = options_parser(__doc__, name=RUNS, limit=200, after_alignment=True)
    found.add_argument("--people", type=int, default=100, help="answers for people to compare")
    options = settle(found.parse_args(arguments))
    stories = [world_story(seed) for seed in test_seeds(options)]
    gold = Gold(tasks_of(stories, "task_go_on"), readers(options), seed=0)
    # drawn are stories, whose four tasks belong together
    gold.photo_dialogues = [task // (STEPS - 1) for task in gold.photo_dialogues]
    publish(
        table_of(rows_of(options, gold, stories), COLUMNS, against=TWO_STAGES),
        COLUMNS,
        script="minigpt5_table4",
        name=NAME,
        title="MiniGPT-5, Table 4, in the photo world: a story goes on in words and a photo",
        against=TWO_STAGES,
        notes=NOTES,
        options=options,
    )
    a, b = (options.runs / "people" / slug(name) for name in (VOKENS, TWO_STAGES))
    print(
        f"For people: showtell judge export {a}/predictions.jsonl {b}/predictions.jsonl "
        f"--context showtell:{a}/context.jsonl --out judge.html"
    )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
