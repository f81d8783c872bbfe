"""MiniGPT-5 and GILL in the photo world's dialogues: what it takes to paint what was talked about.

    python experiments/gathered.py --base runs/world_base/model --seeds 0 [--only ROW ...]

All rows start from one base, which should never have been trained end to end, and are measured on
the same dialogues. Two groups: rows whose photos have captions in training, and rows that never
read one after the mapper was started. "gathered" has a stage on dialogues in which the whole LLM
moves and captions are targets; the number is that of its steps. "Then as published" goes on from
it with the paper's own last stage, a quarter as long. Each number of steps is a run of its own, and
not one run looked at on its way. Stopped, the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from runner import PHOTO_NOTE, SEED_NOTE, Bench, Row, Rows, Sheet, schedule, table

from showtell.cli.exits import exit_code_of
from showtell.evaluation.compare import COLUMNS
from showtell.recipes.registry import RECIPES

CURVE = (450, 1800, 5400)
COMMON = ("stage.batch_size=32", "stage.ema=0.95", "stage.save_minutes=1", "album_photos=0")
RIDGE = (
    "bridge.ridge_rank=128",
    "bridge.ridge_damping=0.1",
    "start_captions=2000",
    "start_dialogues=4000",
)
BASE = Row(name="base, no step", recipe="")


def stages(recipe: str, **steps: int) -> list[str]:
    """So many steps of each stage, which warms up at the same part of them as in the recipe."""
    named: dict[str, Any] = {stage.name: stage for stage in RECIPES[recipe].config.stages}
    return [word for name, count in steps.items() for word in schedule(named[name], name, count)]


def gathered(system: str, recipe: str, last: str, steps: int) -> tuple[Row, Row]:
    """A row that ends after gathering, and one that goes on from it with the paper's last stage."""
    named = (stage.name for stage in RECIPES[recipe].config.stages)
    common = (*COMMON, *(f"{name}.steps=0" for name in named if name == "alignment"))
    own = ("gathering.save_minutes=1", "gathering.ema=0.95")
    first = Row(
        name=f"{system}, gathered, {steps:,} steps",
        recipe=recipe,
        settings=(*common, *own, *stages(recipe, gathering=steps), f"{last}.steps=0"),
    )
    settings = (*common, "gathering.steps=0", *stages(recipe, **{last: steps // 4}))
    name = f"{first.name}, then as published"
    return first, Row(name=name, recipe=recipe, settings=settings, after=first)


VOKENS = [gathered("MiniGPT-5", "world_vokens_gathered", "learning", steps) for steps in CURVE]
GILL = [gathered("GILL", "world_gill_gathered", "gill", steps) for steps in CURVE]
READS = (
    BASE,
    *(first for first, _ in VOKENS),
    *(
        Row(
            name=f"GILL, LLM frozen, {steps:,} steps",
            recipe="world_gill",
            settings=(*COMMON, *RIDGE, *stages("world_gill", gill=steps)),
        )
        for steps in CURVE
    ),
    *(row for rows in GILL for row in rows),
)
NEVER = (
    *(
        Row(
            name=f"MiniGPT-5, never gathered, {steps:,} steps",
            recipe="world_vokens",
            settings=(
                *(*COMMON, *RIDGE, "alignment.steps=0"),
                *(*stages("world_vokens", learning=steps), "learning.learning_rate=1e-4"),
            ),
        )
        for steps in CURVE
    ),
    *(then for _, then in VOKENS),
)
WORDS = tuple(
    Row(
        name=f"text only, {steps:,} steps",
        recipe="world_text",
        settings=(*COMMON, *stages("world_text", text=steps)),
    )
    for steps in CURVE
)
HEADS = {
    *("text.word_perplexity", "moment.f1", "photo.attribute_accuracy_in_dialogue", "photo.kid"),
    *("cost.trained", "cost.training_seconds", "seeing.accuracy"),
}


def measured(bench: Bench, rows: Sequence[Row]) -> Rows:
    return bench.compared(rows, most_texts=bench.options.replies)


SHEET = Sheet(
    name="gathered",
    title="The photo world: MiniGPT-5 and GILL paint what was talked about",
    rows=(*READS, *NEVER, *WORDS),
    columns=[column for column in COLUMNS if column.name in HEADS],
    against=BASE.name,
    measure=measured,
    floors=True,
    notes=(
        PHOTO_NOTE,
        "The first group's photos have captions in training, to the last step: the base's own "
        '(it writes a caption, and the painter reads it), and all rows that end in "gathered" or '
        "whose loss has captions as targets (GILL). The second group's photos have none: "
        '"never gathered" has L_LDM alone once its mapper is started (which reads captions); '
        '"gathered, then as published" reads captions in gathering and none after it.',
        "The mapper of every row is started in closed form (ridge regression of rank 128) from the "
        "base's states at 2,000 captions and at the agent's photos in 4,000 training dialogues.",
        "The seconds are those of the stages on the device named below.",
        SEED_NOTE,
    ),
)
main = table(__file__, __doc__, SHEET, steps=450, replies=100)

if __name__ == "__main__":
    sys.exit(exit_code_of(main))
