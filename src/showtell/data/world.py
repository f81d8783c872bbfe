"""The photo world as data: the door through which it is reached.

world:SPAN            dialogues                  world:rounds:SPAN     questions about a photo
world:photos:SPAN     captioned photos           world:long:SPAN       dialogues of 20 to 80 turns
world:stories:SPAN    stories in five steps

SPAN is train (seeds 0-99,999), dev (200,000-200,999), test (100,000-100,999), A-B (any seeds, both
included), or for dialogues and photos novel (110,000-110,999) and novel:A-B: combinations of
attributes that are never trained. Nothing is made before it is asked for.

A photo of ``world:photos`` stands as a captioned photo of any data does (see ``captions.py``): the
user says its caption, the agent shares it. ``labels["full_caption"]`` states every attribute.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

from PIL import Image

from photoworld.drawing import draw
from photoworld.long import long_dialogue
from photoworld.scenes import ATTRIBUTES, Scene, sample_scene, split_of, write_caption
from photoworld.stories import world_rounds, world_story
from photoworld.talk import NEGATED as NEGATED
from photoworld.talk import OPENINGS as OPENINGS
from photoworld.talk import world_dialogue
from photoworld.words import named_attributes as named_attributes
from photoworld.words import nouns
from photoworld.words import world_words as world_words
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import CheckpointError, PhotoError, UsageError, did_you_mean

if TYPE_CHECKING:
    from photoworld.oracle import AttributeReader

SPANS = {
    "train": range(0, 100_000),
    "test": range(100_000, 101_000),
    "dev": range(200_000, 201_000),
    "novel": range(110_000, 111_000),
}
MAX_SEED = 2**31
WANTED = "world:test, world:novel, world:dev, world:train, world:A-B, world:stories:test"


def captioned_photo(seed: int, *, novel: bool = False) -> Dialogue:
    """The photo of a seed and its caption, with a second one that states everything.

    Labels of the photo: ``scene``, ``stated`` (by its caption), ``full_caption``, and ``captions``,
    eight in all, for what learns from more than one.
    """
    scene = sample_scene(random.Random(f"photo-{seed}-{novel}"), novel=novel)
    caption, stated = write_caption(scene, random.Random(seed))
    full, _ = write_caption(scene, random.Random(seed), always=ATTRIBUTES)
    name = f"photo-{seed}{'-novel' if novel else ''}"
    others = [write_caption(scene, random.Random(f"{seed}-{k}"))[0] for k in range(6)]
    labels = {"scene": scene.as_dict(), "stated": list(stated), "full_caption": full}
    labels["captions"] = [caption, full, *others]
    photo = Photo(id=name, caption=caption, labels=labels)
    return Dialogue(
        id=name,
        turns=(
            Turn(speaker=USER, elements=(caption,)),
            Turn(speaker=AGENT, elements=(photo,)),
        ),
        labels={"seed": seed, "novel": novel, "split": split_of(seed)},
    )


_MAKERS: dict[str, Callable[..., Dialogue]] = {
    "dialogues": world_dialogue,
    "photos": captioned_photo,
    "stories": world_story,
    "rounds": world_rounds,
    "long": long_dialogue,
}
_WITH_NOVEL = ("dialogues", "photos")


@dataclass(frozen=True, kw_only=True)
class WorldData(Sequence[Dialogue]):
    """Dialogues of some seeds, made when they are asked for. A slice is WorldData again."""

    kind: str
    seeds: range
    novel: bool = False

    def __len__(self) -> int:
        return len(self.seeds)

    @overload
    def __getitem__(self, index: int) -> Dialogue: ...
    @overload
    def __getitem__(self, index: slice) -> WorldData: ...
    def __getitem__(self, index: int | slice) -> Dialogue | WorldData:
        if isinstance(index, slice):
            return replace(self, seeds=self.seeds[index])
        options = {"novel": True} if self.novel else {}
        return _MAKERS[self.kind](self.seeds[index], **options)

    def __iter__(self) -> Iterator[Dialogue]:
        return (self[index] for index in range(len(self)))


def open_world(name: str) -> WorldData:
    """The data of a name that begins with ``world:``. Raises UsageError."""
    kind, colon, span = name.removeprefix("world:").partition(":")
    if kind in _MAKERS:
        if not span:
            raise UsageError(f'"{name}" names no seeds; wanted for example world:{kind}:test')
    elif colon and kind != "novel":
        raise UsageError(f'"{name}": the world has no "{kind}"{did_you_mean(kind, _MAKERS)}')
    else:
        kind, span = "dialogues", name.removeprefix("world:")
    novel = span == "novel" or span.startswith("novel:")
    if novel and kind not in _WITH_NOVEL:
        raise UsageError(
            f'"{name}": {kind} have no novel combinations; wanted train, dev, test or A-B, or '
            "world:novel for dialogues"
        )
    seeds = SPANS.get(span) or _seed_range(span.removeprefix("novel:"), name=name)
    return WorldData(kind=kind, seeds=seeds, novel=novel)


def _seed_range(text: str, *, name: str) -> range:
    """``"5-9"`` -> ``range(5, 10)``: both ends are included."""
    found = re.fullmatch(r"(\d{1,12})-(\d{1,12})", text)
    if not found:
        raise UsageError(
            f'"{name}" names no seeds; wanted first-last, for example 100000-100999'
            f"{did_you_mean(text, SPANS if ':' in text else (*SPANS, *_MAKERS))}"
        )
    first, last = int(found[1]), int(found[2])
    if first > last or last >= MAX_SEED:
        raise UsageError(
            f'"{name}": wanted first <= last < {MAX_SEED:,}, for example 100000-100999'
        )
    return range(first, last + 1)


def draw_photo(photo: Photo) -> Image.Image:
    """The pixels of the scene in a photo's labels, RGB, 64 x 64. Raises PhotoError."""
    try:
        return draw(Scene.from_dict(photo.labels.get("scene")))
    except ValueError as error:
        raise PhotoError(
            f'the photo "{photo.id[:80]}" has no scene that can be drawn ({error}); give a photo '
            "of the world, or one whose path names an image file."
        ) from error


def things_of_the_world() -> tuple[str, ...]:
    """What its subjects are called, in lower case."""
    return tuple(
        dict.fromkeys(noun.lower() for name in ATTRIBUTES["subject"] for noun in nouns(name))
    )


def load_oracle(name: str) -> AttributeReader:
    """The shipped reader of attributes of that name, "oracle" or "encoder", on the device of this
    run: for measures only. Raises CheckpointError."""
    from photoworld.oracle import AttributeReader
    from showtell.runtime import the_device

    folder = Path(__file__).parents[1] / "shipped" / name
    try:
        return AttributeReader.from_pretrained(folder, device=the_device())
    except ValueError as error:
        raise CheckpointError(str(error)) from error
