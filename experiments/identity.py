"""Identity over five turns: the same one on each of five photos, as the talk has introduced it.

    python experiments/identity.py [--model mini] [--dialogues 100] [--first 210000]

A user tells of three things of theirs ("my robot is green"), talks, and asks for five photos of one
of them, by what it is, as "it", and at a place. The model answers every turn itself, once with the
registry (``agent/introduced.py``) and once without, from the same seeds; the oracle reads the
photos. Writes docs/results/identity.md.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from photoworld.scenes import DEV_SEEDS, LOOKS, Scene, sample_scene
from photoworld.words import word, write
from showtell.agent.memory import remembered
from showtell.agent.when import When
from showtell.batch import to_pixels
from showtell.data.storage import write_atomically
from showtell.data.world import load_oracle
from showtell.dialogue import USER, Photo, Turn
from showtell.errors import UsageError
from showtell.metrics.intervals import printed
from showtell.metrics.paired import difference, run_value, scores
from showtell.metrics.report import current_commit
from showtell.models.decoder import Decoder
from showtell.models.respond import Responder
from showtell.papers import load_model

PHOTOS, THINGS, AT_ONCE = 5, 3, 32
RESULTS = Path(__file__).parents[1] / "docs/results"
PLACES = ("at the beach", "in the park", "in the desert", "on the farm", "in the kitchen")
PAGE = """\
# Identity over five turns

For those who want to know whether whoever a talk has introduced stays the same on every photo. By
`python experiments/identity.py --model {model} --dialogues {dialogues} --first {first}`
at commit {commit}.

{table}

{dialogues} dialogues of dev, seeds {first} on: three things are told of, each with its color
("my robot is green"), with small talk between; then five photos are asked for of one of them, with
more small talk: three times by what it is ("send me a pic of my robot"), once as "it", named just
before, once with a place ("at the beach"). The model's own answers and photos stand in the talk.
*identity*: subject and color of the photo, as the oracle reads them, are those that were told; *all
five*: on every photo of the dialogue; *place*: the one that was asked for. A photo that did not
come counts as wrong. Intervals and difference: 95%, bootstrap over dialogues, paired.

The registry's patterns were written with other dialogues of dev in sight (seeds from 200,000), and
the photo world tells of things in few ways: how people tell of theirs was not measured.
"""


@dataclass(kw_only=True)
class Talk:
    """One dialogue under way, and what its photos should show."""

    seed: int
    scene: Scene
    said: list[str]
    asks: list[int]  # which of the texts ask for a photo
    place: str  # of the photo that is asked for at a place
    turns: tuple[Turn, ...] = ()
    images: dict[str, Image.Image] = field(default_factory=dict)
    shown: list[Image.Image | None] = field(default_factory=list)


def talk_of(seed: int) -> Talk:
    """The user's side of a dialogue."""
    rng = random.Random(f"identity-{seed}")
    scenes: list[Scene] = []
    while len(scenes) < THINGS:
        scene = sample_scene(rng, fixed={"count": "one"})
        fresh = scene.subject not in {*LOOKS, *(each.subject for each in scenes)}
        if scene.count == "one" and fresh and scene.colour not in {s.colour for s in scenes}:
            scenes.append(scene)
    scene = rng.choice(scenes)

    def put(name: str, about: Scene) -> str:
        return word(name, about, rng=rng, thing=(f"my {about.subject}", frozenset()))[0]

    def chat() -> str:
        return str(write(("u_chat",), scene, rng=rng, with_kept=False))

    said = [text for each in scenes for text in (put("tell_colour", each), chat())]
    place = rng.choice(PLACES)
    thing = f"my {scene.subject}"
    asking = [put("ask_photo", scene) for _ in range(3)]
    asking += [f"send me a pic of {thing} {place}", f"{thing} is so funny. show me a photo of it"]
    asks = []
    for number, text in enumerate([asking[0], *asking[3:], *asking[1:3]]):
        if number % 2:
            said.append(chat())
        asks.append(len(said))
        said.append(text)
    return Talk(seed=seed, scene=scene, said=said, asks=asks, place=place)


@torch.no_grad()
def played(responder: Responder, talks: Sequence[Talk]) -> None:
    """The talks with the model's answers."""
    for number in range(len(talks[0].said)):
        for start in range(0, len(talks), AT_ONCE):
            part = talks[start : start + AT_ONCE]
            for talk in part:
                talk.turns = (*talk.turns, Turn(speaker=USER, elements=(talk.said[number],)))
            replies = responder.respond_all(
                [talk.turns for talk in part],
                images=[talk.images for talk in part],
                seeds=[talk.seed + number for talk in part],
            )
            for talk, reply in zip(part, replies, strict=True):
                talk.turns = (*talk.turns, *reply.turns)
                talk.images |= reply.images
                if number in talk.asks:
                    talk.shown.append(_photo(reply.turns, reply.images))


def _photo(turns: Sequence[Turn], images: dict[str, Image.Image]) -> Image.Image | None:
    photos: list[Photo] = [photo for turn in turns for photo in turn.photos]
    return images.get(photos[0].id) if photos else None


def measured(talks: Sequence[Talk]) -> dict[str, Any]:
    """What the photos show, a row a photo or a dialogue."""
    oracle = load_oracle("oracle")
    rows: dict[str, list[tuple[int, float]]] = {}
    for talk in talks:
        right = []
        for number, image in enumerate(talk.shown):
            found: dict[str, str] = {}
            if image is not None:
                found = oracle.read(torch.stack([to_pixels(image)]))[0]
            subject = found.get("subject") == talk.scene.subject
            colour = found.get("colour") == talk.scene.colour
            right.append(subject and colour)
            told = {"identity": right[-1], "subject": subject, "color": colour}
            if talk.place in talk.said[talk.asks[number]]:
                told["place"] = talk.place.split()[-1] == found.get("place")
            for name, value in told.items():
                rows.setdefault(name, []).append((talk.seed, float(value)))
        rows.setdefault("all five", []).append((talk.seed, float(all(right))))
    return {
        name: scores("mean", [seed for seed, _ in pairs], [value for _, value in pairs])
        for name, pairs in rows.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--dialogues", type=int, default=100)
    parser.add_argument("--first", type=int, default=210_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(arguments)
    seeds = range(asked.first, asked.first + asked.dialogues)
    if not seeds or seeds[0] not in DEV_SEEDS or seeds[-1] not in DEV_SEEDS:
        raise UsageError(f"wanted seeds of dev, {DEV_SEEDS[0]:,} to {DEV_SEEDS[-1]:,}")
    model = load_model(asked.model)
    when = When(threshold=model.decoding.share_threshold)
    found = {}
    for registry in (False, True):
        memory = partial(remembered, registry=registry)
        talks = [talk_of(seed) for seed in seeds]
        played(Responder(Decoder(model), when=when, memory=memory), talks)
        found[registry] = measured(talks)
    lines = ["| | registry off | on | difference | p |", "|---|--:|--:|--:|--:|"]
    kept: dict[str, Any] = {"command": vars(asked) | {"out": ""}, "commit": current_commit()}
    for name in ("identity", "all five", "subject", "color", "place"):
        off, on = ([found[registry][name]] for registry in (False, True))
        values = [run_value(each, seed=0) for each in (off, on)]
        less = difference(on, off, seed=0)
        told = " | ".join(f"{value.printed} ({value.interval})" for value in values)
        gain = "too few | "
        if less is not None:
            ends = " – ".join(printed(end, "fraction") for end in (less.low, less.high))
            gain = f"{printed(less.value, 'fraction')} ({ends}) | {less.p:.4f}"
        lines.append(f"| {name} | {told} | {gain} |")
        kept[name] = {
            "off": vars(values[0]),
            "on": vars(values[1]),
            "difference": None if less is None else vars(less),
        }
    page = PAGE.format(table="\n".join(lines), commit=kept["commit"], **vars(asked))
    asked.out.mkdir(parents=True, exist_ok=True)
    write_atomically(asked.out / "identity.md", page.encode())
    write_atomically(asked.out / "identity.json", (json.dumps(kept, indent=1) + "\n").encode())
    print("\n".join(lines))


if __name__ == "__main__":
    main()
