"""MiniGPT-5, Table 6, in the photo world: one photo from one caption; and its trade-off.

    python experiments/minigpt5_table6.py --base runs/world_base/model [--clip ...] [--steps 2000]

Unimodal alignment alone: vokens with the ablations of the paper (guidance, L_cap, L_LDM), other
numbers of vokens, as released; GILL on the same captions; and the painter by itself. The second
table paints from the first row's model at several guidance scales: FID against CLIP-I. FID and IS
need 2,000 photos: --limit 2000. Stopped, the same command goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Sequence

import runner
from runner import AS_BUILT, CLIP_NOTES, ZERO_SHOT, Bench, Opener, Row, Rows, Sheet
from torch import Tensor

from showtell.cli.exits import exit_code_of
from showtell.dialogue import Dialogue
from showtell.evaluation.compare import columns_of
from showtell.evaluation.world_gold import Gold
from showtell.papers.minigpt5 import ABLATIONS

NAME, GUIDANCE, VOKENS = "minigpt5_table6", "minigpt5_guidance", "vokens"
SCALES = {f"{VOKENS}, guidance {scale:g}": scale for scale in (1.0, 2.0, 3.0, 5.0, 7.5)}
ABLATED = {
    VOKENS: "full",
    "without CFG": "without_cfg",
    "without L_cap": "without_cap",
    "without L_LDM": "without_ldm",
    "1 voken": "vokens_1",
    "4 vokens": "vokens_4",
    "16 vokens": "vokens_16",
    "as released": "release",
}
ROWS = (
    Row(name=ZERO_SHOT),
    Row(name="GILL", recipe="world_gill_captions"),
    *(Row(name=n, recipe="world_vokens", settings=ABLATIONS[k]) for n, k in ABLATED.items()),
    Row(name=AS_BUILT, recipe="world_vokens", settings=("start_captions=0",)),
)
COLUMNS = columns_of(
    *("photo.clip_i", "photo.clip_t", "photo.inception_score", "photo.fid", "photo.kid"),
    "photo.attribute_accuracy_in_dialogue",
)
NOTES = (
    "All rows read the captions of test photos; attributes are those that a caption states.",
    "The second stage and its adapter have no part in it. Without CFG means that neither training "
    "nor painting has the mapped zero feature: the empty caption stands in its place.",
)


def photos_of(
    name: str, model: Opener, tasks: Sequence[Dialogue], scale: float | None = None
) -> Tensor:
    """A row's photos; ``scale`` stands in for the guidance of its model."""
    opened = model()
    if name == ZERO_SHOT:
        return runner.painted_texts(opened, [task.turns[0].text for task in tasks])
    decoding = opened.decoding
    if scale is not None:
        decoding = dataclasses.replace(decoding, guidance=scale)
    return runner.photos_in_place(opened, tasks, decoding=decoding)


def rows_of(bench: Bench) -> Rows:
    gold, rows = Gold(bench.captions(), bench.readers), {}
    for name, run, model in bench.runs_of(bench.chosen(ROWS), only_aligned=True):
        make = functools.partial(photos_of, name, model, gold.dialogues)
        rows.setdefault(name, []).append(bench.photos(run / f"{NAME}.safetensors", make, gold))
    return rows


def scaled(bench: Bench) -> Rows:
    """The first row's model at each scale."""
    gold, rows = Gold(bench.captions(), bench.readers), {}
    first = [row for row in bench.chosen(ROWS) if row.name == VOKENS]
    for seed in bench.seeds if first else ():
        run = bench.trained(first[0], seed, only_aligned=True)
        for name, scale in SCALES.items():
            make = functools.partial(photos_of, VOKENS, bench.opener(run), gold.dialogues, scale)
            path = run / f"{GUIDANCE}-{scale:g}.safetensors"
            rows.setdefault(name, []).append(bench.photos(path, make, gold))
    return rows


SHEETS = (
    Sheet(
        name=NAME,
        title="MiniGPT-5, Table 6, in the photo world: one photo from one caption",
        columns=COLUMNS,
        against=VOKENS,
        rows=rows_of,
        notes=(*NOTES, *CLIP_NOTES),
    ),
    Sheet(
        name=GUIDANCE,
        title="MiniGPT-5 in the photo world: guidance, FID against CLIP-I",
        columns=COLUMNS,
        against=next(iter(SCALES)),
        rows=scaled,
        notes=(*NOTES[:1], *CLIP_NOTES),
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    return runner.main(SHEETS, runner.parser(__doc__, runs=NAME), arguments)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
