"""How sensitive 2408.08650's model is to temperature, rate and alpha, and how diverse its photos.

    python experiments/e2e_sensitivity.py --base runs/world_base/model [--steps N] [--seeds 0,1,2]

The paper gives one setting and studies none: final tau 0.01 (1e-4 in a digest of its second
version) with neither curve nor reason, and alpha is not given. A digest asks what tau does to the
diversity of images. Here: final tau 1, 0.1, 0.01, 1e-4, linearly and logarithmically; the rate
times 3 and by 3; alpha 0, 0.1, 1, 10. Beside quality stands diversity: the photos of one caption
from several seeds, their mean distance in the second encoder's features, and how many values the
oracle finds of each attribute that the caption leaves open; drawings of scenes drawn to the same
captions stand at the end. Many hours on two cores; stopped, the same command goes on.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import runner
import torch
from runner import PHOTO_NOTE, SEED_NOTE, Bench, Row, Rows, Sheet
from torch import Tensor

from photoworld.drawing import draw
from photoworld.scenes import ATTRIBUTES, LOOKS, TEST_SEEDS, Scene, sample_scene, write_caption
from showtell.batch import to_pixels
from showtell.cli.exits import exit_code_of
from showtell.evaluation.compare import Column, columns_of
from showtell.evaluation.world_gold import Readers
from showtell.metrics.paired import Scores
from showtell.models.decoder import Decoder
from showtell.models.respond import Responder
from showtell.recipes.registry import RECIPES

NAME, DEFAULT = "e2e_sensitivity", "tau 0.01, linear"
_RATE = RECIPES["world_mini"].config.stage.learning_rate
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
DRAWINGS = "drawings of the same captions"
Brief = tuple[str, Scene, tuple[str, ...]]  # a caption to paint several times, what it states
Found = Mapping[str, Sequence[tuple[int, float]]]


def briefs(count: int) -> list[Brief]:
    """Captions of test scenes."""
    found = []
    for seed in TEST_SEEDS[:count]:
        rng = random.Random(f"diversity-{seed}")
        scene = sample_scene(rng)
        caption, stated = write_caption(scene, rng)
        found.append((caption, scene, stated))
    return found


def left_open(scene: Scene, stated: Sequence[str]) -> list[str]:
    looks = {"colour"} if scene.subject in LOOKS else set()  # a name has its own colour
    return [name for name in ATTRIBUTES if name not in {*stated, *looks}]


def spread(photos: Iterable[Tensor], asked: Sequence[Brief], read_by: Readers) -> Found:
    """Of the photos (S, 3, H, W) of each caption: (number of the caption, value) of both
    measures."""
    found: dict[str, list[tuple[int, float]]] = {DISTANCE: [], VALUES: []}
    for number, (photos_S3HW, (_, scene, stated)) in enumerate(zip(photos, asked, strict=True)):
        with torch.no_grad():
            features_SF = read_by.encoder.features(photos_S3HW)
        found[DISTANCE].append((number, float(torch.pdist(features_SF).mean())))
        seen = read_by.oracle.read(photos_S3HW)
        for name in left_open(scene, stated):
            found[VALUES].append((number, float(len({one[name] for one in seen}))))
    return found


def spread_of_run(bench: Bench, run: Path, asked: Sequence[Brief]) -> Found:
    """The photos of each caption from the same seeds."""
    responder, seeds = Responder(Decoder(bench.opener(run)())), list(range(bench.options.photos))
    painted = (responder.paint_captions([c] * len(seeds), seeds=seeds).cpu() for c, _, _ in asked)
    return spread(painted, asked, bench.readers)


def drawn(asked: Sequence[Brief], num_seeds: int) -> list[Tensor]:
    """The same many drawings of scenes that agree with what each caption states."""
    photos = []
    for _, scene, stated in asked:
        fixed = {name: getattr(scene, name) for name in stated}
        scenes = [sample_scene(random.Random(seed), fixed=fixed) for seed in range(num_seeds)]
        photos.append(torch.stack([to_pixels(draw(scene)) for scene in scenes]))
    return photos


def scores_of(found: Found) -> dict[str, Scores]:
    return {key: v for name in found for key, v in runner.means(name, found[name]).items()}


def rows_of(bench: Bench) -> Rows:
    """Quality of all rows, and diversity of these and of the drawings; kept in each run."""
    options = bench.options
    if bench.tiny:
        options.captions, options.photos = 3, 2
    rows, asked = bench.chosen(ROWS), briefs(options.captions)
    found: dict[str, list[dict[str, Scores]]] = {}
    for row in rows:
        for seed in bench.seeds:
            run = bench.trained(row, seed)
            settings = {"captions": options.captions, "photos": options.photos}
            make = partial(spread_of_run, bench, run, asked)
            found.setdefault(row.name, []).append(
                scores_of(runner.kept(run / "diversity.json", settings, make))
            )
    found[DRAWINGS] = [scores_of(spread(drawn(asked, options.photos), asked, bench.readers))]
    return runner.with_scores(bench.compared(rows), found)


SHEET = Sheet(
    name=NAME,
    title="2408.08650: sensitivity to its settings, in the photo world",
    against=DEFAULT,
    rows=rows_of,
    columns=(
        *columns_of("text.psdg.bleu1", "text.psdg.bleu2", "text.word_perplexity", "moment.f1"),
        *columns_of("photo.attribute_accuracy_in_dialogue", "photo.kid_encoder"),
        *columns_of("photo.fid_encoder"),
        Column(name=DISTANCE, head="distance", group="diversity", higher_is_better=None, unit=""),
        Column(name=VALUES, head="values", group="diversity", higher_is_better=None, unit=""),
    ),
    notes=(
        PHOTO_NOTE,
        SEED_NOTE,
        f'The row "{DEFAULT}" is the recipe, whose alpha is 1.',
        "With alpha 0 the photo loss is gone altogether: the U-Net does not learn either.",
        "Tau is annealed over the same part of the run as in the recipe, however long it is.",
        "Distance: the mean Euclidean distance of two photos of one caption, of different seeds, "
        "in the second encoder's 64 features. Values: how many values of an attribute that the "
        "caption leaves open the oracle reads from the photos of one caption. More is not better: "
        "drawings, of scenes drawn at random to the same captions, are what the world holds.",
    ),
    about=lambda bench: {
        "diversity": f"{bench.options.captions} captions, {bench.options.photos} photos each"
    },
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = runner.parser(__doc__, runs=NAME)
    options.add_argument("--captions", type=int, default=100, help="painted several times")
    options.add_argument("--photos", type=int, default=8, help="of one caption")
    return runner.main([SHEET], options, arguments)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
