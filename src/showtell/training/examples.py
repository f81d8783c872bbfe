"""Dialogues of any data as numbered examples: what can be used, and photos read ahead.

Files are read whole, photos aside; packed shards (``data/pack.py``) stay on disk, and an example of
them is read by its number, so that a data set of any size can be trained on. The order of an epoch
is the loop's (``loop.batch_indices``): it goes through shards one after the other (``blocks``), and
follows from seed and step alone, whatever the number of processes and threads.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby

from torch import Tensor

from showtell.batch import to_pixels
from showtell.data.photos import has_pixels, photo_image, square
from showtell.data.shards import Shards
from showtell.data.sources import DataSource
from showtell.dialogue import AGENT, Dialogue, Photo
from showtell.errors import ConfigError, DataError, ShowtellError
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.prompt import IGNORED, Renderer

Told = Callable[[str, int, int], None]


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
class Examples:
    """``len()`` examples, each by its number: the ``part``-th of a dialogue's form.

    ``blocks`` are the runs of numbers that lie in one shard; None for data in memory. ``counts``
    says what was read, kept and left out, and why.
    """

    places: list[tuple[int, int]]
    dialogue_of: Callable[[int], Dialogue]
    form: Callable[[Dialogue], list[Dialogue]]
    counts: Counter[str] = field(default_factory=Counter)
    blocks: list[range] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Dialogue:
        number, part = self.places[index]
        return self.form(self.dialogue_of(number))[part]


def read_examples(
    source: DataSource,
    *,
    form: Callable[[Dialogue], list[Dialogue]],
    needs: Needs,
    held_out: int = 0,
    told: Told = lambda what, done, total: None,
) -> tuple[Examples, list[Dialogue]]:
    """(examples, dialogues held out of them): each dialogue of ``source`` is looked at once.

    Held out are all examples of the ``held_out`` dialogues whose ids have the lowest SHA-256. What
    cannot be used is left out and counted. Raises DataError if nothing is left, ConfigError for
    substitutes of missing photos in shards, which are packed with the photos that they have.
    """
    counts: Counter[str] = Counter()
    dialogues, packed = _opened(source)
    usable: list[tuple[bytes, int, int]] = []  # (digest of the id, number, part)
    for number, dialogue in enumerate(dialogues):
        counts["dialogues"] += 1
        digest = hashlib.sha256(dialogue.id.encode("utf-8", "surrogatepass")).digest()[:8]
        for part, example in enumerate(form(dialogue)):
            reason = needs.lacking(example, counts)
            if reason is None:
                usable.append((digest, number, part))
            else:
                counts[f"left out: {reason}"] += 1
        if number % 500 == 0:
            told("looking at the data", number, number + 1)
    told("looking at the data", counts["dialogues"], counts["dialogues"])
    kept_ids = sorted({digest for digest, _, _ in usable})
    held = set(kept_ids[:held_out])
    examples = Examples(
        places=[(number, part) for digest, number, part in usable if digest not in held],
        dialogue_of=dialogues.__getitem__,
        form=form,
        counts=counts,
    )
    counts["examples"] = len(examples)
    counts["examples held out"] = len(usable) - len(examples)
    counts["broken records left out"] = len(source.skipped)
    counts["dialogues left out for missing photos"] = source.missing_counts.dialogues_skipped
    if not examples.places:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts.items() if n)
        raise DataError(
            f"{source.name} leaves nothing to train on ({reasons}); wanted at least one example "
            f"beside {held_out:,} dialogues held out. Look at the data with "
            f'"showtell data doctor {source.name}", or choose another form or base.'
        )
    if packed is not None:
        shard_of = [k for k, block in enumerate(packed.blocks) for _ in block]
        examples.blocks = _runs([shard_of[number] for number, _ in examples.places])
    return examples, [
        form(dialogues[number])[part] for digest, number, part in usable if digest in held
    ]


def _opened(source: DataSource) -> tuple[Sequence[Dialogue], Shards | None]:
    if source.shards is None:
        return list(source), None
    if source.missing is not None and source.missing.policy == "paint":
        raise ConfigError(
            f"{source.name} is packed already; wanted substitutes in the shards themselves: "
            'name the painter to "showtell data pack --missing-photos=paint:MODEL"'
        )
    return source.shards, source.shards


def _runs(values: Sequence[int]) -> list[range]:
    runs, start = [], 0
    for _, group in groupby(values):
        stop = start + sum(1 for _ in group)
        runs.append(range(start, stop))
        start = stop
    return runs


# ---------------------------------------------------------------------------------------- pixels


def photo_sides(model: PhotoDialogueModel) -> tuple[int, int]:
    """Pixels a side of a photo that is seen, and of one that is made: what the parts are made for.

    Where one part is absent, the other's. Raises ConfigError without either.
    """
    seen = model.seen_side
    made = _side_of_painter(model.painter)
    if not (seen or made):
        raise ConfigError(f'"{model.name}" neither sees nor makes photos; give a base that does')
    return seen or made or 0, made or seen or 0


def _side_of_painter(painter: object) -> int | None:
    return None if painter is None else int(painter.image_size)  # type: ignore[attr-defined]


def square_pixels(photo: Photo, side: int) -> Tensor:
    """(3, side, side) in [0, 1]: the middle square of the photo. Raises PhotoError."""
    image = photo_image(photo)
    return to_pixels(image if image.size == (side, side) else square(image, side))


@dataclass(frozen=True)
class _Read:
    dialogue: Dialogue
    pixels: dict[tuple[str, int], Tensor]


class Loader:
    """Examples with the pixels of their photos, read ahead by threads.

    ``prefetch`` starts to read the next batch; ``dialogue`` gives an example, and ``seen_pixels``
    and ``made_pixels`` the photos of those given. What was not prefetched is read on the spot.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        sides: tuple[int, int] | None,
        perceive: bool,
        paint: bool,
        threads: int,
    ) -> None:
        self.examples = examples
        self.sides = sides
        self.perceive = perceive and sides is not None
        self.paint = paint and sides is not None
        self.pool = ThreadPoolExecutor(threads) if threads else None
        self.coming: dict[int, Future[_Read]] = {}
        self.pixels: dict[tuple[str, int], Tensor] = {}

    def prefetch(self, indices: Sequence[int]) -> None:
        """Start on the examples of the next batch; the photos of the last one are forgotten."""
        self.pixels.clear()
        if self.pool is not None:
            for index in indices:
                if index not in self.coming:
                    self.coming[index] = self.pool.submit(self._read, index)

    def dialogue(self, index: int) -> Dialogue:
        future = self.coming.pop(index, None)
        read = self._read(index) if future is None else future.result()
        self.pixels |= read.pixels
        return read.dialogue

    def seen_pixels(self, photo: Photo) -> Tensor:
        assert self.sides is not None
        return self._pixels(photo, self.sides[0])

    def made_pixels(self, photo: Photo) -> Tensor:
        assert self.sides is not None
        return self._pixels(photo, self.sides[1])

    def _pixels(self, photo: Photo, side: int) -> Tensor:
        key = (_name(photo), side)
        return self.pixels[key] if key in self.pixels else square_pixels(photo, side)

    def _read(self, index: int) -> _Read:
        dialogue = self.examples[index]
        pixels: dict[tuple[str, int], Tensor] = {}
        wanted = set()
        if self.perceive and self.sides:
            wanted.add(self.sides[0])
        for turn in dialogue.turns:
            sides = wanted | ({self.sides[1]} if self.paint and self.sides else set())
            for photo in filter(has_pixels, turn.photos):
                for side in sides if turn.speaker == AGENT else wanted:
                    try:
                        pixels[_name(photo), side] = square_pixels(photo, side)
                    except ShowtellError as error:
                        raise DataError(f"dialogue {dialogue.id[:60]}: {error}") from error
        return _Read(dialogue, pixels)


def _name(photo: Photo) -> str:
    return photo.path or photo.id
