"""Data as numbered examples: what of it can be used, and photos read ahead.

Files are looked at once, dialogue by dialogue; what lacks something that the model needs is left
out and counted. Data that are made on demand (the photo world) lack nothing and are not looked at.
The order of an epoch is the loop's (``task.batch_indices``): it goes through shards one after the
other (``blocks``), and follows from seed and step alone, whatever the number of processes and
threads.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, chain, groupby, pairwise

from PIL import Image
from torch import Tensor

from showtell.batch import to_pixels
from showtell.data.photos import has_pixels, photo_image, square
from showtell.data.sources import DataSource
from showtell.dialogue import AGENT, Dialogue, Photo
from showtell.errors import ConfigError, DataError, ShowtellError
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.progress import Progress, quiet
from showtell.prompt import IGNORED, Renderer

Form = Callable[[Dialogue], list[Dialogue]]


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What an example must have: see ``lacking``.

    ``seen`` and ``made``: whether photos that are read, and that are to be made, need pixels;
    ``captions``: whether those to be made need a caption.
    """

    renderer: Renderer
    seen: bool
    made: bool
    captions: bool

    @classmethod
    def of(cls, model: PhotoDialogueModel, *, captions: bool) -> Needs:
        """``captions``: whether a loss wants them, though the bridge has its own tokens."""
        return cls(
            renderer=model.renderer,
            seen=model.photo_encoder is not None or model.captioner is not None,
            made=model.painter is not None,
            captions=captions or not model.renderer.span_ids,
        )

    def lacking(self, dialogue: Dialogue, counts: Counter[str]) -> str | None:
        """Why the dialogue cannot be used; None if it can. ``counts`` hears of dropped turns."""
        speakers = self.renderer.config.speakers
        if not any(turn.speaker in speakers for turn in dialogue.turns):
            return "nothing that the agent says"
        for turn in dialogue.turns:
            made = turn.speaker in speakers
            for photo in turn.photos:
                if not has_pixels(photo) and (self.made if made else self.seen):
                    return "a photo is missing"
                if made and self.captions and not photo.caption.strip():
                    return "a photo to share has no caption"
        try:
            row = self.renderer.render(dialogue)
        except DataError:
            return "a turn longer than the model reads"
        if not any(label != IGNORED for label in row.labels):
            return "nothing to learn from"
        counts["turns dropped, the oldest of dialogues too long"] += row.dropped_turns
        return None


@dataclass(kw_only=True)
class Examples(Sequence[Dialogue]):
    """``len()`` examples, each by its number: the ``part``-th of a dialogue's form; without
    ``part`` one of them, each in its turn as the numbers go on, or of the next dialogue that has
    any.

    ``blocks`` are the runs of numbers that lie in one shard; None for other data. ``counts`` says
    what was read, kept and left out, and why.
    """

    places: Sequence[tuple[int, int | None]]
    dialogue_of: Callable[[int], Dialogue]
    form: Form
    counts: Counter[str] = field(default_factory=Counter)
    blocks: list[range] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        number, part = self.places[index]
        if part is not None:
            return self.form(self.dialogue_of(number))[part]
        for place in chain(range(index, len(self)), range(index)):
            if made := self.form(self.dialogue_of(self.places[place][0])):
                return made[index % len(made)]
        raise DataError("these data have no example of this form; choose another form or data")


def read_examples(
    source: DataSource,
    *,
    form: Form,
    needs: Needs,
    limit: int | None = None,
    held_out: int = 0,
    told: Progress = quiet,
) -> tuple[Examples, list[Dialogue]]:
    """(examples, dialogues held out of them) of the first ``limit`` dialogues of ``source``.

    Held out are all examples of the ``held_out`` dialogues whose ids have the lowest SHA-256; of
    data made on demand the last ones. Raises DataError if nothing is left, ConfigError for
    substitutes of missing photos in shards, which are packed with the photos that they have.
    """
    if source.shards is not None and source.missing and source.missing.policy == "paint":
        raise ConfigError(
            f"{source.name} is packed already; wanted substitutes in the shards themselves: "
            'name the painter to "showtell data pack --missing-photos=paint:MODEL"'
        )
    counts: Counter[str] = Counter()
    usable: list[tuple[bytes, int, int]] = []  # (digest of the id, number, part)
    if source.world is not None:
        count = min(len(source), limit or len(source))
        kept = range(max(0, count - held_out))
        places: list[tuple[int, int | None]] = [(number, None) for number in kept]
        numbers = range(len(kept), count)
        held = [example for number in numbers for example in form(source[number])]
        counts["dialogues"] = count
    else:
        for number in range(min(len(source), limit or len(source))):
            dialogue = source[number]
            counts["dialogues"] += 1
            digest = hashlib.sha256(dialogue.id.encode("utf-8", "surrogatepass")).digest()[:8]
            for part, example in enumerate(form(dialogue)):
                reason = needs.lacking(example, counts)
                if reason is None:
                    usable.append((digest, number, part))
                else:
                    counts[f"left out: {reason}"] += 1
            if number % 500 == 0:
                told("looking at the data", number, 0)
        told("looking at the data", counts["dialogues"], counts["dialogues"])
        lowest = set(sorted({digest for digest, _, _ in usable})[:held_out])
        places = [(number, part) for digest, number, part in usable if digest not in lowest]
        held = [form(source[n])[part] for digest, n, part in usable if digest in lowest]
        counts["broken records left out"] = len(source.skipped)
        counts["dialogues left out for missing photos"] = source.missing_counts["dialogues_skipped"]
    counts["examples"], counts["examples held out"] = len(places), len(held)
    if not places:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts.items() if n)
        raise DataError(
            f"{source.name} leaves nothing to train on ({reasons}); wanted at least one example "
            f"beside {held_out:,} dialogues held out. Look at the data with "
            f'"showtell data doctor {source.name}", or choose another form or base.'
        )
    examples = Examples(places=places, dialogue_of=source.__getitem__, form=form, counts=counts)
    if source.shards is not None:
        shard_of = [k for k, block in enumerate(source.shards.blocks) for _ in block]
        examples.blocks = _runs([shard_of[number] for number, _ in places])
    return examples, held


@dataclass(frozen=True)
class Alternating(Sequence[Dialogue]):
    """Examples, of which every second gives way to one of another kind, as often as there are
    numbers."""

    even: Examples
    odd: Examples

    def __len__(self) -> int:
        return len(self.even)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self.odd[index % len(self.odd)] if index % 2 else self.even[index]


def _runs(values: Sequence[int]) -> list[range]:
    ends = [0, *accumulate(len(list(group)) for _, group in groupby(values))]
    return [range(start, stop) for start, stop in pairwise(ends)]


# ---------------------------------------------------------------------------------------- pixels


Look = Callable[[Image.Image], Image.Image]


def photo_looks(model: PhotoDialogueModel) -> dict[str, Look]:
    """A photo of any size as it is "seen", and as one is "made": as the parts are made for.

    Where one part is absent, the other's. Raises ConfigError without either.
    """
    looks: dict[str, Look] = {}
    if model.seer is not None:
        looks["seen"] = model.seer.look
    if model.painter is not None:
        looks["made"] = partial(square, size=model.painter.image_size)
    if not looks:
        raise ConfigError(f'"{model.name}" neither sees nor makes photos; give a base that does')
    return dict.fromkeys(("seen", "made"), *looks.values()) if len(looks) == 1 else looks


def square_pixels(photo: Photo, side: int) -> Tensor:
    """(3, side, side) in [0, 1]: the middle square of the photo. Raises PhotoError."""
    return to_pixels(square(photo_image(photo), side))


Pixels = dict[tuple[str, str], Tensor]


class Loader:
    """Examples and the pixels of their photos, which ``threads`` read ahead.

    ``prefetch`` starts to read the next batch; ``dialogue`` gives an example, and ``seen_pixels``
    and ``made_pixels`` the photos of those given. What was not read ahead is read on the spot.
    """

    def __init__(
        self, examples: Sequence[Dialogue], model: PhotoDialogueModel, *, threads: int
    ) -> None:
        self.examples = examples
        perceive, paint = model.photo_encoder is not None, model.painter is not None
        self.looks = photo_looks(model) if perceive or paint else {}
        self.of_user = ["seen"] if perceive else []
        self.of_agent = self.of_user + (["made"] if paint else [])
        self.pool = ThreadPoolExecutor(threads) if threads else None
        self.coming: dict[int, Future[tuple[Dialogue, Pixels]]] = {}
        self.pixels: Pixels = {}

    def prefetch(self, indices: Sequence[int]) -> None:
        """Start on the examples of the next batch; the photos of the last one are forgotten."""
        self.pixels.clear()
        if self.pool is not None:
            for index in indices:
                if index not in self.coming:
                    self.coming[index] = self.pool.submit(self._read, index)

    def dialogue(self, index: int) -> Dialogue:
        future = self.coming.pop(index, None)
        if future is None:
            return self.examples[index]
        dialogue, pixels = future.result()
        self.pixels |= pixels
        return dialogue

    def seen_pixels(self, photo: Photo) -> Tensor:
        return self._pixels(photo, "seen")

    def made_pixels(self, photo: Photo) -> Tensor:
        return self._pixels(photo, "made")

    def _pixels(self, photo: Photo, how: str) -> Tensor:
        key = (photo.path or photo.id, how)
        if key not in self.pixels:
            self.pixels[key] = to_pixels(self.looks[how](photo_image(photo)))
        return self.pixels[key]

    def _read(self, index: int) -> tuple[Dialogue, Pixels]:
        dialogue = self.examples[index]
        pixels: Pixels = {}
        for turn in dialogue.turns:
            for photo in filter(has_pixels, turn.photos):
                if not (wanted := self.of_agent if turn.speaker == AGENT else self.of_user):
                    continue
                try:
                    image = photo_image(photo)
                except ShowtellError as error:
                    raise DataError(f"dialogue {dialogue.id[:60]}: {error}") from error
                for how in wanted:
                    pixels[photo.path or photo.id, how] = to_pixels(self.looks[how](image))
        return dialogue, pixels
