"""Answers that are given together, and may come and go meanwhile: continuous batching.

    company = responder.company()
    company.admit([responder.answer(turns, images={}, seed=0)])
    while company.answers:
        for answer in company.step():
            print(answer.error or answer.row.reply)

A step reads tokens for all who have some to read, or denoises for all whose photos are painted. The
two take turns: painting has PAINTING seconds for one of reading, since a photo takes so much longer
than a text that equal shares would make those who wait for one wait twice as long in proportion.
"""

from __future__ import annotations

import time
from collections import ChainMap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from PIL import Image

from showtell.batch import to_image, to_pixels
from showtell.models.painting import Painting, Start, denoise
from showtell.models.parts import Conditioning
from showtell.models.reading import Images
from showtell.models.reply import Preview, Row
from showtell.models.steps import Need, Read, See, Steps, Under, Write
from showtell.models.writing import Writing, joined, kept

if TYPE_CHECKING:
    from showtell.models.respond import Responder

PAINTED_AT_ONCE = 8
PAINTING = 2.0


@dataclass(frozen=True)
class Paint(Need):
    """The photo of a row; an image comes of it."""

    conditioning: Conditioning
    row: Row


@dataclass(frozen=True)
class Anew(Need):
    """The row is to stand where its turns end, as if nothing had been said since."""


class Answer(Under[None]):
    """The answer of a row; ``images``: of the photos in its context."""

    def __init__(self, row: Row, images: Images, answering: Callable[[Row], Steps[None]]) -> None:
        self.row, self.images = row, images
        self.painting: Painting | None = None
        super().__init__(answering(row))


class Company:
    """Answers of one responder under way: ``answers``, in the order of their rows."""

    def __init__(self, responder: Responder) -> None:
        self.responder = responder
        self.answers: list[Answer] = []
        self._writing: Writing | None = None
        self._ahead = 0.0  # seconds that painting has had more than its share beside reading

    @torch.no_grad()
    def admit(self, answers: Sequence[Answer]) -> None:
        """Read what they answer to; they go on together with those that are here."""
        if not answers:
            return
        responder = self.responder
        images = [
            ChainMap(answer.row.reply.images, cast("dict[str, Image.Image]", answer.images))
            for answer in answers
        ]
        told = responder.describe_all([answer.row.turns for answer in answers], images)
        writing, dropped = responder.decoder.read_all(told, images)
        num_read = writing.mask_BT.sum(1).tolist()
        for answer, count, read in zip(answers, dropped, num_read, strict=True):
            answer.row.reply.dropped_turns, answer.row.reply.num_read = count, read
        if self._writing is not None:
            here, count = len(self.answers), len(answers)
            parts = [(range(here), self._writing), (range(here, here + count), writing)]
            writing = joined(parts)
        self._writing = writing
        self.answers += answers

    @torch.no_grad()
    def step(self) -> list[Answer]:
        """A step of those who are here; the answers that have ended by it, and have left."""
        if anew := [each for each in self.answers if isinstance(each.need, Anew)]:
            self._leave(anew)
            self.admit(anew)
            for answer in anew:
                answer.go_on(None)
        painted = [each for each in self.answers if isinstance(each.need, Paint)]
        reads = any(isinstance(each.need, Read | See | Write) for each in self.answers)
        began = time.perf_counter()
        if painted and (not reads or self._ahead <= 0):
            self._paint(painted[:PAINTED_AT_ONCE])
            spent = (time.perf_counter() - began) / PAINTING
        elif reads:
            assert self._writing is not None
            self.responder.decoder.step(self._writing, dict(enumerate(self.answers)))
            spent = began - time.perf_counter()
        else:
            spent = 0.0
        self._ahead = self._ahead + spent if painted and reads else 0.0
        ended = [each for each in self.answers if each.done]
        self._leave(ended)
        return ended

    def _leave(self, answers: Sequence[Answer]) -> None:
        stay = [n for n, each in enumerate(self.answers) if each not in answers]
        if not stay:
            self._writing = None
        elif len(stay) < len(self.answers):
            assert self._writing is not None
            self._writing = kept(self._writing, stay)
        self.answers = [self.answers[n] for n in stay]

    # --------------------------------------------------------------------------------- photos

    def _paint(self, answers: Sequence[Answer]) -> None:
        """A step of their photos."""
        going = []
        for answer in answers:
            if answer.painting is None:
                self._guarded(answer, self._begin)
            if answer.painting is not None and not answer.done:
                going.append(answer)
        moving = [each.painting for each in going if each.painting and not each.painting.done]
        before = {id(painting): painting.step for painting in moving}
        if moving:
            denoise(moving)
        for answer in going:
            painting = answer.painting
            assert painting is not None
            if painting.step > before.get(id(painting), painting.step):
                self._guarded(answer, self._told)
            if painting.done and not answer.done:
                answer.painting = None
                answer.go_on(to_image(painting.photos()[0]))

    def _begin(self, answer: Answer) -> None:
        """Its painting, or, of a painter that does not denoise, its photo."""
        assert isinstance(answer.need, Paint)
        painter, row = self.responder.model.painter, answer.row
        decoding, start = self.responder.decoder.decoding, answer.row.wish.start
        how: dict[str, Any] = {
            "num_steps": decoding.num_steps,
            "guidance": decoding.guidance,
            "seeds": [row.photo_seed],
        }
        assert painter is not None
        if hasattr(painter, "begin"):
            if start is not None:
                pixels = to_pixels(start.convert("RGB"))
                how["start"] = Start(pixels_3HW=pixels, strength=row.wish.strength)
            answer.painting = painter.begin(answer.need.conditioning, **how)
            return
        if start is not None:
            row.reply.notes.append(
                f"{self.responder.name} cannot start from a photo, so it was painted anew"
            )
        pixels_13HW = painter.paint(
            answer.need.conditioning,
            callback=lambda step, _: row.stepped(step, decoding.num_steps),
            **how,
        )
        answer.go_on(to_image(pixels_13HW[0]))

    def _told(self, answer: Answer) -> None:
        """Whoever listens to it hears how far its photo is."""
        painting, row = answer.painting, answer.row
        assert painting is not None
        image: Image.Image | None = None
        if row.is_heard and painting.shown:
            pixels_13HW = painting.preview()
            image = None if pixels_13HW is None else to_image(pixels_13HW[0])
        told = Preview(id=row.photo_id, step=painting.step, of=painting.of, image=image)
        row.tell(told)

    def _guarded(self, answer: Answer, work: Callable[[Answer], None]) -> None:
        try:
            work(answer)
        except BaseException as error:  # of this row alone
            answer.fail(error)
