"""MiniGPT-5, Table 4, in the photo world: a story goes on, in words and in a photo.

    python experiments/minigpt5_table4.py --base runs/world_base/model [--clip ...] [--steps 2000]

Nothing of the step is read: its text is written, then its photo made, after all gold steps before
it. MiniGPT-5 does both; the paper's baseline takes two stages, a fine-tuned LLM that writes and a
fine-tuned painter that reads what was written, the newest first. People compare them in the paper,
by language, image and coherence: here they can too, of the first --people answers, on the page that

    showtell judge export RUNS/people/A/predictions.jsonl RUNS/people/B/predictions.jsonl \
        --context showtell:RUNS/people/A/context.jsonl

makes. Beside it stand measures that no person is needed for. Stopped, the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from making import Opener, first_answer, own_photos_in_place, own_texts, painted_texts
from runner import CLIP_NOTES, Bench, Row, Rows, Sheet, table
from story_tasks import LLM, PAINTER, RUNS, WITH_VOKENS, painters_read, tasks_of
from torch import Tensor
from torch.nn import functional as F
from workers import slug

from photoworld.stories import STEPS
from photoworld.words import named_attributes
from showtell.batch import to_image
from showtell.cli.exits import exit_code_of
from showtell.dialogue import Dialogue, Photo
from showtell.evaluation.answered import Answers
from showtell.evaluation.compare import Column, columns_of
from showtell.evaluation.score_runs import Run, photo_run, text_scores
from showtell.evaluation.world_gold import Gold
from showtell.metrics.paired import Scores, scores
from showtell.papers.forms import steps_of

NAME, GOLD = "minigpt5_table4", "gold text and photo"
TWO_STAGES = replace(LLM, name="two stages: LLM, then painter")


def with_texts(tasks: Sequence[Dialogue], texts: Sequence[str]) -> list[Dialogue]:
    """The tasks with these texts in the places of the gold ones."""
    found = []
    for task, text in zip(tasks, texts, strict=True):
        k, turns = first_answer(task), list(task.turns)
        turns[k] = replace(turns[k], elements=(text,))
        found.append(replace(task, turns=tuple(turns)))
    return found


def painted_after(stories: Sequence[Dialogue], texts: Sequence[str], painter: Opener) -> Tensor:
    """A painter's photos of own texts, each after the gold ones of the steps before it."""
    left = iter(texts)
    read = [
        [*steps[:k], replace(steps[k], text=next(left))]
        for steps in map(steps_of, stories)
        for k in range(1, STEPS)
    ]
    return painted_texts(painter, painters_read(read, earlier=True))


def coherence(texts: Sequence[str], photos_N3HW: Tensor, gold: Gold) -> dict[str, Scores]:
    """How far photos show what their texts say."""
    rows = []
    for text, seen in zip(texts, gold.readers.oracle.read(photos_N3HW), strict=True):
        named = {name: values for name, values in named_attributes(text).items() if name in seen}
        rows.append([sum(seen[name] in values for name, values in named.items()), len(named)])
    of = gold.drawn_as
    found = {"coherence.shown": scores("ratio", of, rows)} if any(n for _, n in rows) else {}
    if (clip := gold.readers.clip) is not None:
        images = [to_image(photo) for photo in photos_N3HW]
        cosine_N = F.cosine_similarity(clip.texts(list(texts)), clip.photos(images), dim=-1)
        found["coherence.clip"] = scores("mean", of, cosine_N.tolist())
    return found


def write_records(
    folder: Path, tasks: Sequence[Dialogue], texts: Sequence[str], photos_N3HW: Tensor
) -> None:
    """What a row made, for "showtell judge" and "showtell score", without the instruction that the
    LLM is given first."""
    answers = Answers(dialogues=[], folder=folder)
    for number, (task, text) in enumerate(zip(tasks, texts, strict=True)):
        (asked, *rest), k = task.turns, first_answer(task)
        elements = [
            replace(e, path=str(folder / answers.keep_gold(e, e.id)["photo"]))
            if isinstance(e, Photo)
            else e
            for e in asked.elements[1:]
        ]
        turns = (replace(asked, elements=tuple(elements)), *rest)
        answers.dialogues.append(replace(task, turns=turns))
        own = answers.keep_photo(to_image(photos_N3HW[number]), "photos", f"{number:06}")
        gold = {"elements": [task.turns[k].text]}
        answers.add("answer", (number, k), {"elements": [text, own]}, gold)
    answers.write()


def going_on(bench: Bench, rows: Sequence[Row]) -> Rows:
    """Drawn are stories, whose four tasks belong together."""
    stories = bench.data("stories")
    tasks = tasks_of(stories, "task_go_on")
    gold = Gold(tasks, bench.readers, tasks_each=STEPS - 1)
    wanted = [task.turns[first_answer(task)].text for task in tasks]
    found: dict[str, list[Run]] = {}
    for row in rows:
        for seed in bench.seeds:
            run = bench.trained(LLM if row == TWO_STAGES else row, seed)
            system = bench.opener(run)
            texts = bench.kept(run / f"{NAME}.json", partial(own_texts, system, tasks), len(tasks))
            if row == TWO_STAGES:
                painter = bench.opener(bench.trained(PAINTER, seed))
                paint = partial(painted_after, stories, texts, painter)
            else:
                paint = partial(own_photos_in_place, system, with_texts(tasks, texts))
            photos = bench.kept_photos(run / f"{NAME}-photos.safetensors", paint, len(tasks))
            scored = photo_run(photos, gold)
            words = text_scores(texts, wanted, of=gold.drawn_as, readers=gold.readers)
            more = words | coherence(texts, photos, gold)
            found.setdefault(row.name, []).append(replace(scored, scores=scored.scores | more))
            if seed == bench.seeds[0]:
                few = slice(bench.options.people)
                folder = bench.runs / "people" / slug(row.name)
                write_records(folder, tasks[few], texts[few], photos[few])
    return {**found, GOLD: [Run(scores=coherence(wanted, gold.pixels_N3HW, gold))]}


SHEET = Sheet(
    name=NAME,
    title="MiniGPT-5, Table 4, in the photo world: a story goes on in words and a photo",
    rows=(TWO_STAGES, *WITH_VOKENS),
    against=TWO_STAGES.name,
    measure=going_on,
    columns=(
        *columns_of("text.similarity", "text.psdg.rouge_l", "text.psdg.bleu1"),
        *columns_of("photo.clip_i", "photo.kid"),
        Column(name="coherence.shown", head="what the text names is shown", group="coherence"),
        Column(name="coherence.clip", head="CLIP-T, own text", group="coherence", unit=""),
    ),
    notes=(
        "Texts are those of each row, photos are made after them; gold are the steps before.",
        "Coherence is of a row's own photo with its own text: the share of attributes named in the "
        "text that the oracle reads in the photo, and the cosine of the two. Gold texts also name "
        "what the last photo will be, so theirs is not 100%.",
        *CLIP_NOTES,
    ),
)
main = table(__file__, __doc__, SHEET, runs=RUNS, limit=200, people=100)

if __name__ == "__main__":
    sys.exit(exit_code_of(main))
