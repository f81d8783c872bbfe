"""MiniGPT-5, Table 6, in the photo world: one photo from one caption; and its trade-off.

    python experiments/minigpt5_table6.py --base runs/world_base/model [--clip ...] [--steps 2000]

Unimodal alignment alone: vokens with the ablations of the paper (guidance, L_cap, L_LDM), other
numbers of vokens, as released, from a linear map that was fitted in closed form; GILL on the same
captions; and the painter by itself. The second
table paints from the first row's model at several guidance scales: FID against CLIP-I. FID and IS
need 2,000 photos: --limit 2000. Stopped, the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runner import CLIP_NOTES, ZERO_SHOT, Bench, Point, Row, Rows, Sheet, table

from showtell.cli.exits import exit_code_of
from showtell.evaluation.compare import columns_of
from showtell.evaluation.world_gold import Gold
from showtell.papers.minigpt5 import ABLATIONS

NAME, GUIDANCE = "minigpt5_table6", "minigpt5_guidance"
ABLATED = {
    "vokens": ABLATIONS["full"],
    "without CFG": ABLATIONS["without_cfg"],
    "without L_cap": ABLATIONS["without_cap"],
    "without L_LDM": ABLATIONS["without_ldm"],
    "1 voken": ABLATIONS["vokens_1"],
    "4 vokens": ABLATIONS["vokens_4"],
    "16 vokens": ABLATIONS["vokens_16"],
    "as released": ABLATIONS["release"],
    "mapper not started by captions": ("start_captions=0",),
}
VOKENS, *OTHERS = (
    Row(name=name, recipe="world_vokens", settings=settings, aligned_only=True)
    for name, settings in ABLATED.items()
)
FITTED = ("bridge.ridge_rank=128", "start_captions=4000")  # a linear path, in closed form
GILL = Row(name="GILL", recipe="world_gill_captions")
FROM_FIT = tuple(
    Row(
        name=f"{system}, {name}",
        recipe=recipe,
        settings=(*FITTED, *(f"{stage}.{setting}" for setting in settings)),
        aligned_only=recipe == "world_vokens",
    )
    for system, recipe, stage in (
        ("vokens", "world_vokens", "alignment"),
        ("GILL", GILL.recipe, "stage"),
    )
    for name, settings in (
        ("fitted", ("steps=0",)),
        ("from the fit", ("learning_rate=1e-3", "learning_rates.bridge.mapper.path=0.1")),
    )
)
SCALES = {f"guidance {scale:g}": scale for scale in (1.0, 2.0, 3.0, 5.0, 7.5)}
COLUMNS = columns_of(
    *("photo.clip_i", "photo.clip_t", "photo.inception_score", "photo.fid", "photo.kid"),
    "photo.attribute_accuracy_in_dialogue",
)
NOTES = (
    "All rows read the captions of test photos; attributes are those that a caption states.",
    "The second stage and its adapter have no part in it. Without CFG means that neither training "
    "nor painting has the mapped zero feature: the empty caption stands in its place.",
    '"Fitted": a linear path of rank 128 beside the mapper, by ridge regression on 4,000 captions, '
    'and no step of training; "from the fit": as many steps as the other rows, after it.',
)


def photos(bench: Bench, rows: Sequence[Row]) -> Rows:
    tasks = bench.captions()
    point = Point(tasks=tasks, texts=[task.turns[0].text for task in tasks])
    return bench.shown(NAME, rows, {"": point}, Gold(tasks, bench.readers))


def scaled(bench: Bench, rows: Sequence[Row]) -> Rows:
    """The first row's model at each scale."""
    tasks = bench.captions()
    points = {head: Point(tasks=tasks, guidance=scale) for head, scale in SCALES.items()}
    return bench.shown(GUIDANCE, rows, points, Gold(tasks, bench.readers))


SHEETS = (
    Sheet(
        name=NAME,
        title="MiniGPT-5, Table 6, in the photo world: one photo from one caption",
        rows=(ZERO_SHOT, GILL, VOKENS, *OTHERS, *FROM_FIT),
        columns=COLUMNS,
        against=VOKENS.name,
        measure=photos,
        notes=(*NOTES, *CLIP_NOTES),
    ),
    Sheet(
        name=GUIDANCE,
        title="MiniGPT-5 in the photo world: guidance, FID against CLIP-I",
        rows=(VOKENS,),
        columns=COLUMNS,
        against=f"{VOKENS.name}; guidance 1",
        measure=scaled,
        notes=(*NOTES[:1], *CLIP_NOTES),
    ),
)
main = table(__file__, __doc__, *SHEETS)

if __name__ == "__main__":
    sys.exit(exit_code_of(main))
