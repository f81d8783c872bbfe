"""Answering: the line of 2408.08650, Fig. 2, walked word by word, for B dialogues at once.

The agent's turn opens; P([IMG]) says whether it is a photo; a photo is announced, then painted or
found in the album, and seen; words are written; the roles' logits say whose turn it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeGuard

import torch
from PIL import Image
from torch import Tensor

from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.errors import GenerationError
from showtell.models.decoder import ToldRow
from showtell.models.finding import Finder
from showtell.models.parts import Conditioning, PhotoSpans
from showtell.models.pixels import to_image
from showtell.models.reading import Writing

if TYPE_CHECKING:
    pass

CAPTIONS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How an answer is written and painted. ``share_threshold`` is set on held-out dialogues.

    With an album: its nearest photo is shared where the bridge's decision, if it has one, is at
    least ``retrieve_threshold`` and the cosine at least ``album_cut_off``; else one is painted.
    """

    temperature: float = 0.7
    top_p: float = 0.9
    caption_temperature: float = 0.0
    max_new_tokens: int = 60
    max_turns: int = 3
    share_threshold: float = 0.5
    num_steps: int = 20
    guidance: float = 3.0
    retrieve_threshold: float = 0.5
    album_cut_off: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer of the agent: its turns in order, P(share) at the start of each, its photos."""

    turns: tuple[Turn, ...]
    p_share: tuple[float, ...]
    images: Mapping[str, Image.Image]
    seconds_to_first_word: float | None
    seconds_to_photo: float | None
    dropped_turns: int = 0


@dataclass(kw_only=True)
class _Row:
    """One of the answers under way."""

    turns: tuple[Turn, ...]  # of the context
    seed: int
    out: list[Turn] = field(default_factory=list)
    p_share: list[float] = field(default_factory=list)
    images: dict[str, Image.Image] = field(default_factory=dict)
    first_word: float | None = None
    photo_time: float | None = None

    @property
    def shown(self) -> set[str]:
        return {photo.id for turn in (*self.turns, *self.out) for photo in turn.photos}


def _to_describe(element: str | Photo, images: Mapping[str, Image.Image]) -> TypeGuard[Photo]:
    """Whether it is a photo of the user's, and there to see: the agent knows what its own show."""
    return not isinstance(element, str) and element.origin == "user" and element.id in images


class Answerer(Finder):
    """The part of ``PhotoDialogueModel`` that answers."""

    def spoken_spans(self, captions: list[str]) -> PhotoSpans:
        raise NotImplementedError  # dialogue_model.py

    @property
    def can_paint(self) -> bool:
        return self.painter is not None

    # -------------------------------------------------------------------------------- answers

    def respond(
        self,
        turns: tuple[Turn, ...],
        *,
        images: Mapping[str, Image.Image],
        seed: int,
        on_text: Callable[[str], None] | None = None,
        on_photo_step: Callable[[int, int], None] | None = None,
    ) -> Reply:
        """Answer the dialogue so far: texts and photos until the agent gives the turn away.

        ``images`` holds the pixels of the photos in ``turns`` by id. ``on_text`` receives each
        piece of text as it is written. Raises GenerationError if the logits are not numbers.
        """
        (reply,) = self.respond_all(
            [turns],
            images=[images],
            seeds=[seed],
            on_text=(lambda row, piece: on_text(piece)) if on_text else None,
            on_photo_step=on_photo_step,
        )
        return reply

    @torch.no_grad()
    def respond_all(
        self,
        contexts: Sequence[tuple[Turn, ...]],
        *,
        images: Sequence[Mapping[str, Image.Image]],
        seeds: Sequence[int],
        on_text: ToldRow | None = None,
        on_photo_step: Callable[[int, int], None] | None = None,
    ) -> list[Reply]:
        """Answer B dialogues at once; each gets what ``respond`` would answer it alone.

        ``on_text`` hears the dialogue's number with each piece.
        """
        began = time.perf_counter()
        writing, dropped = self.read_all(self.describe_all(contexts, images), images)
        rows = [_Row(turns=each, seed=seed) for each, seed in zip(contexts, seeds, strict=True)]
        generators = [torch.Generator().manual_seed(row.seed) for row in rows]

        def told(number: int, piece: str) -> None:
            if rows[number].first_word is None:
                rows[number].first_word = time.perf_counter() - began
            if on_text:
                on_text(number, piece)

        going_B = writing.all_rows_B
        while bool(going_B.any()):
            self.open_turn(writing, going_B)
            p_share_B = self.p_share(writing)
            unpainted_B = self._column([not row.images for row in rows]).bool()
            shares_B = going_B & unpainted_B & (p_share_B >= self.decoding.share_threshold)
            tells_B = going_B & ~shares_B
            for number in going_B.nonzero()[:, 0].tolist():
                rows[number].p_share.append(float(p_share_B[number]))
            if bool(shares_B.any()):
                self._share(writing, shares_B, rows, on_step=on_photo_step)
                for number in shares_B.nonzero()[:, 0].tolist():
                    rows[number].photo_time = time.perf_counter() - began
            if bool(tells_B.any()):
                texts = self.write_texts(
                    writing, generators=generators, rows_B=tells_B, on_text=told
                )
                for number in tells_B.nonzero()[:, 0].tolist():
                    if on_text:
                        on_text(number, "\n")
                    rows[number].out.append(Turn(speaker=AGENT, elements=(texts[number],)))
            again_B, over_B = (
                writing.logits_BV[:, self.renderer.roles[role]] for role in (AGENT, USER)
            )
            full_B = self._column([len(row.out) >= self.decoding.max_turns for row in rows]).bool()
            going_B = going_B & (over_B < again_B) & ~full_B
        return [
            Reply(
                turns=tuple(row.out),
                p_share=tuple(row.p_share),
                images=row.images,
                seconds_to_first_word=row.first_word,
                seconds_to_photo=row.photo_time,
                dropped_turns=count,
            )
            for row, count in zip(rows, dropped, strict=True)
        ]

    @torch.no_grad()
    def describe(
        self, turns: tuple[Turn, ...], images: Mapping[str, Image.Image]
    ) -> tuple[Turn, ...]:
        """The turns with the user's photos captioned, for a model that reads captions only."""
        return self.describe_all([turns], [images])[0]

    @torch.no_grad()
    def describe_all(
        self,
        contexts: Sequence[tuple[Turn, ...]],
        images: Sequence[Mapping[str, Image.Image]],
    ) -> list[tuple[Turn, ...]]:
        """The same for B dialogues, each with the images of its own photos by id; a photo without
        one keeps the caption it has."""
        if self.captioner is None:
            return list(contexts)
        shown = [
            (element, own[element.id])
            for turns, own in zip(contexts, images, strict=True)
            for turn in turns
            for element in turn.elements
            if _to_describe(element, own)
        ]
        captions = iter(self.captioner.captions([p for p, _ in shown], [i for _, i in shown]))

        def told(turn: Turn, own: Mapping[str, Image.Image]) -> Turn:
            elements = (
                replace(e, caption=next(captions)) if _to_describe(e, own) else e
                for e in turn.elements
            )
            return replace(turn, elements=tuple(elements))

        return [
            tuple(told(turn, own) for turn in turns)
            for turns, own in zip(contexts, images, strict=True)
        ]

    def caption(self, photo: Photo, image: Image.Image) -> str:
        """What this model sees in a photo, in words."""
        return self.captions([photo], [image])[0]

    @torch.no_grad()
    def captions(self, photos: Sequence[Photo], images: Sequence[Image.Image]) -> list[str]:
        """What it sees in each of the photos, in words."""
        said: list[str] = []
        for start in range(0, len(photos), CAPTIONS_AT_ONCE):
            part = photos[start : start + CAPTIONS_AT_ONCE]
            theirs = images[start : start + CAPTIONS_AT_ONCE]
            writing, _ = self.read_all(
                [(Turn(speaker=USER, elements=(photo,)),) for photo in part],
                [{photo.id: image} for photo, image in zip(part, theirs, strict=True)],
            )
            self.open_turn(writing)
            said += self.write_captions(writing)
        return said

    # --------------------------------------------------------------------------------- photos

    def paint_caption(
        self,
        caption: str,
        *,
        seed: int,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Image.Image:
        """A caption -> a photo, through the bridge, as a spoken caption is."""
        pixels = self.paint_captions([caption], seeds=[seed], on_step=on_step)
        return to_image(pixels[0])

    @torch.no_grad()
    def paint_captions(
        self,
        captions: list[str],
        *,
        seeds: list[int],
        on_step: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Captions -> (N, 3, H, W). Each photo has its own seed, so batches do not matter."""
        return self.paint_spans(self.spoken_spans(captions), seeds=seeds, on_step=on_step)

    @torch.no_grad()
    def paint_spans(
        self,
        spans: PhotoSpans,
        *,
        seeds: list[int],
        on_step: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """What was said of N photos -> (N, 3, H, W). Raises GenerationError without a painter."""
        return self._paint(self._conditioning(spans, seeds), seeds=seeds, on_step=on_step)

    def _conditioning(self, spans: PhotoSpans, seeds: Sequence[int]) -> Conditioning:
        if self.painter is None:
            raise GenerationError(
                f'"{self.name}" has no painter; it can only describe a photo; use a model with one'
            )
        generator = torch.Generator().manual_seed(seeds[0])
        return self.bridge(spans, self.painter, generator=generator)

    def _paint(
        self,
        conditioning: Conditioning,
        *,
        seeds: list[int],
        on_step: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        assert self.painter is not None
        steps = self.decoding.num_steps
        return self.painter.paint(
            conditioning,
            num_steps=steps,
            guidance=self.decoding.guidance,
            seeds=seeds,
            callback=(lambda step, latents: on_step(step, steps)) if on_step else None,
        )

    def _share(
        self,
        writing: Writing,
        rows_B: Tensor,
        rows: Sequence[_Row],
        *,
        on_step: Callable[[int, int], None] | None,
    ) -> None:
        """A photo turn in each of ``rows_B``: announced, painted or found, seen."""
        numbers = rows_B.nonzero()[:, 0].tolist()
        sharing = [rows[number] for number in numbers]
        # A bridge with its own tokens has no words for the photo.
        if self.renderer.span_ids:
            captions = [""] * len(sharing)
            spans = self.write_span(writing, rows_B=rows_B)
        else:
            told = self.write_captions(writing, rows_B=rows_B)
            captions = [told[number] for number in numbers]
            spans = self.spoken_spans(captions)
        photos = [
            Photo(
                id=f"painted-{row.seed}-{len(row.turns) + len(row.out)}",
                caption=caption,
                origin="painted",
                seed=row.seed,
            )
            for row, caption in zip(sharing, captions, strict=True)
        ]
        images: list[Image.Image | None] = [None] * len(sharing)
        conditioning = None
        if self.painter is not None:
            conditioning = self._conditioning(spans, [row.seed for row in sharing])
        for n, found in enumerate(
            self.found_in_album(spans, conditioning, [row.shown for row in sharing])
        ):
            if found is not None:
                photos[n], images[n] = found
        to_paint = [n for n, image in enumerate(images) if image is None]
        if conditioning is not None and to_paint:
            painted = self._paint(
                _rows(conditioning, to_paint),
                seeds=[sharing[n].seed for n in to_paint],
                on_step=on_step,
            )
            for n, pixels_3HW in zip(to_paint, painted, strict=True):
                images[n] = to_image(pixels_3HW)
        seen_B = torch.zeros_like(rows_B)
        for number, row, photo, image in zip(numbers, sharing, photos, images, strict=True):
            row.out.append(Turn(speaker=AGENT, elements=(photo,)))
            if image is not None:
                row.images[photo.id] = image
                seen_B[number] = True
        shown = [image for image in images if image is not None]
        if shown and self.photo_encoder is not None and self.renderer.config.own_pixels:
            self._push_photos(writing, shown, seen_B)
        self._push(writing, [self.renderer.end], rows_B)


def _rows(conditioning: Conditioning, numbers: Sequence[int]) -> Conditioning:
    """Some of the N photos' conditioning."""
    parts = {
        name: value[list(numbers)]
        for name, value in vars(conditioning).items()
        if isinstance(value, Tensor)
    }
    return replace(conditioning, **parts)  # type: ignore[arg-type]
