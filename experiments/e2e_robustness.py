"""2408.08650's claim of robustness: attribute accuracy with 0 to 4 words of the caption corrupted.

    python experiments/e2e_robustness.py runs/world_mini runs/world_pipeline [--photos 500]

"The separate training causes the image generation model to be sensitive to the text dialogue
generation model": so a pipeline's painter should lose more by a wrong word than that of a model
trained end to end. In captions of the agent's test photos, words at drawn places become other words
of the world, the same for every checkpoint, each photo from its own noise; the second wrong word
joins the first. An attribute whose word is gone cannot be painted; so beside all attributes that
the gold caption states stand those that the corrupted one still states. Writes e2e_robustness.md,
.json and .png. Stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from _rows import kept, write
from e2e_rows import test_dialogues
from jobs import slug

from photoworld.facts import named_attributes
from photoworld.oracle import AttributeReader
from photoworld.scenes import ATTRIBUTES
from photoworld.words import world_words
from showtell.cli.exits import exit_code_of
from showtell.data.world import load_oracle
from showtell.errors import UsageError
from showtell.evaluation.table import Cell, Column
from showtell.evaluation.world_photos import Order, paint_orders, photo_orders
from showtell.metrics.paired import Scores, difference, run_value, scores
from showtell.metrics.report import model_digest
from showtell.models.checkpoint import model_folder
from showtell.papers import load_model

WORDS = range(5)
STATED, KEPT = "robustness.stated", "robustness.still_stated"
_WORD = re.compile(r"[^\W\d_]+")
COLUMNS = (
    Column(name=STATED, head="attributes", group="photos"),
    Column(name=KEPT, head="those still stated", group="photos"),
)
NOTES = (
    "Attributes: what the gold caption states, read by the oracle; each counts the same.",
    "Still stated: those of which the corrupted caption names the true value and no other.",
    "The differences are to the same checkpoint's photos without a wrong word, the same attributes "
    "counted, paired by photo; so are intervals: photos are drawn, not dialogues.",
)


def corrupted(caption: str, count: int, *, seed: int) -> str:
    """The caption with ``count`` of its words (all, if it has fewer) replaced by other words of
    the world. More words corrupted are the same ones and others."""
    rng = random.Random(f"corrupted-{seed}")
    places = list(_WORD.finditer(caption))
    rng.shuffle(places)
    words = sorted(world_words())
    for place in sorted(places[:count], key=lambda place: -place.start()):
        # its own die, so that a word is replaced by the same one whatever else is
        die = random.Random(f"{seed}/{place.start()}")
        other = die.choice([word for word in words if word != place[0].lower()])
        caption = caption[: place.start()] + other + caption[place.end() :]
    return caption


def still_stated(order: Order, caption: str) -> list[str]:
    """Of the attributes that the order counts, those that ``caption`` still gives as they were."""
    before, after = named_attributes(order.caption), named_attributes(caption)
    return [name for name in order.counts if before.get(name) and before[name] == after.get(name)]


def read_right(
    checkpoint: str, orders: Sequence[Order], count: int, oracle: AttributeReader
) -> list[list[bool]]:
    """Paint each order with ``count`` wrong words: which attributes are as in its scene, (N, A)."""
    captions = [corrupted(order.caption, count, seed=order.seed) for order in orders]
    told = [replace(order, caption=c) for order, c in zip(orders, captions, strict=True)]
    read = oracle.read(paint_orders(load_model(checkpoint), told))
    return [
        [found[name] == order.scene[name] for name in ATTRIBUTES]
        for found, order in zip(read, orders, strict=True)
    ]


def macro(right_NA: np.ndarray, counted_NA: np.ndarray) -> Scores:
    """The mean over attributes of how often each is right where it counts, drawn by photo."""
    rows_N2A = np.concatenate([right_NA & counted_NA, counted_NA], axis=1)
    return scores("macro", range(len(rows_N2A)), rows_N2A)


def orders_of(options: argparse.Namespace) -> list[Order]:
    """The agent's photos in the first test dialogues, ``--photos`` of them."""
    options.limit = 12 if options.tiny else 4 * options.photos
    _, dialogues = test_dialogues(options)
    return photo_orders(dialogues, seed=options.seed)[: options.photos]


def measured(
    checkpoints: Mapping[str, str], orders: Sequence[Order], options: argparse.Namespace
) -> dict[str, list[np.ndarray]]:
    """For each checkpoint and number of wrong words, what was right, (N, A); kept in --runs."""
    oracle = load_oracle("oracle")
    found: dict[str, list[np.ndarray]] = {}
    for name, path in checkpoints.items():
        digest = model_digest(model_folder(path))
        settings = {"model": digest, "photos": len(orders), "seed": options.seed}
        for count in WORDS:
            print(f"{name}: {count} wrong words", file=sys.stderr, flush=True)
            rows = kept(
                options.runs / f"{slug(name)}-{count}.json",
                settings,
                partial(read_right, path, orders, count, oracle),
            )
            found.setdefault(name, []).append(np.array(rows))
    return found


def masks(orders: Sequence[Order]) -> list[np.ndarray]:
    """For each number of wrong words, which attributes a caption still states, (N, A)."""
    return [
        np.array(
            [
                [name in still_stated(order, caption) for name in ATTRIBUTES]
                for order in orders
                for caption in [corrupted(order.caption, count, seed=order.seed)]
            ]
        )
        for count in WORDS
    ]


def cells(
    found: Mapping[str, list[np.ndarray]], orders: Sequence[Order], *, seed: int
) -> dict[str, dict[str, Cell]]:
    """A row for each checkpoint and number of words. What is still stated is held against the same
    attributes, painted without wrong words."""
    stated_NA = np.array([[name in order.counts for name in ATTRIBUTES] for order in orders])
    still = masks(orders)
    table = {}
    for name, right in found.items():
        for count in WORDS:
            counted = {STATED: stated_NA, KEPT: still[count]}
            table[row_name(name, count)] = {
                key: _cell(right[count], right[0], counted_NA, seed=seed, plain=not count)
                for key, counted_NA in counted.items()
            }
    return table


def _cell(
    right_NA: np.ndarray, clean_NA: np.ndarray, counted_NA: np.ndarray, *, seed: int, plain: bool
) -> Cell:
    if not counted_NA.any():
        return Cell(value=None, reason="no caption states an attribute any more")
    ours = macro(right_NA, counted_NA)
    value = run_value([ours], seed=seed)
    if plain:
        return Cell(value=value)
    return Cell(value=value, against=difference([ours], [macro(clean_NA, counted_NA)], seed=seed))


def row_name(name: str, count: int) -> str:
    return f"{name}, {count} wrong"


def systems_notes(
    found: Mapping[str, list[np.ndarray]], orders: Sequence[Order], *, seed: int
) -> list[str]:
    """The first checkpoint less each other, paired by photo, at each number of wrong words."""
    stated_NA = np.array([[name in order.counts for name in ATTRIBUTES] for order in orders])
    (first, ours), *others = found.items()
    notes = []
    for name, theirs in others:
        for count in WORDS:
            pair = [[macro(right[count], stated_NA)] for right in (ours, theirs)]
            if (gap := difference(*pair, seed=seed)) is not None:
                notes.append(
                    f'{count} wrong words: "{first}" less "{name}" {100 * gap.value:.1f}% '
                    f"[{100 * gap.low:.1f}%, {100 * gap.high:.1f}%], p {gap.p:.3f}"
                )
    return notes


def curve(table: dict[str, dict[str, Cell]], names: Sequence[str], path: Path) -> None:
    """Accuracy over the number of wrong words, a line with intervals for each checkpoint."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6))
    for axes, column in zip(figure.subplots(1, 2, sharey=True), COLUMNS, strict=True):
        for shift, name in enumerate(names):
            points = [
                (count + 0.04 * shift, value)
                for count in WORDS
                if (value := table[row_name(name, count)][column.name].value)
            ]
            x, y = [place for place, _ in points], [value.value for _, value in points]
            low = [v.value - v.low if v.low is not None else 0 for _, v in points]  # type: ignore[operator]
            high = [v.high - v.value if v.high is not None else 0 for _, v in points]  # type: ignore[operator]
            axes.errorbar(x, y, [low, high], marker="o", capsize=3, label=name)  # type: ignore[arg-type]
        axes.set_title(column.head, fontsize=10)
        axes.set_xticks(list(WORDS))
        axes.set_xlabel("words of the caption corrupted")
        axes.grid(color="#e5e8ed")
    figure.axes[0].set_ylabel("right")
    figure.axes[0].legend(fontsize=8)
    figure.tight_layout()
    FigureCanvasAgg(figure).print_png(path)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", metavar="[NAME=]MODEL")
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/e2e_robustness"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--tiny", action="store_true", help="few photos, written beside --runs")
    options = parser.parse_args(arguments)
    named = [one.rpartition("=") for one in options.checkpoints]
    checkpoints = {name or Path(path).name: path for name, _, path in named}
    if len(checkpoints) < len(named) or options.photos < 1:
        raise UsageError(
            f"{len(named)} checkpoints with {len(checkpoints)} names, {options.photos} photos; "
            "wanted a name each and a photo at least; name them, as in ours=runs/a theirs=runs/b"
        )
    options.out = options.runs if options.tiny else options.out
    orders = orders_of(options)
    found = measured(checkpoints, orders, options)
    table = cells(found, orders, seed=options.seed)
    write(
        table,
        COLUMNS,
        name="e2e_robustness",
        title="2408.08650's robustness: wrong words in a caption",
        against="no wrong words",
        notes=[*NOTES, *systems_notes(found, orders, seed=options.seed)],
        about={
            "checkpoints": ", ".join(
                f"{name} (digest {model_digest(model_folder(path))})"
                for name, path in checkpoints.items()
            ),
            "data": f"{len(orders)} photos of {options.limit:,} test dialogues",
            "seed": str(options.seed),
        },
        out=options.out,
        picture=partial(curve, table, list(checkpoints)),
    )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
