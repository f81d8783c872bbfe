"""How sensitive 2408.08650's model is to temperature, rate and alpha, and how diverse its photos.

    python experiments/e2e_sensitivity.py --base runs/world_base/model [--steps N] [--seeds 0,1,2]

The paper gives one setting and studies none: final tau 0.01 (1e-4 in a digest of its second
version) with neither curve nor reason, and alpha is not given. A digest asks what tau does to the
diversity of images. Here: final tau 1, 0.1, 0.01, 1e-4, linearly and logarithmically; the rate
times 3 and by 3; alpha 0, 0.1, 1, 10. Beside quality stands diversity: the photos of one caption
from several seeds, their mean distance in the second encoder's features, and how many values the
oracle finds of each attribute that the caption leaves open; drawings of scenes drawn to the same
captions stand at the end. Writes e2e_sensitivity.md, .json and .png. Many hours on two cores;
stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _rows import Row, about, chosen, kept, parser, settle, write
from e2e_rows import (
    PHOTO_NOTE,
    SEED_NOTE,
    add_column,
    columns_of,
    compared,
    instruments,
    opened,
    run_of,
)
from torch import Tensor

from photoworld.drawing import draw
from photoworld.scenes import ATTRIBUTES, LOOKS, TEST_SEEDS, Scene, sample_scene, write_caption
from showtell.batch import to_pixels
from showtell.cli.exits import exit_code_of
from showtell.evaluation.scored import Instruments
from showtell.evaluation.table import Column
from showtell.metrics.paired import Scores, scores
from showtell.models.decoder import Decoder
from showtell.models.respond import Responder
from showtell.recipes import RECIPES

DEFAULT = "tau 0.01, linear"
_RATE = RECIPES["world_mini"].config().stage.learning_rate
ROWS = (
    Row(name=DEFAULT),
    *(
        Row(
            name=f"tau {final}, {curve}",
            settings=(f"bridge.temperature_final={final}", f"bridge.annealing={curve}"),
        )
        for final in ("0.1", "0.01", "1e-4")
        for curve in ("linear", "log")
        if (final, curve) != ("0.01", "linear")
    ),
    Row(name="tau 1", settings=("bridge.temperature_final=1",)),
    Row(name="rate x 3", settings=(f"stage.learning_rate={3 * _RATE:g}",)),
    Row(name="rate / 3", settings=(f"stage.learning_rate={_RATE / 3:g}",)),
    *(Row(name=f"alpha {a}", settings=(f"stage.weights.v={a}",)) for a in ("0", "0.1", "10")),
)
DISTANCE, VALUES = "diversity.distance", "diversity.values"
COLUMNS = (
    *columns_of(
        "text.psdg.bleu1",
        "text.psdg.bleu2",
        "text.word_perplexity",
        "moment.f1",
        "photo.attribute_accuracy_in_dialogue",
        "photo.kid_encoder",
        "photo.fid_encoder",
    ),
    Column(name=DISTANCE, head="distance", group="diversity", higher_is_better=None, unit=""),
    Column(name=VALUES, head="values", group="diversity", higher_is_better=None, unit=""),
)
DRAWINGS = "drawings of the same captions"
NOTES = (
    PHOTO_NOTE,
    SEED_NOTE,
    f'The row "{DEFAULT}" is the recipe, whose alpha is 1.',
    "With alpha 0 the photo loss is gone altogether: the U-Net does not learn either.",
    "Tau is annealed over the same part of the run as in the recipe, however many steps it has.",
    "Distance: the mean Euclidean distance of two photos of one caption, of different seeds, in "
    "the second encoder's 64 features. Values: how many values of an attribute that the caption "
    "leaves open the oracle reads from the photos of one caption. More is not better: drawings, "
    "of scenes drawn at random to the same captions, are what the world holds.",
)


@dataclass(frozen=True, kw_only=True)
class Brief:
    """A caption to paint several times: what it states, and what it leaves open."""

    caption: str
    scene: Scene
    stated: tuple[str, ...]

    @property
    def open(self) -> list[str]:
        looks = {"colour"} if self.scene.subject in LOOKS else set()  # a name has its own colour
        return [name for name in ATTRIBUTES if name not in {*self.stated, *looks}]


def briefs(count: int) -> list[Brief]:
    """Captions of test scenes."""
    found = []
    for seed in TEST_SEEDS[:count]:
        rng = random.Random(f"diversity-{seed}")
        scene = sample_scene(rng)
        caption, stated = write_caption(scene, rng)
        found.append(Brief(caption=caption, scene=scene, stated=stated))
    return found


def spread(
    photos: Sequence[Tensor], asked: Sequence[Brief], read_by: Instruments
) -> dict[str, list[tuple[int, float]]]:
    """Of the photos (S, 3, H, W) of each caption: (number of the caption, value) of both
    measures."""
    found: dict[str, list[tuple[int, float]]] = {DISTANCE: [], VALUES: []}
    for number, (photos_S3HW, brief) in enumerate(zip(photos, asked, strict=True)):
        with torch.no_grad():
            features_SF = read_by.encoder.features(photos_S3HW)
        found[DISTANCE].append((number, float(torch.pdist(features_SF).mean())))
        seen = read_by.oracle.read(photos_S3HW)
        for name in brief.open:
            found[VALUES].append((number, float(len({one[name] for one in seen}))))
    return found


def painted(run: Path, asked: Sequence[Brief], num_seeds: int) -> list[Tensor]:
    """The photos of each caption from the same seeds."""
    responder = Responder(Decoder(opened(run)))
    seeds = list(range(num_seeds))
    return [responder.paint_captions([brief.caption] * num_seeds, seeds=seeds) for brief in asked]


def spread_of_run(
    run: Path, asked: Sequence[Brief], num_seeds: int, read_by: Instruments
) -> dict[str, list[tuple[int, float]]]:
    return spread(painted(run, asked, num_seeds), asked, read_by)


def drawn(asked: Sequence[Brief], num_seeds: int) -> list[Tensor]:
    """The same many drawings of scenes that agree with what each caption states."""
    photos = []
    for brief in asked:
        fixed = {name: getattr(brief.scene, name) for name in brief.stated}
        scenes = [sample_scene(random.Random(seed), fixed=fixed) for seed in range(num_seeds)]
        photos.append(torch.stack([to_pixels(draw(scene)) for scene in scenes]))
    return photos


def diversity(
    rows: Sequence[Row], options: argparse.Namespace
) -> dict[str, list[dict[str, Scores]]]:
    """For each row, and for the drawings, the measures of each training seed; kept in its run."""
    asked, read_by = briefs(options.captions), instruments()
    settings = {"captions": options.captions, "photos": options.photos}
    found: dict[str, list[dict[str, Scores]]] = {}
    for row in rows:
        for seed in options.seeds:
            run = run_of(row, seed, options)
            values = kept(
                run / "diversity.json",
                settings,
                partial(spread_of_run, run, asked, options.photos, read_by),
            )
            found.setdefault(row.name, []).append(_scores(values))
    found[DRAWINGS] = [_scores(spread(drawn(asked, options.photos), asked, read_by))]
    return found


def _scores(values: Mapping[str, Sequence[tuple[int, float]]]) -> dict[str, Scores]:
    return {name: scores("mean", *np.array(rows).T) for name, rows in values.items() if len(rows)}


def main(arguments: Sequence[str] | None = None) -> int:
    found = parser(__doc__, name="e2e_sensitivity")
    found.add_argument("--captions", type=int, default=100, help="captions painted several times")
    found.add_argument("--photos", type=int, default=8, help="of one caption")
    options = settle(found.parse_args(arguments))
    if options.tiny:
        options.captions, options.photos = 3, 2
    rows = chosen(ROWS, options)
    table = compared(rows, options, against=DEFAULT)
    spreads = diversity(rows, options)
    for column in COLUMNS[-2:]:
        add_column(table, column, spreads, against=DEFAULT)
    write(
        table,
        COLUMNS,
        name="e2e_sensitivity",
        title="2408.08650: sensitivity to its settings, in the photo world",
        against=DEFAULT,
        notes=NOTES,
        about=about(options)
        | {"diversity": f"{options.captions} captions, {options.photos} photos each"},
        out=options.out,
    )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
