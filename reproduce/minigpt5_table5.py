"""MiniGPT-5, Table 5, in the photo world: multi-turn dialogue, beside Divter.

    python reproduce/minigpt5_table5.py --base runs/world_base/model --codes runs/world_codes/model

The paper's measures on MMDialog: IS of the photos, BLEU and ROUGE-L of the words, MM-Relevance of
whole answers (with --clip). --codes is the model of "showtell train world_codes", without which
Divter's rows are not run. Training is that of the comparison (reproduce/world_table.py), which has
these systems beside all others. Stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from _rows import Row, chosen, settle
from e2e_rows import test_dialogues
from jobs import slug
from photo_rows import Opener, columns_of, options_parser, publish, readers, runs_of

from showtell.dialogue import Dialogue
from showtell.evaluation.outputs import OUTPUTS, Outputs, outputs_of
from showtell.evaluation.scored import Gold
from showtell.evaluation.table import Run, table_of
from showtell.serve.exits import exit_code_of

NAME = "minigpt5_table5"
VOKENS = "vokens, LoRA"
DIVTER = (
    Row(name="Divter", recipe="world_divter"),
    Row(
        name="Divter, translator untrained",
        recipe="world_divter",
        settings=("pretrained=false",),
    ),
)
ROWS = (
    Row(name=VOKENS, recipe="world_vokens"),
    Row(name="vokens, prefix", recipe="world_vokens_prefix"),
)
COLUMNS = columns_of(
    "text.psdg.bleu1",
    "text.psdg.bleu2",
    "text.psdg.rouge_l",
    "relevance.f1",
    "photo.clip_i",
    "photo.attribute_accuracy_in_dialogue",
    "photo.inception_score",
    "photo.fid",
    "photo.kid",
)
MOST_ANSWERS = 150


def rows_of(options: argparse.Namespace) -> tuple[list[Row], dict[str, str]]:
    """The rows that can be run, and why the others cannot."""
    rows = chosen((*ROWS, *DIVTER), options)
    absent = {}
    if options.codes:
        codes = f"codes={Path(options.codes).resolve()}"
        rows = [
            replace(row, settings=(codes, *row.settings)) if row in DIVTER else row for row in rows
        ]
    else:
        absent = {row.name: "no --codes was named" for row in rows if row in DIVTER}
    return [row for row in rows if row.name not in absent], absent


def outputs_in(
    folder: Path, model: Opener, dialogues: Sequence[Dialogue], *, data: str, answers: int
) -> Outputs:
    """What a run says and paints on the dialogues, made once."""
    if not (folder / OUTPUTS).is_file():
        print(f"measuring {folder}", file=sys.stderr, flush=True)
        found = outputs_of(model(), dialogues, data=data, seed=0, most_answers=answers)
        found.save(folder)
    return Outputs.load(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    found = options_parser(__doc__, name=NAME, after_alignment=True)
    found.add_argument("--codes", help='the model of "showtell train world_codes", for Divter')
    options = settle(found.parse_args(arguments))
    data, dialogues = test_dialogues(options)
    rows, absent = rows_of(options)
    answers = 2 if options.tiny else MOST_ANSWERS
    systems: dict[str, list[Run]] = {}
    for name, run, model in runs_of(rows, options):
        folder = run / f"outputs-{slug(data)}"
        outputs = outputs_in(folder, model, dialogues, data=data, answers=answers)
        systems.setdefault(name, []).append(Run(outputs=outputs, costs={}))
    gold = Gold(dialogues, readers(options), seed=0)
    publish(
        table_of(systems, gold, against=VOKENS, absent=absent),
        COLUMNS,
        script="minigpt5_table5",
        name=NAME,
        title="MiniGPT-5, Table 5, in the photo world: multi-turn dialogue",
        against=VOKENS,
        notes=[
            "Photos are each row's own, at the agent's gold photo turns; answers are whole ones, "
            "from the first answer with a photo on.",
        ],
        options=options,
    )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
