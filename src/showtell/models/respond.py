"""Responder: the line of 2408.08650, Fig. 2, walked word by word, for B dialogues at once.

The agent's turn opens; P([IMG]) says whether it is a photo; a photo is announced, then painted or
found in the album, and seen; words are written; the roles' logits say whose turn it is.

    responder = Responder(Decoder(model), album=open_album(model, "album"))
    reply = responder.respond(turns, images={}, seed=0)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from showtell.batch import to_image
from showtell.dialogue import AGENT, PAINTED_BY, USER, Photo, Turn, with_photos
from showtell.errors import GenerationError
from showtell.models.decoder import Decoder, Images, numbers
from showtell.models.open_album import OpenAlbum
from showtell.models.parts import Conditioning, PhotoSpans
from showtell.models.previews import previews
from showtell.models.reply import (
    ByThreshold,
    Deciding,
    Described,
    Dial,
    PhotoDue,
    PhotoSource,
    Reply,
    Row,
    Shared,
    Tell,
    Words,
    silence,
)
from showtell.models.writing import Writing

CAPTIONS_AT_ONCE = 64
_USUAL = Dial()


class Responder:
    """A decoder that answers, the album it may share photos of, ``photos``: where those come from
    that it can tell in words only, ``looks``: what tells photos of the user's in words, and
    ``when`` a photo comes: by its threshold, unless told otherwise."""

    def __init__(
        self,
        decoder: Decoder,
        *,
        album: OpenAlbum | None = None,
        photos: PhotoSource | None = None,
        looks: Callable[[Sequence[Image.Image]], list[str]] | None = None,
        when: Deciding | None = None,
    ) -> None:
        self.decoder = decoder
        self.model = decoder.model
        self.album = album
        self.photos = photos
        self.looks = looks
        self.when = when or ByThreshold(threshold=decoder.decoding.share_threshold)

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def card(self) -> dict[str, Any]:
        return self.model.card

    @property
    def sees(self) -> bool:
        """Whether it, or what tells it of photos, looks at them."""
        eyes = (self.model.photo_encoder, self.model.captioner, self.looks)
        return any(each is not None for each in eyes)

    # -------------------------------------------------------------------------------- answers

    def respond(
        self,
        turns: tuple[Turn, ...],
        *,
        images: Images,
        seed: int,
        tell: Tell = silence,
        dial: Dial = _USUAL,
    ) -> Reply:
        """Answer the dialogue so far: texts and photos until the agent gives the turn away.

        ``images`` holds the pixels of the photos in ``turns`` by id. ``tell`` hears of all that
        happens. Raises GenerationError if the logits are not numbers.
        """
        (reply,) = self.respond_all(
            [turns],
            images=[images],
            seeds=[seed],
            tells=[tell],
            dials=[dial],
        )
        return reply

    @torch.no_grad()
    def respond_all(
        self,
        contexts: Sequence[tuple[Turn, ...]],
        *,
        images: Sequence[Images],
        seeds: Sequence[int],
        tells: Sequence[Tell] | None = None,
        dials: Sequence[Dial] | None = None,
    ) -> list[Reply]:
        """Answer B dialogues at once; each gets what ``respond`` would answer it alone."""
        began = time.perf_counter()
        decoder, decoding = self.decoder, self.decoder.decoding
        writing, dropped = decoder.read_all(self.describe_all(contexts, images), images)
        replies = [Reply(dropped_turns=count) for count in dropped]
        tells = tells or [silence] * len(contexts)
        dials = dials or [_USUAL] * len(contexts)
        given = zip(contexts, seeds, replies, tells, dials, strict=True)
        rows = [
            Row(context=c, seed=s, reply=r, wish=self.when.wish(c), tell=tell, dial=dial)
            for c, s, r, tell, dial in given
        ]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        column = self.model.language.column

        def told(number: int, piece: str) -> None:
            if replies[number].seconds_to_first_word is None:
                replies[number].seconds_to_first_word = time.perf_counter() - began
            rows[number].tell(Words(text=piece))

        going_B = writing.all_rows_B
        while bool(going_B.any()):
            decoder.open_turn(writing, going_B)
            p_share_B = decoder.p_share(writing)
            shares_B = torch.zeros_like(going_B)
            for number in numbers(going_B):
                row = rows[number]
                decision = self.when.decide(
                    float(p_share_B[number]), turns=row.turns, wish=row.wish, dial=row.dial
                )
                shares_B[number] = decision.share and not row.reply.images
                row.reply.decisions.append(decision)
                if shares_B[number]:
                    row.tell(PhotoDue(id=row.photo_id, decision=decision))
            tells_B = going_B & ~shares_B
            if bool(shares_B.any()):
                none_B = self._share(writing, shares_B, rows)
                for number in numbers(shares_B & ~none_B):
                    replies[number].seconds_to_photo = time.perf_counter() - began
                for number in numbers(none_B):
                    if rows[number].wish.share:
                        told(number, replies[number].turns[-1].text + "\n")
                    else:  # nobody asked: what was said before it, if anything, is the answer
                        replies[number].decisions.pop()
                going_B = going_B & ~none_B
            if bool(tells_B.any()):
                texts = decoder.write_texts(
                    writing, generators=generators, rows_B=tells_B, on_text=told
                )
                for number in numbers(tells_B):
                    rows[number].tell(Words(text="\n"))
                    replies[number].turns.append(Turn(speaker=AGENT, elements=(texts[number],)))
            again_B, over_B = (
                writing.logits_BV[:, decoder.renderer.roles[role]] for role in (AGENT, USER)
            )
            full_B = column([row.is_full(decoding.max_turns) for row in rows]).bool()
            going_B = going_B & (over_B < again_B) & ~full_B
        for row, shown in zip(rows, images, strict=True):
            if not row.reply.turns:
                never = ByThreshold(threshold=math.inf)
                in_words = Responder(self.decoder, looks=self.looks, when=never)
                said = in_words.respond(row.context, images=shown, seed=row.seed, tell=row.tell)
                row.reply.turns, row.reply.decisions = said.turns, said.decisions
                row.reply.seconds_to_first_word = time.perf_counter() - began
            offers = [each.offer for each in row.reply.decisions if each.offer]
            if offers and not row.reply.images:
                row.offer(offers[0])
        return replies

    @torch.no_grad()
    def describe_all(
        self, contexts: Sequence[tuple[Turn, ...]], images: Sequence[Images]
    ) -> list[tuple[Turn, ...]]:
        """The turns with the user's photos as the captioner tells them, or ``looks``, for a model
        that reads captions only; a photo without an image keeps the caption it has."""
        if self.model.captioner is None and self.looks is None:
            return list(contexts)
        photos = [[photo for turn in turns for photo in turn.photos] for turns in contexts]
        shown = [
            (photo, own[photo.id])
            for group, own in zip(photos, images, strict=True)
            for photo in group
            if _to_describe(photo, own)
        ]
        if not shown:
            return list(contexts)
        if self.model.captioner is not None:
            eyes = Responder(Decoder(self.model.captioner))
            captions = iter(eyes.captions([p for p, _ in shown], [i for _, i in shown]))
        elif self.looks is not None:
            captions = iter(self.looks([image for _, image in shown]))

        def told(photo: Photo, own: Images) -> Photo:
            return replace(photo, caption=next(captions)) if _to_describe(photo, own) else photo

        return [
            with_photos(turns, [told(photo, own) for photo in group])
            for turns, group, own in zip(contexts, photos, images, strict=True)
        ]

    @torch.no_grad()
    def captions(self, photos: Sequence[Photo], images: Sequence[Image.Image]) -> list[str]:
        """What it sees in each of the photos, in words."""
        said: list[str] = []
        for start in range(0, len(photos), CAPTIONS_AT_ONCE):
            part = slice(start, start + CAPTIONS_AT_ONCE)
            writing, _ = self.decoder.read_all(
                [(Turn(speaker=USER, elements=(photo,)),) for photo in photos[part]],
                [{p.id: image} for p, image in zip(photos[part], images[part], strict=True)],
            )
            self.decoder.open_turn(writing)
            said += self.decoder.write_captions(writing)
        return said

    # --------------------------------------------------------------------------------- photos

    @torch.no_grad()
    def paint_captions(self, captions: Sequence[str], *, seeds: Sequence[int]) -> Tensor:
        """Captions -> (N, 3, H, W). Each photo has its own seed, so batches do not matter."""
        return self.paint_spans(self.model.spoken_spans(captions), seeds=seeds)

    @torch.no_grad()
    def paint_spans(self, spans: PhotoSpans, *, seeds: Sequence[int]) -> Tensor:
        """What was said of N photos -> (N, 3, H, W). Raises GenerationError without a painter."""
        return self._paint(self._conditioning(spans, seeds), seeds=seeds)

    def _conditioning(self, spans: PhotoSpans, seeds: Sequence[int]) -> Conditioning:
        if self.model.painter is None:
            raise GenerationError(
                f'"{self.name}" has no painter; it can only describe a photo; use a model with one'
            )
        dice = torch.Generator().manual_seed(seeds[0])
        return self.model.bridge(spans, self.model.painter, generator=dice)

    def _paint(
        self, conditioning: Conditioning, *, seeds: Sequence[int], rows: Sequence[Row] = ()
    ) -> Tensor:
        """``rows``: whose photos they are, who hear of each step."""
        assert self.model.painter is not None
        steps = self.decoder.decoding.num_steps
        return self.model.painter.paint(
            conditioning,
            num_steps=steps,
            guidance=self.decoder.decoding.guidance,
            seeds=seeds,
            callback=previews(self.model.painter, rows, steps=steps) if rows else None,
        )

    def _share(self, writing: Writing, rows_B: Tensor, rows: Sequence[Row]) -> Tensor:
        """A photo turn in each of ``rows_B``. The rows, of these, where there is no photo: to whom
        asked for one, words stand in its place."""
        looked = {n: self._looked_up(rows[n].wish.words, rows[n]) for n in numbers(rows_B)}
        renderer = self.decoder.renderer
        # found by the request's own words: nothing has to be written first
        early = {} if renderer.span_ids else {n: c for n, c in looked.items() if c and c.photo}
        told_B = rows_B.clone()
        told_B[list(early)] = False
        none_B = torch.zeros_like(rows_B)
        if bool(told_B.any()):
            none_B = self._tell_and_share(writing, told_B, rows, looked)
        for number, came in early.items():
            assert came.photo is not None and came.image is not None
            one_B = torch.zeros_like(rows_B)
            one_B[number] = True
            caption = [renderer.img, *renderer.words(came.photo.caption), renderer.close]
            self.decoder.push(writing, caption, one_B)
            self._see(writing, [came.image], one_B)
            self.decoder.close_turn(writing, one_B)
            rows[number].show(came.photo, came.image, came.hits)
        return none_B

    def _looked_up(self, words: str, row: Row) -> Shared | None:
        """What an album that is asked in words says to these."""
        if self.photos is None or not words:
            return None
        return self.photos.look_up(words, wish=row.wish, shown=row.shown)

    def _see(self, writing: Writing, images: list[Image.Image], rows_B: Tensor) -> None:
        """A model that sees looks at the photos that it shares."""
        if images and self.model.photo_encoder and self.decoder.renderer.config.own_pixels:
            self.decoder.push_photos(writing, images, rows_B)

    def _tell_and_share(
        self,
        writing: Writing,
        rows_B: Tensor,
        rows: Sequence[Row],
        looked: Mapping[int, Shared | None],
    ) -> Tensor:
        """A photo in each of ``rows_B``: announced, found or painted, seen. The rows without.
        ``looked``: what the album has said to the requests."""
        decoder = self.decoder
        sharing = [rows[number] for number in numbers(rows_B)]
        spans = decoder.announce(writing, rows_B=rows_B)
        ours = {PAINTED_BY: self.name}
        photos = [
            Photo(id=row.photo_id, caption=caption, origin="painted", seed=row.seed, labels=ours)
            for row, caption in zip(sharing, spans.captions, strict=True)
        ]
        images: list[Image.Image | None] = [None] * len(sharing)
        seeds = [row.seed for row in sharing]
        conditioning = self._conditioning(spans, seeds) if self.model.painter is not None else None
        came = [
            looked[number] or self._looked_up(photo.caption, row)
            for number, photo, row in zip(numbers(rows_B), photos, sharing, strict=True)
        ]
        if self.album is not None:
            came = self._nearest(spans, conditioning, sharing)
        for n, found in enumerate(came):
            if found is not None and found.photo is not None:
                photos[n], images[n] = found.photo, found.image
        to_paint = [n for n, image in enumerate(images) if image is None]
        if conditioning is not None and to_paint:
            for n in to_paint:
                sharing[n].tell(Described(id=photos[n].id, words=photos[n].caption))
            painted = self._paint(
                conditioning.some(to_paint),
                seeds=[seeds[n] for n in to_paint],
                rows=[sharing[n] for n in to_paint],
            )
            for n, pixels_3HW in zip(to_paint, painted, strict=True):
                images[n] = to_image(pixels_3HW)
        seen_B, none_B = torch.zeros_like(rows_B), torch.zeros_like(rows_B)
        for n, number in enumerate(numbers(rows_B)):
            row, found, photo, image = rows[number], came[n], photos[n], images[n]
            if image is None and self.photos is not None:
                row.tell(Described(id=photo.id, words=photo.caption))
                found = self.photos.share(
                    photo.caption,
                    wish=row.wish,
                    photo_id=photo.id,
                    seed=row.seed,
                    shown=row.shown,
                    notes=row.reply.notes,
                    looked=found,
                    on_step=row.stepped,
                )
                if found.photo is None:
                    none_B[number] = True
                    row.say_instead(found)
                    continue
                photo, image = found.photo, found.image
            images[n] = image
            row.show(photo, image, () if found is None else found.hits)
            if image is not None:
                seen_B[number] = True
        self._see(writing, [image for image in images if image is not None], seen_B)
        decoder.close_turn(writing, rows_B)
        return none_B

    def _nearest(
        self, spans: PhotoSpans, conditioning: Conditioning | None, rows: Sequence[Row]
    ) -> list[Shared | None]:
        """For each span what the album, asked in vectors, has instead of a painted photo.

        The decision to retrieve counts where there is a painter, the cut-off where anything else
        may be done or said.
        """
        assert self.album is not None
        decoding, query_NE, chance_N = self.decoder.decoding, None, None
        if conditioning is not None:
            query_NE, chance_N = conditioning.query_NE, conditioning.retrieve_N
        query_NE = self.model.bridge.query(spans) if query_NE is None else query_NE
        cut_off = decoding.album_cut_off if self.model.painter or self.photos else -2.0
        return [
            None
            if chance_N is not None and float(chance_N[n]) < decoding.retrieve_threshold
            else self.album.nearest(query_NE[n : n + 1], cut_off=cut_off, without=row.unwanted)
            for n, row in enumerate(rows)
        ]


def _to_describe(photo: Photo, images: Images) -> bool:
    """Whether it is the user's, and there to see: the agent knows what its own photos show."""
    return photo.origin == "user" and photo.id in images
