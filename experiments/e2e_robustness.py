"""2408.08650's claim of robustness: attribute accuracy with 0 to 4 words of the caption corrupted.

    python experiments/e2e_robustness.py runs/world_mini runs/world_pipeline [--photos 500]

"The separate training causes the image generation model to be sensitive to the text dialogue
generation model": so a pipeline's painter should lose more by a wrong word than that of a model
trained end to end. In captions of the agent's test photos, words at drawn places become other words
of the world, the same for every checkpoint, each photo from its own noise; the second wrong word
joins the first. An attribute whose word is gone cannot be painted; so beside all attributes that
the gold caption states stand those that the corrupted one still states. Stopped, the same command
goes on.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jobs import slug, tell
from runner import RESULTS, kept, write_sheet

from photoworld.scenes import ATTRIBUTES
from photoworld.words import named_attributes, world_words
from showtell.cli.exits import exit_code_of
from showtell.data.sources import open_data
from showtell.dialogue import Photo
from showtell.errors import UsageError
from showtell.evaluation.answer import paint_captions
from showtell.evaluation.compare import Cell, Column
from showtell.evaluation.world_gold import photo_places, photos_at, shipped_reader
from showtell.metrics.paired import Scores, difference, run_value, scores
from showtell.metrics.report import model_digest
from showtell.models.checkpoint import model_folder
from showtell.models.decoder import Decoder
from showtell.models.respond import Responder
from showtell.papers import load_model

NAME, WORDS = "e2e_robustness", range(5)
STATED, KEPT = "robustness.stated", "robustness.still_stated"
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
Right = Mapping[str, Sequence[np.ndarray]]  # by checkpoint and wrong words: (N, A)


def corrupted(caption: str, count: int, *, seed: int) -> str:
    """The caption with ``count`` of its words (all, if it has fewer) replaced by other words of
    the world. More words corrupted are the same ones and others."""
    rng = random.Random(f"corrupted-{seed}")
    places = list(re.finditer(r"[^\W\d_]+", caption))
    rng.shuffle(places)
    words = sorted(world_words())
    for place in sorted(places[:count], key=lambda place: -place.start()):
        # its own die, so that a word is replaced by the same one whatever else is
        die = random.Random(f"{seed}/{place.start()}")
        other = die.choice([word for word in words if word != place[0].lower()])
        caption = caption[: place.start()] + other + caption[place.end() :]
    return caption


def still_stated(photo: Photo, caption: str) -> list[str]:
    """Of the attributes that the photo's caption states, those that ``caption`` still gives."""
    before, after = named_attributes(photo.caption), named_attributes(caption)
    stated = photo.labels["stated"]
    return [name for name in stated if before.get(name) and before[name] == after.get(name)]


def read_right(checkpoint: str, photos: Sequence[Photo], count: int, seed: int) -> list[list[bool]]:
    """Paint each photo with ``count`` wrong words: which attributes are as in its scene, (N, A)."""
    captions = [corrupted(p.caption, count, seed=seed + n) for n, p in enumerate(photos)]
    painted = paint_captions(Responder(Decoder(load_model(checkpoint))), captions, seed=seed)
    return [
        [found[name] == photo.labels["scene"][name] for name in ATTRIBUTES]
        for found, photo in zip(shipped_reader("oracle").read(painted), photos, strict=True)
    ]


def macro(right_NA: np.ndarray, counted_NA: np.ndarray) -> Scores:
    """The mean over attributes of how often each is right where it counts, drawn by photo."""
    rows_N2A = np.concatenate([right_NA & counted_NA, counted_NA], axis=1)
    return scores("macro", range(len(rows_N2A)), rows_N2A)


def measured(
    checkpoints: Mapping[str, str], photos: Sequence[Photo], *, seed: int, runs: Path
) -> dict[str, list[np.ndarray]]:
    """For each checkpoint and number of wrong words, what was right, (N, A); kept in --runs."""
    found: dict[str, list[np.ndarray]] = {}
    for name, path in checkpoints.items():
        digest = model_digest(model_folder(path))
        settings = {"model": digest, "photos": len(photos), "seed": seed}
        for count in WORDS:
            tell(f"{name}: {count} wrong words")
            make = partial(read_right, path, photos, count, seed)
            rows = kept(runs / f"{slug(name)}-{count}.json", settings, make)
            found.setdefault(name, []).append(np.array(rows))
    return found


def counted(names: Sequence[Sequence[str]]) -> np.ndarray:
    return np.array([[name in some for name in ATTRIBUTES] for some in names])


def cells(found: Right, photos: Sequence[Photo], *, seed: int) -> dict[str, dict[str, Cell]]:
    """A row for each checkpoint and number of words. What is still stated is held against the same
    attributes, painted without wrong words."""
    stated_NA = counted([photo.labels["stated"] for photo in photos])
    table = {}
    for count in WORDS:
        told = [corrupted(p.caption, count, seed=seed + n) for n, p in enumerate(photos)]
        still_NA = counted(list(map(still_stated, photos, told)))
        for name, right in found.items():
            table[row_name(name, count)] = {
                key: _cell(right[count], right[0], counted_NA, seed=seed, plain=not count)
                for key, counted_NA in ((STATED, stated_NA), (KEPT, still_NA))
            }
    return {
        row_name(name, count): table[row_name(name, count)] for name in found for count in WORDS
    }


def _cell(
    right_NA: np.ndarray, clean_NA: np.ndarray, counted_NA: np.ndarray, *, seed: int, plain: bool
) -> Cell:
    if not counted_NA.any():
        return Cell(value=None, reason="no caption states an attribute any more")
    ours, clean = macro(right_NA, counted_NA), macro(clean_NA, counted_NA)
    against = None if plain else difference([ours], [clean], seed=seed)
    return Cell(value=run_value([ours], seed=seed), against=against)


def row_name(name: str, count: int) -> str:
    return f"{name}, {count} wrong"


def systems_notes(found: Right, photos: Sequence[Photo], *, seed: int) -> list[str]:
    """The first checkpoint less each other, paired by photo, at each number of wrong words."""
    stated_NA = counted([photo.labels["stated"] for photo in photos])
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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", metavar="[NAME=]MODEL")
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs") / NAME)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--tiny", action="store_true", help="few photos, written beside --runs")
    options = parser.parse_args(arguments)
    named = [one.rpartition("=") for one in options.checkpoints]
    checkpoints = {name or Path(path).name: path for name, _, path in named}
    if len(checkpoints) < len(named) or options.photos < 1:
        raise UsageError(
            f"{len(named)} checkpoints with {len(checkpoints)} names, {options.photos} photos; "
            "wanted a name each and a photo at least; name them, as in ours=runs/a theirs=runs/b"
        )
    first, limit = (100_106, 12) if options.tiny else (100_000, 4 * options.photos)
    dialogues = list(open_data(f"world:{first}-{first + limit - 1}"))
    photos = photos_at(dialogues, photo_places(dialogues))[: options.photos]
    found = measured(checkpoints, photos, seed=options.seed, runs=options.runs)
    table = cells(found, photos, seed=options.seed)
    digests = {name: model_digest(model_folder(path)) for name, path in checkpoints.items()}
    write_sheet(
        table,
        COLUMNS,
        name=NAME,
        title="2408.08650's robustness: wrong words in a caption",
        against="no wrong words",
        notes=[*NOTES, *systems_notes(found, photos, seed=options.seed)],
        about={
            "checkpoints": ", ".join(f"{name} (digest {one})" for name, one in digests.items()),
            "data": f"{len(photos)} photos of {limit:,} test dialogues",
            "seed": str(options.seed),
        },
        out=options.runs if options.tiny else options.out,
    )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
