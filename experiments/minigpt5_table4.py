"""MiniGPT-5, Table 4, in the photo world: a story goes on, in words and in a photo.

    python experiments/minigpt5_table4.py --base runs/world_base/model [--clip ...] [--steps 2000]

Nothing of the step is read: its text is written, then its photo made, after all gold steps before
it. MiniGPT-5 does both; the paper's baseline takes two stages, a fine-tuned LLM that writes and a
fine-tuned painter that reads what was written, the newest first. People compare them in the paper,
by language, image and coherence: here they can too, on the page that "showtell judge export" makes
of the records under --runs (the command is printed). Beside them stand measures that no person is
needed for. What the other tables of stories have trained is not trained again. Stopped, the same
command goes on.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import runner
from jobs import slug, tell
from minigpt5_stories import FINE_TUNED, LLM, ROWS, RUNS, tasks_of
from runner import CLIP_NOTES, Bench, Row, Rows, Sheet, first_answer
from torch import Tensor
from torch.nn import functional as F

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
from showtell.papers.forms import newest_first, steps_of
from showtell.papers.minigpt5 import Step

NAME = "minigpt5_table4"
TWO_STAGES, GOLD = "two stages: LLM, then painter", "gold text and photo"
VOKENS = "vokens, LoRA"
PAINTER = next(row for row in ROWS if row.name == FINE_TUNED)
SYSTEMS = (
    Row(name=TWO_STAGES),
    *(row for row in ROWS if row.recipe in ("world_stories", "world_stories_prefix")),
)


def with_texts(tasks: Sequence[Dialogue], texts: Sequence[str]) -> list[Dialogue]:
    """The tasks with these texts in the places of the gold ones."""
    found = []
    for task, text in zip(tasks, texts, strict=True):
        k, turns = first_answer(task), list(task.turns)
        turns[k] = replace(turns[k], elements=(text,))
        found.append(replace(task, turns=tuple(turns)))
    return found


def makers(
    bench: Bench, row: Row, seed: int, stories: Sequence[Dialogue]
) -> tuple[Path, Callable[[], list[str]], Callable[[Sequence[str]], Tensor]]:
    """A row's folder, and what makes its texts and, of these, its photos."""
    tasks = tasks_of(stories, "task_go_on")
    run = bench.trained(LLM if row.name == TWO_STAGES else row, seed)
    model = bench.opener(run)
    if row.name != TWO_STAGES:
        return (
            run,
            lambda: runner.own_texts(model(), tasks),
            lambda texts: runner.photos_in_place(model(), with_texts(tasks, texts)),
        )
    painter = bench.opener(bench.trained(PAINTER, seed))

    def paint_after(texts: Sequence[str]) -> Tensor:
        left = iter(texts)
        read = [
            newest_first([*steps[:k], Step(text=next(left), photo=steps[k].photo)], earlier=True)
            for steps in map(steps_of, stories)
            for k in range(1, STEPS)
        ]
        return runner.painted_texts(painter(), read)

    return run, lambda: runner.own_texts(model(), tasks), paint_after


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
    shown = []
    for number, (task, text) in enumerate(zip(tasks, texts, strict=True)):
        (asked, *rest), elements = task.turns, []
        for element in asked.elements[1:]:
            if isinstance(element, Photo):
                path = folder / answers.keep_gold(element, element.id)["photo"]
                element = replace(element, path=str(path))
            elements.append(element)
        shown.append(replace(task, turns=(replace(asked, elements=tuple(elements)), *rest)))
        k = first_answer(task)
        own = answers.keep_photo(to_image(photos_N3HW[number]), "photos", f"{number:06}")
        gold = {"elements": [task.turns[k].text]}
        answers.add("answer", (number, k), {"elements": [text, own]}, gold)
    answers.dialogues = shown
    answers.write()
    tell(f"wrote {folder}/predictions.jsonl")


def rows_of(bench: Bench) -> Rows:
    stories = bench.data("stories")
    tasks = tasks_of(stories, "task_go_on")
    # drawn are stories, whose four tasks belong together
    gold = Gold(tasks, bench.readers, tasks_each=STEPS - 1)
    wanted = [task.turns[first_answer(task)].text for task in tasks]
    rows: dict[str, list[Run]] = {}
    for row in bench.chosen(SYSTEMS):
        for seed in bench.seeds:
            run, write, paint = makers(bench, row, seed, stories)
            texts = bench.kept(run / f"{NAME}.json", write, len(tasks))
            make = functools.partial(paint, texts)
            photos = bench.kept_photos(run / f"{NAME}-photos.safetensors", make, len(tasks))
            found = photo_run(photos, gold)
            words = text_scores(texts, wanted, of=gold.drawn_as, readers=gold.readers)
            more = words | coherence(texts, photos, gold)
            rows.setdefault(row.name, []).append(replace(found, scores={**found.scores, **more}))
            if seed == bench.seeds[0]:
                few = slice(bench.options.people)
                folder = bench.runs / "people" / slug(row.name)
                write_records(folder, tasks[few], texts[few], photos[few])
    rows[GOLD] = [Run(scores=coherence(wanted, gold.pixels_N3HW, gold))]
    return rows


SHEET = Sheet(
    name=NAME,
    title="MiniGPT-5, Table 4, in the photo world: a story goes on in words and a photo",
    against=TWO_STAGES,
    rows=rows_of,
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


def main(arguments: Sequence[str] | None = None) -> int:
    options = runner.parser(__doc__, runs=RUNS, limit=200)
    options.add_argument("--people", type=int, default=100, help="answers for people to compare")
    runner.main([SHEET], options, arguments)
    folder = options.parse_args(arguments).runs / "people"
    a, b = (folder / slug(name) for name in (VOKENS, TWO_STAGES))
    print(
        f"For people: showtell judge export {a}/predictions.jsonl {b}/predictions.jsonl "
        f"--context showtell:{a}/context.jsonl --out judge.html"
    )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
