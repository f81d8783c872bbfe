"""MiniGPT-5, Table 5, in the photo world: multi-turn dialogue, beside Divter.

    python experiments/minigpt5_table5.py [--comparison docs/results/world.json]

The paper's measures on MMDialog: IS of the photos, BLEU and ROUGE-L of the words, MM-Relevance of
whole answers. These systems, trained on the same dialogues, are rows of the comparison already
(experiments/world_table.sh); this takes them from there and trains nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runner import RESULTS, write_sheet

from showtell.cli.exits import exit_code_of
from showtell.errors import DataError, UsageError
from showtell.evaluation.compare import columns_of
from showtell.evaluation.table_page import from_json

NAME, AGAINST = "minigpt5_table5", "pipeline"  # of the comparison
ROWS = (
    *("vokens, LoRA", "vokens, prefix", "vokens, LoRA, described"),
    *("Divter", "Divter, translator untrained"),
)
COLUMNS = columns_of(
    *("text.psdg.bleu1", "text.psdg.bleu2", "text.psdg.rouge_l", "relevance.f1", "photo.clip_i"),
    *("photo.attribute_accuracy_in_dialogue", "photo.inception_score", "photo.fid", "photo.kid"),
)
NOTES = (
    "Photos are each row's own, at the agent's gold photo turns; answers are whole ones, from the "
    "first answer with a photo on.",
    'The paper has the first two rows and Divter. "described" keeps the captions of photos for '
    "L_cap in multimodal learning, against the paper.",
    f'All cells are those of the comparison, and so are the differences to its row "{AGAINST}".',
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--comparison", type=Path, default=RESULTS / "world.json")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    again = 'make it by "sh experiments/world_table.sh quick", or name another --comparison'
    if not options.comparison.is_file():
        raise UsageError(f'there is no comparison at "{options.comparison}"; {again}')
    try:
        table, passport = from_json(options.comparison.read_text(encoding="utf-8"))
    except DataError as error:
        raise DataError(f'"{options.comparison}": {error}; {again}') from error
    names = [column.name for column in COLUMNS]
    rows = {row: {name: table[row][name] for name in names} for row in ROWS if row in table}
    if not rows:
        raise UsageError(f'"{options.comparison}" has none of the rows {", ".join(ROWS)}; {again}')
    write_sheet(
        rows,
        COLUMNS,
        name=NAME,
        title="MiniGPT-5, Table 5, in the photo world: multi-turn dialogue",
        against=AGAINST,
        notes=NOTES,
        about={f"the comparison's {key}": value for key, value in passport.items()},
        out=options.out,
    )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
