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

from _rows import AS_BUILT, Row, chosen, settle
from e2e_rows import test_captions
from photo_rows import (
    ZERO_SHOT,
    Opener,
    Scored,
    columns_of,
    options_parser,
    own_photos,
    painted_texts,
    publish,
    readers,
    runs_of,
    scored_once,
    table_of,
)
from torch import Tensor

from showtell.cli.exits import exit_code_of
from showtell.dialogue import Dialogue
from showtell.evaluation.scored import Gold
from showtell.papers.minigpt5 import ABLATIONS

NAME, GUIDANCE = "minigpt5_table6", "minigpt5_guidance"
VOKENS = "vokens"
SCALES = (1.0, 2.0, 3.0, 5.0, 7.5)
ROWS = (
    Row(name=ZERO_SHOT),
    Row(name="GILL", recipe="world_gill_captions"),
    *(
        Row(
            name=name,
            recipe="world_vokens",
            settings=ABLATIONS[key],
        )
        for name, key in {
            VOKENS: "full",
            "without CFG": "without_cfg",
            "without L_cap": "without_cap",
            "without L_LDM": "without_ldm",
            "1 voken": "vokens_1",
            "4 vokens": "vokens_4",
            "16 vokens": "vokens_16",
            "as released": "release",
        }.items()
    ),
    Row(name=AS_BUILT, recipe="world_vokens", settings=("start_captions=0",)),
)
COLUMNS = (
    *columns_of("photo.clip_i", "photo.clip_t", "photo.inception_score", "photo.fid"),
    *columns_of("photo.kid", "photo.attribute_accuracy_in_dialogue"),
)
TABLE_NOTES = (
    "All rows read the captions of test photos; attributes are those that a caption states.",
    "The second stage and its adapter have no part in it. Without CFG means that neither training "
    "nor painting has the mapped zero feature: the empty caption stands in its place.",
)


def photos_of(
    name: str, model: Opener, tasks: Sequence[Dialogue], scale: float | None = None
) -> Tensor:
    """A row's photos; ``scale`` stands in for the guidance of its model."""
    opened = model()
    if scale is not None:
        opened.decoding = dataclasses.replace(opened.decoding, guidance=scale)
    if name == ZERO_SHOT:
        return painted_texts(opened, [task.turns[0].text for task in tasks])
    return own_photos(opened, tasks)


def main(arguments: Sequence[str] | None = None) -> int:
    options = settle(options_parser(__doc__, name=NAME).parse_args(arguments))
    _, tasks = test_captions(options)
    gold = Gold(tasks, readers(options), seed=0)
    settings = {"captions": len(tasks), "base": options.base}
    rows: dict[str, list[Scored]] = {}
    scaled: dict[str, list[Scored]] = {}
    for name, run, model in runs_of(chosen(ROWS, options), options, only_aligned=True):
        make = functools.partial(photos_of, name, model, tasks)
        found = scored_once(run / f"{NAME}.safetensors", settings, make, gold)
        rows.setdefault(name, []).append(found)
        for scale in SCALES if name == VOKENS else ():
            make = functools.partial(photos_of, name, model, tasks, scale)
            found = scored_once(run / f"{GUIDANCE}-{scale:g}.safetensors", settings, make, gold)
            scaled.setdefault(_scale(scale), []).append(found)
    publish(
        table_of(rows, COLUMNS, against=VOKENS),
        COLUMNS,
        script="minigpt5_table6",
        name=NAME,
        title="MiniGPT-5, Table 6, in the photo world: one photo from one caption",
        against=VOKENS,
        notes=TABLE_NOTES,
        options=options,
    )
    if scaled:
        publish(
            table_of(scaled, COLUMNS, against=_scale(SCALES[0])),
            COLUMNS,
            script="minigpt5_table6",
            name=GUIDANCE,
            title="MiniGPT-5 in the photo world: guidance, FID against CLIP-I",
            against=_scale(SCALES[0]),
            notes=[*TABLE_NOTES[:1]],
            options=options,
        )
    return 0


def _scale(scale: float) -> str:
    return f"{VOKENS}, guidance {scale:g}"


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
